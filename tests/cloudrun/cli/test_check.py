"""`cloudrun check` as typed."""

from __future__ import annotations

import pytest

from tests.support.shell import Shell


@pytest.mark.parametrize(
    ("said", "is_new_enough"),
    [
        ("rsync  version 3.2.7  protocol version 31", True),
        ("rsync  version v3.4.1  protocol version 32", True),
        ("rsync  version 2.6.9  protocol version 29", False),
        ("openrsync: protocol version 29\nrsync version 2.6.9 compatible", False),
        ("", False),
    ],
)
def test_an_rsync_that_cannot_send_data_is_noticed_before_renting(shell: Shell, said: str, is_new_enough: bool) -> None:
    programs = shell.folder / "bin"
    programs.mkdir()
    (programs / "rsync").write_text(f"#!/bin/sh\nprintf '%s\\n' '{said}'\n")
    (programs / "rsync").chmod(0o755)
    shell.env["PATH"] = f"{programs}:{shell.env['PATH']}"
    done = shell("check", shell.job("name: d\ninfra: runpod\ndata: {source: 'demo://leaves'}\n"))
    assert (done.code == 0) is is_new_enough
    assert is_new_enough or f"{programs}/rsync is too old to send data with" in done.err
    assert is_new_enough or "hint: `brew install rsync`" in done.err


def test_a_check_as_json_names_every_problem(shell: Shell) -> None:
    done = shell("check", shell.job("name: t\ninfra: local\ndata: {source: .}\nbudgett: 3\nspot: maybe\n"), "--json")
    assert done.code == 2
    assert (done.json["ok"], len(done.json["problems"])) == (False, 2)
    assert done.err.count("error: ") == 2
