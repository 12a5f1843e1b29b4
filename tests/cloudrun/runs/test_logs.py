"""`cloudrun logs` as typed: each line once, and of which time it is."""

from __future__ import annotations

import json
import re

from tests.support.local_jobs import TINY
from tests.support.shell import Shell


def test_every_line_of_the_log_is_printed_once_and_in_order(shell: Shell) -> None:
    job = TINY + "  for i in $(seq 400); do echo n$i; sleep 0.002; done\n"
    done = shell("launch", shell.job(job))
    shown = [line for line in done.err.splitlines() if re.fullmatch(r"n\d+", line)]
    assert shown == [f"n{number}" for number in range(1, 401)]
    logged = shell("logs")
    assert [line for line in logged.out.splitlines() if line.startswith("n")] == shown
    assert logged.code == 0
    assert shell("logs", "--tail", "2").out.splitlines() == ["n400", "cloudrun: finished"]
    assert json.loads(shell("logs", "--json").out.splitlines()[0])["line"] == "line one"


def test_the_log_at_home_still_knows_when_it_was_written(shell: Shell) -> None:
    shell("launch", shell.job(TINY))
    assert "line one" in shell("logs", "--since", "1h").out
    assert shell("logs", "--since", "0.001s").out == ""
    assert shell("logs", "--since", "99999999999d").code == 2
