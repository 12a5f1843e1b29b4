"""Type commands on a user's laptop with a ledger and a bucket of its own, and disturb them."""

from __future__ import annotations

import json
import os
import pty
import queue
import re
import select
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.machine import CHECKOUT
from benchmarks.reliability.grounds import Ground
from tests.support.seaweedfs import BUCKET, SeaweedFS
from tests.support.shell import images

IDLE_MINUTES = 1

STEPS = """\
run: |
  mkdir -p $CLOUDRUN_OUTPUT/checkpoints
  step=0
  trap 'echo "saved at $step" > $CLOUDRUN_OUTPUT/checkpoints/last.pt; exit 75' TERM
  while [ $step -lt STEPS ]; do
    step=$((step + 1)); echo "step $step"
    echo "{\\"epoch\\": $step, \\"epochs\\": STEPS}" > $CLOUDRUN_OUTPUT/progress.json
    sleep 0.5 || true
  done
  echo "$step steps" > $CLOUDRUN_OUTPUT/checkpoints/last.pt
"""


class Laptop:
    """A user's laptop. Its commands rent on `ground`; results go home, and to `bucket` where there is one."""

    def __init__(self, folder: Path, ground: Ground, bucket: SeaweedFS | None) -> None:
        folder.mkdir(parents=True)
        self.folder = folder
        self.ground = ground
        self.bucket = bucket
        self.home = folder / "home"
        self.env = {**ground.env, "CLOUDRUN_HOME": str(self.home), "NO_COLOR": "1", "PYTHONUNBUFFERED": "1"}
        paths = [ground.env["PYTHONPATH"], str(CHECKOUT)]
        self.env["PYTHONPATH"] = os.pathsep.join(paths)
        if bucket is not None:
            self.env.update(bucket.env)
            ground.reach(bucket)
        images(folder / "leaves")

    def job(self, *, steps: int = 6, run: str = "", extra: str = "", setup: str = "") -> str:
        """Write a job file that trains for `steps` half seconds, or does `run`; return the file's name."""
        store = ""
        if self.bucket is not None:
            store = (
                f"store: s3://{BUCKET}/{self.folder.name}\nendpoint: {self.bucket.endpoint}\n"
                "secrets: [AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY]\n"
            )
        text = (
            f"name: r\ngpu: {self.ground.gpus}\ninfra: {self.ground.infra}\n"
            "data: {source: leaves}\ntrain: {device: cpu}\n"
            f"lifecycle: {{idle_minutes: {IDLE_MINUTES}}}\n{store}{extra}"
            + (f"setup: {setup}\n" if setup else "")
            + (run or STEPS.replace("STEPS", str(steps)))
        )
        (self.folder / "job.yaml").write_text(text)
        return "job.yaml"

    def slow_link(self, kilobytes_s: int, megabytes: int) -> None:
        """Act as a slow uplink: add data, and hold rsync to a rate by its own option."""
        (self.folder / "leaves" / "healthy" / "notes.bin").write_bytes(os.urandom(megabytes * 1_000_000))
        self._wrap_rsync(f'exec {shutil.which("rsync")} --bwlimit={kilobytes_s} "$@"')

    def broken_link(self) -> None:
        """Make each rsync of data die as from a `kill -9`."""
        self._wrap_rsync(f'case "$*" in *progress2*) kill -KILL $$;; esac; exec {shutil.which("rsync")} "$@"')

    def _wrap_rsync(self, script: str) -> None:
        (self.folder / "bin").mkdir()
        (self.folder / "bin" / "rsync").write_text(f"#!/bin/sh\n{script}\n")
        (self.folder / "bin" / "rsync").chmod(0o755)
        self.env["PATH"] = f"{self.folder / 'bin'}:{self.env['PATH']}"

    def typed(self, *words: str, timeout_s: float = 600) -> subprocess.CompletedProcess[str]:
        """Run a command of cloudrun to its end."""
        return subprocess.run(
            [sys.executable, "-m", "cloudrun", *words], cwd=self.folder, env=self.env, stdin=subprocess.DEVNULL,
            capture_output=True, text=True, timeout=timeout_s, check=False,
        )  # fmt: skip

    def until_log_has(self, text: str, limit_s: float = 240) -> None:
        """Wait until the log of the only run has `text`."""
        until = time.monotonic() + limit_s
        while text not in self.typed("logs", "--no-follow").stdout:
            assert time.monotonic() < until, f"the log never had {text!r}"
            time.sleep(0.5)

    def start(self, *words: str) -> Typing:
        """Start a command of cloudrun, and return it while it runs."""
        return Typing(self, words)

    def run(self) -> dict[str, Any]:
        """Return the only run in this laptop's ledger."""
        (path,) = (self.home / "ledger").glob("*.json")
        value: dict[str, Any] = json.loads(path.read_text())
        return value

    def receipt(self) -> dict[str, Any]:
        """Return the receipt of the only run, by `cloudrun cost`."""
        done = self.typed("cost", self.run()["run_id"], "--json")
        assert done.returncode == 0, done.stderr
        (row,) = json.loads(done.stdout)
        return dict(row)

    def machines(self) -> list[str]:
        """Return the machines that bill for this laptop's runs."""
        ours = tuple(f"cloudrun-{path.stem}" for path in (self.home / "ledger").glob("*.json"))
        return [name for name in self.ground.machines() if ours and name.startswith(ours)]

    def seconds_until_gone(self, *, since: float, limit_s: float, quiet_s: float) -> float:
        """Return the seconds from `since` (monotonic) to the moment after which no machine was there any more.

        A machine may come up late, from a request that SkyPilot still works on: gone means gone for `quiet_s` seconds.
        Raises TimeoutError after `limit_s` seconds.
        """
        gone_at = None
        while True:
            now = time.monotonic()
            if self.machines():
                gone_at = None
                if now - since > limit_s:
                    raise TimeoutError(f"still allocated after {limit_s:.0f} s: {self.machines()}")
            elif gone_at is None:
                gone_at = now
            elif now - gone_at > quiet_s:
                return gone_at - since
            time.sleep(0.5)

    def where_results_are(self) -> str:
        """Return where the run's last checkpoint is: `home`, `store` or `none`."""
        run = self.run()
        if run["folder"] and (Path(run["folder"]) / "checkpoints" / "last.pt").is_file():
            return "home"
        if self.bucket is not None:
            key = f"{self.folder.name}/{run['run_id']}/out/checkpoints/last.pt"
            found = self.bucket.client().list_objects_v2(Bucket=BUCKET, Prefix=key)
            if found["KeyCount"]:
                return "store"
        return "none"

    def kill_on_machine(self, *names: str) -> None:
        """SIGKILL processes of this laptop's run: `attempt`, `watchdog`, `SkyPilot job`, `Ray`."""
        run_id = self.run()["run_id"]
        of_run = rf"cloudrun[.]worker .*{run_id}"
        patterns = {
            "attempt": f"{of_run} attempt$",
            "watchdog": rf"{of_run} watch [0-9]+$" if self.ground.uses_ray else f"{of_run}$",
            "SkyPilot job": f"{of_run}$",
            "Ray": "raylet|gcs_server|ray::",
        }
        self.ground.kill(run_id, "|".join(f"({patterns[name]})" for name in names))


