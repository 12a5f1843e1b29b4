"""What a run finds out at its start: memory formats, images at once, and whether compiling pays.

On a GPU by measuring. On a CPU by rule alone: a run that is killed before its first checkpoint has to go on to equal
numbers, and what is measured on a busy computer changes.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from cloudrun.recipe.progressive import size_at
from trainer.autotune.batch_fit import Room, largest_that_fits
from trainer.autotune.compiling import (
    EXPECTED_GAIN,
    PATIENCE_S,
    Compilation,
    as_time,
    compile_model,
    eager_rate,
    expected_seconds,
    layer_count,
    outcome,
    passes_an_epoch,
    sizes_worth_it,
)
from trainer.autotune.memory_format import faster, lay_out, measure_formats, slowest
from trainer.distributed.stop import StopFlag
from trainer.session.autotune_result import Tuned

if TYPE_CHECKING:
    from trainer.session.setup import Session

Say = Callable[[str], None]
_GB = 1e9


def tune(
    session: Session,
    *,
    epoch: int = 1,
    step: int = 0,
    stop: StopFlag,
    say: Say,
    beat: Callable[[], None] = lambda: None,
    measures: bool | None = None,
) -> None:
    """Set the model's memory formats, `micro_batch` and compiled forward, by what a checkpoint knows or by measuring.

    `epoch`, `step`: how far the run has come. `measures`: None: on a GPU. Weights, batch norms' statistics and random
    numbers stay what they are. Raises StoppedEarly between two parts, once `stop` is set.

    Several processes measure at the same time, and agree on the slowest's figures: after each step they have to be
    equal to the bit, and gradients are summed as they lie in memory.
    """
    gpu = _cards(session)
    known = session.tuned if session.tuned and session.tuned.gpu == gpu else None
    measures = session.device.is_cuda if measures is None else measures
    if session.has_shared_norms and (measures or session.config.compile == "on"):
        # Each pass waits for the other processes' passes, and by the clock one may do more of them.
        say("nothing is measured or compiled: batch norm is over all processes; `sync_batchnorm: false` changes that")
    tuning = _Tuning(session, known, say, beat, measures and not session.has_shared_norms)

    is_long = measures or takes_long(session)

    def pause() -> None:
        beat()
        if is_long:
            stop.raise_if_set()

    formats = tuning.formats()
    pause()
    micro_batch = tuning.micro_batch()
    pause()
    compiled_sizes, compile_s = tuning.compiled(epochs=full_size_epochs(session, epoch=epoch, step=step))
    pause()
    before_s = session.tuned.compile_s if session.tuned else 0.0
    session.tuned = Tuned(gpu, formats, micro_batch, compiled_sizes, before_s + compile_s)
    beat()


def takes_long(session: Session) -> bool:
    """Whether `tune` may work for a minute or more."""
    return session.device.is_cuda or session.config.compile == "on"


def full_size_epochs(session: Session, *, epoch: int, step: int) -> float:
    """Epochs left that train at full image size: compiled is for that size alone."""
    config = session.config
    left = [one for one in range(epoch, config.epochs + 1) if size_at(one, config) == config.image_size]
    return len(left) - (step / session.steps_per_epoch if epoch in left else 0.0)


def _cards(session: Session) -> str | None:
    """The GPUs of all processes, `2 x A100` where there are several; None on a CPU."""
    counts = Counter(name for name in session.ranks.gather(session.device.gpu_name) if name is not None)
    several = [f"{count} x {name}" if count > 1 else name for name, count in sorted(counts.items())]
    return " + ".join(several) or None


@dataclass(frozen=True, slots=True)
class _Tuning:
    session: Session
    known: Tuned | None
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
        own = measure_formats(session.model, session.device, count=session.micro_batch, size=size)
        rates = [slowest(one) for one in zip(*session.ranks.gather(own), strict=True)]
        chosen = tuple(faster(one, otherwise=rule) for one, rule in zip(rates, by_rule, strict=True))
        lay_out(session, chosen)
        for name, format_name, measured in zip(session.config.backbones, chosen, rates, strict=True):
            speeds = ", ".join(
                f"{_words(one)} {measured[one]:.0f} images/s" if one in measured else f"{_words(one)} failed"
                for one in ("contiguous", "channels_last")
            )
            self.say(f"memory format: {name} {_words(format_name)} ({speeds})")
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
        # Where not even 2 fit, the first step tells of it.
        session.micro_batch = -session.ranks.decide(-(fitting or 2))[0]
        peak = ""
        if fitting and room.usable:
            peak = f"peak {room.peaks[fitting] / _GB:.1f} of {room.usable / _GB:.1f} GB; "
        found_s = time.monotonic() - began
        self.say(f"batch: {session.batch_size}, {session.micro_batch} at once ({peak}found in {found_s:.1f} s)")
        return session.micro_batch

    def compiled(self, *, epochs: float) -> tuple[tuple[int, ...] | None, float]:
        """Images at once for which it was found to pay, None where the config said it; and seconds of compiling."""
        session, wish = self.session, self.session.config.compile
        session.model.compiled = None
        if wish == "off" or session.has_shared_norms or (wish == "auto" and not self.measures):
            return None, 0.0
        passes = passes_an_epoch(
            len(session.train_files),
            batch_size=session.batch_size,
            micro_batch=session.micro_batch,
            ranks=session.ranks,
        )
        if wish == "on":
            compilation = self._compile([count for count, _ in passes.most_common()], epochs=epochs)
            return None, compilation.seconds
        known = self.known.compiled_sizes if self.known else None
        if known == ():
            self.say("not compiled, as before")
            return (), 0.0
        # Not where `micro_batch` is another by now. Each process has sizes of its own, one image apart.
        sizes = [count for count, _ in passes.most_common() if known and (count in known or session.ranks.world > 1)]
        is_known = bool(sizes)
        if not is_known:
            sizes = self._sizes_worth_it(passes, epochs=epochs)
            if session.ranks.decide(int(not sizes))[0]:  # in one of the processes
                return (), 0.0
        compilation = self._compile(sizes, epochs=epochs, must_be_faster=not is_known)
        return tuple(sizes) if compilation.compiled else (), compilation.seconds

    def _sizes_worth_it(self, passes: Counter[int], *, epochs: float) -> list[int]:
        session = self.session
        most_frequent, layers = passes.most_common(1)[0][0], layer_count(session.model)
        size = session.config.image_size
        rate = eager_rate(session.model, session.device, count=most_frequent, size=size)
        if rate is None:
            self.say(f"not compiled: memory runs out with {most_frequent} images at once")
            return []
        image_s = 1 / rate
        sizes = sizes_worth_it(passes, epochs=epochs, image_s=image_s, layers=layers)
        if not sizes:
            left_s = len(session.train_files) * epochs * image_s
            self.say(
                f"not compiled: it would take some {expected_seconds(layers):.0f} s for each of {len(passes)} size(s) "
                f"of a batch, and save some {EXPECTED_GAIN:.0%} of {as_time(left_s)} at full image size"
            )
        return sizes

    def _compile(self, sizes: Sequence[int], *, epochs: float, must_be_faster: bool = False) -> Compilation:
        session = self.session
        seconds = expected_seconds(layer_count(session.model))
        self.say(f"compiling, some {seconds:.0f} s for each of {len(sizes)} size(s) of a batch ...")
        compilation = compile_model(
            session.model, session.device, counts=sizes, size=session.config.image_size,
            must_be_faster=must_be_faster, beat=self.beat,
        )  # fmt: skip
        session.ranks.wait_for_all(PATIENCE_S)
        if session.ranks.decide(int(compilation.compiled is None))[0] and compilation.compiled is not None:
            compilation = replace(compilation, compiled=None, failure="in another process, or it is no faster there")
        session.model.compiled = compilation.compiled
        self.say(outcome(compilation, images_left=len(session.train_files) * epochs))
        return compilation


def _words(format_name: str) -> str:
    return format_name.replace("_", " ")
