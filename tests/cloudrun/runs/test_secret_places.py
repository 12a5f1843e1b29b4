"""Where values of `env` and `secrets` lie after a run on this computer, and who can read them there."""

from __future__ import annotations

import os
import stat
import tempfile
from pathlib import Path

import pytest

from cloudrun.errors import StoreError
from cloudrun.remote import ssh
from tests.support.shell import Shell

ENV, SECRET = b"canary-of-env-5831", b"canary-of-secrets-9127"


def test_values_of_env_are_in_files_of_their_owner_alone_and_secrets_in_none(shell: Shell) -> None:
    shell.env["TOKEN"] = SECRET.decode()
    job = shell.job(
        f"name: canary\ninfra: local\ndata: {{source: data}}\nenv: {{PASSWORD: {ENV.decode()}}}\nsecrets: [TOKEN]\n"
        "lifecycle: {on_finish: keep}\nrun: test -n $PASSWORD && test -n $TOKEN && echo ok > $CLOUDRUN_OUTPUT/x\n"
    )
    (shell.folder / "data").mkdir()
    launched = shell("launch", "--yes", job)
    assert launched.code == 0, launched.err
    found = holding(shell, ENV)
    assert {path.name for path in found} == {"job.yaml", "order.json", launched.out.strip() + ".json"}
    assert {f"{path.name} {stat.S_IMODE(path.stat().st_mode):o}" for path in found} == {
        f"{path.name} 600" for path in found
    }
    assert holding(shell, SECRET) == []
    assert ENV.decode() not in launched.out + launched.err
    (page,) = shell.folder.glob("runs/*/report.html")
    assert "PASSWORD" in page.read_text()  # that there is such a value may be known
    assert shell("down").code == 0
    assert ENV.decode() not in page.read_text()


def holding(shell: Shell, canary: bytes) -> list[Path]:
    """The files that hold `canary`, without the job file that its user wrote."""
    files = [path for path in shell.folder.rglob("*") if path.is_file() and path != shell.folder / "job.yaml"]
    return [path for path in files if canary in path.read_bytes()]


@pytest.mark.parametrize("name", ["", " ", "cloudrun-"])
def test_down_of_an_empty_name_ends_nothing(shell: Shell, name: str) -> None:
    launched = shell("launch", "-d", shell.job("name: a\ninfra: local\ndata: {source: .}\nrun: sleep 300\n"))
    assert launched.code == 0, launched.err
    refused = shell("down", launched.out.strip(), name)
    assert refused.code == 2
    assert "error: the name of the run is empty, and nothing was ended" in refused.err
    (row,) = shell("ps", "--json").json
    assert row["billing"] is True


def test_a_folder_of_connections_that_somebody_else_made_is_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    folder = ssh._own_folder()
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    folder.chmod(0o777)
    assert stat.S_IMODE(ssh._own_folder().stat().st_mode) == 0o700
    folder.rmdir()
    (tmp_path / "theirs").mkdir()
    folder.symlink_to(tmp_path / "theirs")
    with pytest.raises(StoreError, match="is not a folder of yours"):
        ssh._own_folder()
    folder.unlink()
    folder.mkdir()
    if os.getuid() == 0:
        os.chown(folder, 65534, 65534)
        with pytest.raises(StoreError, match="is not a folder of yours"):
            ssh._own_folder()