class Typing:
    """A command that runs while something happens to it."""

    def __init__(self, laptop: Laptop, words: tuple[str, ...]) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "cloudrun", *words], cwd=laptop.folder, env=laptop.env, stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, start_new_session=True,
        )  # fmt: skip
        self._patience_s = laptop.ground.patience_s
        self._lines: queue.Queue[str | None] = queue.Queue()
        self.said: list[str] = []
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        assert self._process.stderr is not None
        for line in self._process.stderr:
            self.said.append(line)
            self._lines.put(line)
        self._lines.put(None)

    def until(self, text: str) -> None:
        """Wait for a line with `text` in it."""
        until = time.monotonic() + self._patience_s
        while True:
            line = self._lines.get(timeout=max(until - time.monotonic(), 0.1))
            if line is None:
                raise AssertionError(f"it ended before it said {text!r}:\n{''.join(self.said)}")
            if text in line:
                return

    def kill(self) -> None:
        """End all processes of the command at once, as an empty battery does: none of them is told."""
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def interrupt(self) -> None:
        os.killpg(self._process.pid, signal.SIGINT)

    def wait(self) -> int:
        return self._process.wait(self._patience_s)


def interrupted_at_prompt(laptop: Laptop, words: list[str], prompt: str, *, limit_s: float = 120) -> tuple[int, str]:
    """Type a command on a real terminal, press Ctrl-C when it asks; return its exit code and all that it showed."""
    shown = ""
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(laptop.folder)
        os.execve(sys.executable, [sys.executable, "-m", "cloudrun", *words], laptop.env)
    until = time.monotonic() + limit_s
    pressed = False
    while time.monotonic() < until:
        if select.select([terminal], [], [], 0.2)[0]:
            try:
                shown += os.read(terminal, 65536).decode("utf-8", "replace")
            except OSError:  # the terminal closes with its last process
                break
        if not pressed and re.search(prompt, shown):
            os.write(terminal, b"\x03")
            pressed = True
    _, status = os.waitpid(pid, 0)
    assert pressed, f"it never asked {prompt!r}:\n{shown}"
    return os.waitstatus_to_exitcode(status), shown


def wait_for(condition: Callable[[], object], *, limit_s: float) -> None:
    until = time.monotonic() + limit_s
    while not condition():
        if time.monotonic() > until:
            raise TimeoutError(f"it did not happen in {limit_s:.0f} s")
        time.sleep(0.3)
