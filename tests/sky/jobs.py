"""Jobs that take seconds, and commands that are typed to rent a machine for them."""

from __future__ import annotations

import subprocess

from tests.support.shell import Shell

QUICK = """\
name: quick
gpu: A100:1
infra: slurm
data: {source: leaves}
train: {device: cpu}
lifecycle: {idle_minutes: 1}
run: |
  ls $CLOUDRUN_DATA
  mkdir -p $CLOUDRUN_OUTPUT/checkpoints
  echo x >> $CLOUDRUN_OUTPUT/checkpoints/last.pt
  echo "attempt $(wc -l < $CLOUDRUN_OUTPUT/checkpoints/last.pt)"
"""
# A signal to everybody may end the `sleep` before its shell, which `bash -e` takes for a failure.
ENDLESS = (
    QUICK
    + """\
  trap 'echo saved > $CLOUDRUN_OUTPUT/last.txt; exit 75' TERM
  echo up
  while :; do sleep 0.1 || :; done
"""
)
# Ends at its third attempt; whatever takes its machine away before makes it go on.
COUNTS = (
    QUICK.replace("run: |", "recoveries: 2\nrun: |")
    + """\
  trap 'exit 75' TERM
  while [ $(wc -l < $CLOUDRUN_OUTPUT/checkpoints/last.pt) -lt 3 ]; do sleep 0.1 || :; done
"""
)


def launch(shell: Shell, *words: str) -> tuple[int, str, str]:
    done = shell("launch", "--yes", *words, timeout_s=600)
    return done.code, done.out.strip(), done.err


def read_until(process: subprocess.Popen[str], text: str) -> None:
    assert process.stderr is not None
    said = []
    for line in process.stderr:
        said.append(line)
        if text in line:
            return
    raise AssertionError(f"it ended before it said {text!r}:\n{''.join(said)}")
