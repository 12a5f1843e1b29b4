"""`cloudrun down` as typed."""

from __future__ import annotations

from tests.support.local_jobs import TINY
from tests.support.shell import Shell


def test_down_all_does_not_say_that_nothing_bills_where_a_record_cannot_be_read(shell: Shell) -> None:
    shell("launch", shell.job(TINY))
    (shell.home / "ledger" / "old-1124-aaaaa.json").write_text("{half")
    done = shell("down", "--all")
    assert done.code == 1
    assert "nothing is billing" not in done.err
    assert "sky down cloudrun-old-1124-aaaaa" in done.err
    (shell.home / "ledger" / "old-1124-aaaaa.json").unlink()
