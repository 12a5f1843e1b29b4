"""A real run on this computer whose epochs wait until a test lets them go on."""

from __future__ import annotations

import time
from pathlib import Path

from cloudrun.state.ledger import Ledger
from tests.support.shell import Shell

# Two epochs, a line of log each; each waits for a file, so that the test says when.
STEPS = """\
name: steps
infra: local
data: {source: .}
run: |
  for epoch in 1 2; do
    printf '{"kind": "val", "epoch": %s, "loss": 0.5, "accuracy": 0.%s, "time": "2026-11-24T12:00:00Z"}\\n' \\
      $epoch $epoch >> $CLOUDRUN_OUTPUT/metrics.jsonl
    echo "{\\"epoch\\": $epoch, \\"epochs\\": 2, \\"eta_s\\": 9}" > $CLOUDRUN_OUTPUT/progress.json
    echo "epoch $epoch <b>done</b>"
    while [ ! -e "$GATE/$epoch" ]; do sleep 0.05; done
  done
"""


def launched(folder: Path) -> tuple[Shell, Ledger, str]:
    """A run that waits in its first epoch."""
    shell = Shell(folder)
    shell.env["GATE"] = str(folder)
    job = shell.job(STEPS.replace("$GATE", str(folder)))
    done = shell("launch", "-d", "--yes", job)
    assert done.code == 0, done.err
    run_id = done.out.strip()
    log, until = shell.home / "local" / run_id / "log.txt", time.monotonic() + 60
    while not log.is_file() or "epoch 1" not in log.read_text():
        assert time.monotonic() < until
        time.sleep(0.05)
    return shell, Ledger(shell.home), run_id
