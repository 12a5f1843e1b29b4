"""What a run finds out at its start: memory formats, and images at once.

On a GPU by measuring. On a CPU by rule alone: a run that is killed before its first checkpoint has to go on to equal
numbers, and what is measured on a busy computer changes.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from trainer.fitting import Room, largest_that_fits
from trainer.layouts import faster, lay_out, measure_formats
from trainer.stop import StopFlag
from trainer.tuned import Tuned

if TYPE_CHECKING:
    from trainer.session import Session

Say = Callable[[str], None]
_GB = 1e9


def tune(
    session: Session,
    *,
    stop: StopFlag,
    say: Say,
    beat: Callable[[], None] = lambda: None,
    measures: bool | None = None,
) -> None:
    """Set the model's memory formats and `micro_batch`, by what a checkpoint knows or by measuring.

    `measures`: None: on a GPU. Weights, batch norms' statistics and random
    numbers stay what they are. Raises StoppedEarly between two measurements once `stop` is set.
    """
    known = session.tuned if session.tuned and session.tuned.gpu == session.device.gpu_name else None
    tuning = _Tuning(session, known, stop, say, beat, session.device.is_cuda if measures is None else measures)
    formats = tuning.formats()
    micro_batch = tuning.micro_batch()
    session.tuned = Tuned(session.device.gpu_name, formats, micro_batch)


@dataclass(frozen=True, slots=True)
class _Tuning:
    session: Session
    known: Tuned | None
    stop: StopFlag
    say: Say
    beat: Callable[[], None]
    measures: bool

    def formats(self) -> tuple[str, ...]:
        """Those that were found, or nothing where config or rule said them."""
        session, config = self.session, self.session.config
        if config.memory_format != "auto":
            lay_out(session, [config.memory_format] * len(config.backbones))
            return ()
        if not self.measures:
            lay_out(session, session.model.format_names())
            return ()
        if self.known and self.known.memory_formats:
            lay_out(session, self.known.memory_formats)
            self.say(f"memory formats as before: {', '.join(map(_words, self.known.memory_formats))}")
            return self.known.memory_formats
        return self._measured_formats()

    def _measured_formats(self) -> tuple[str, ...]:
        session = self.session
        by_rule = session.model.format_names()
        size = session.config.image_size
        rates = measure_formats(session.model, session.device, count=session.micro_batch, size=size)
        chosen = tuple(faster(one, otherwise=rule) for one, rule in zip(rates, by_rule, strict=True))
        lay_out(session, chosen)
        for name, format_name, measured in zip(session.config.backbones, chosen, rates, strict=True):
            speeds = ", ".join(
                f"{_words(one)} {measured[one]:.0f} images/s" if one in measured else f"{_words(one)} failed"
                for one in ("contiguous", "channels_last")
            )
            self.say(f"memory format: {name} {_words(format_name)} ({speeds})")
        self._next()
        return chosen

    def micro_batch(self) -> int | None:
        session = self.session
        if session.config.micro_batch != "auto" or not self.measures:
            return None
        if self.known and self.known.micro_batch:
            session.micro_batch = min(self.known.micro_batch, session.micro_batch)
            self.say(f"batch: {session.batch_size}, {session.micro_batch} at once, as before")
            return session.micro_batch
        began, room = time.monotonic(), Room(session, {})
        fitting = largest_that_fits(session.micro_batch, room.fits)
        session.micro_batch = fitting or 2  # or the first step tells of it
        peak = ""
        if fitting and room.usable:
            peak = f"peak {room.peaks[fitting] / _GB:.1f} of {room.usable / _GB:.1f} GB; "
        found_s = time.monotonic() - began
        self.say(f"batch: {session.batch_size}, {session.micro_batch} at once ({peak}found in {found_s:.1f} s)")
        self._next()
        return session.micro_batch

    def _next(self) -> None:
        self.beat()
        self.stop.raise_if_set()


def _words(format_name: str) -> str:
    return format_name.replace("_", " ")
