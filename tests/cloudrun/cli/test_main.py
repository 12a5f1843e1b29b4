"""The exit code of a command whose error comes from the system, and not from cloudrun."""

from __future__ import annotations

import errno
import shutil

import pytest

from cloudrun.cli import main as main_module


@pytest.mark.parametrize(
    ("err", "said"),
    [
        (shutil.Error([("a/x", "b/x", "[Errno 28] No space left on device"), ("a/y", "b/y", "no")]),
         "error: cannot copy a/x: [Errno 28] No space left on device (and 1 more)"),
        (shutil.Error("`a` and `a` are the same file"), "error: cannot copy some files: `a` and `a` are the same file"),
        (OSError(errno.ENAMETOOLONG, "File name too long", "l" * 300), "File name too long"),
        (OSError(errno.ENOSPC, "No space left on device"), "No space left on device"),
    ],
)  # fmt: skip
def test_what_the_disk_refuses_is_no_bug(
    err: OSError, said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails(*_: object, **__: object) -> int:
        raise err

    monkeypatch.setattr(main_module, "app", fails)
    assert main_module.main(["ps"]) == 1
    assert said in capsys.readouterr().err
