"""Report the progress of a run: a bar on a terminal, plain lines elsewhere, and progress.json for programs.

The only module of the trainer that writes to stderr and stdout.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TextIO

from trainer.atomic import write_json
from trainer.outputs.metrics import now_utc

_FILE_EVERY_S = 1.0
_BAR_EVERY_S = 0.2
_LINE_EVERY_S = 10.0
_BAR_WIDTH = 24
_WIPE = "\r\x1b[K"


class Progress:
    """Report a run to `stream`, and to `out`/progress.json where `out` is given."""

    def __init__(self, *, out: Path | None = None, stream: TextIO | None = None) -> None:
        self._out, self._stream = out, stream or sys.stderr
        self._has_bar = self._stream.isatty()
        self._bar_shown = False
        self._file_at = self._shown_at = -1e9
        self._epochs_before = 0
        self._epochs_in_all: int | None = None

    def is_part(self, *, epochs_before: int, epochs_in_all: int) -> None:
        """Count the epochs of several runs in progress.json, of which this is one."""
        self._epochs_before, self._epochs_in_all = epochs_before, epochs_in_all

    def say(self, line: str) -> None:
        """Print a line; a bar on the terminal is erased first."""
        self._stream.write(f"{_WIPE if self._bar_shown else ''}{line}\n")
        self._stream.flush()
        self._bar_shown = False
        self._shown_at = time.monotonic()

    def is_due(self) -> bool:
        """Return whether `show` would print or write now: to read the loss waits for the GPU."""
        now = time.monotonic()
        return now - self._file_at >= _FILE_EVERY_S or now - self._shown_at >= self._show_every_s

    def show(  # noqa: PLR0913 - the fields of one row, each by its name
        self,
        *,
        epoch: int,
        epochs: int,
        step: int,
        steps: int,
        loss: float,
        images_per_s: float,
        eta_s: float,
        timing: Mapping[str, float | bool],
    ) -> None:
        """Report `step` of `steps` within an epoch. `eta_s`: seconds to the end of the last epoch."""
        now = time.monotonic()
        if now - self._file_at >= _FILE_EVERY_S:
            self._file_at = now
            numbers = {"loss": loss, "images_per_s": images_per_s, "eta_s": eta_s}
            self._write_file(timing, epoch=epoch, epochs=epochs, step=step, steps=steps, **numbers)
        if now - self._shown_at < self._show_every_s:
            return
        shown = f"loss {loss:.4f}, {images_per_s:.0f} images/s, {duration(eta_s)} left"
        if self._has_bar:
            full = round(_BAR_WIDTH * step / steps)
            bar = "█" * full + "░" * (_BAR_WIDTH - full)
            self._stream.write(f"{_WIPE}epoch {epoch}/{epochs} {bar} {step}/{steps}  {shown}")
            self._stream.flush()
            self._bar_shown, self._shown_at = True, now
        else:
            self.say(f"epoch {epoch}/{epochs}, step {step}/{steps}: {shown}")

    def heartbeat(self) -> None:
        """Show that the process is alive where it has no steps.

        An evaluation or compiling must not be taken for a stall.
        """
        now = time.monotonic()
        if self._out is not None and now - self._file_at >= _FILE_EVERY_S:
            self._file_at = now
            for name in ("progress.json", "metrics.jsonl"):  # metrics.jsonl exists from the start
                with suppress(FileNotFoundError):
                    os.utime(self._out / name)
                    return

    def end_epoch(  # noqa: PLR0913 - the fields of one row, each by its name
        self,
        *,
        epoch: int,
        epochs: int,
        steps: int,
        loss: float,
        images_per_s: float,
        eta_s: float,
        timing: Mapping[str, float | bool],
    ) -> None:
        """Write to progress.json that `epoch` is done, however little time has passed."""
        numbers = {"loss": loss, "images_per_s": images_per_s, "eta_s": eta_s}
        self._write_file(timing, epoch=epoch, epochs=epochs, step=steps, steps=steps, **numbers)

    @property
    def _show_every_s(self) -> float:
        return _BAR_EVERY_S if self._has_bar else _LINE_EVERY_S

    def _write_file(self, timing: Mapping[str, float | bool], *, epoch: int, epochs: int, **numbers: float) -> None:
        if self._out is not None:
            rounded = {key: value if isinstance(value, int) else round(value, 4) for key, value in numbers.items()}
            rounded = {"epoch": self._epochs_before + epoch, "epochs": self._epochs_in_all or epochs, **rounded}
            write_json(
                self._out / "progress.json", {**rounded, "timing": dict(timing), "time": now_utc()}, durable=False
            )


class SilentProgress(Progress):
    """Progress of a process beside the main one: prints nothing."""

    def say(self, line: str) -> None:
        pass

    def is_due(self) -> bool:
        return False

    def show(self, **_: object) -> None:
        pass


def duration(seconds: float) -> str:
    """Return `0:07`, `12:34` or `1:02:03`."""
    whole = max(0, round(seconds))
    hours, minutes = whole // 3600, whole // 60 % 60
    return f"{hours}:{minutes:02d}:{whole % 60:02d}" if hours else f"{minutes}:{whole % 60:02d}"


def answer(line: str) -> None:
    """Print the command's answer on stdout."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def fail(message: str, hint: str) -> None:
    """Print an error as every command of the project does."""
    sys.stderr.write(f"error: {message}\n\nhint: {hint}\n")
    sys.stderr.flush()
