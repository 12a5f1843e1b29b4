"""Measure at the start of a run: memory formats, images at once, and whether compiling is worth it.

On a GPU only. On a CPU rules decide: a run that is killed before its first checkpoint must continue to equal numbers,
and measurements on a busy computer differ.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from cloudrun.recipe.progressive import size_at
from trainer.autotune.batch_fit import MemoryProbe, largest_that_fits
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
from trainer.autotune.memory_format import faster, measure_formats, set_memory_formats, slowest
from trainer.distributed.stop import StopFlag
from trainer.session.autotune_result import AutotuneResult

if TYPE_CHECKING:
    from trainer.session.setup import TrainingSetup

Say = Callable[[str], None]
_GB = 1e9


def tune(
    setup: TrainingSetup,
    *,
    epoch: int = 1,
    step: int = 0,
    stop: StopFlag,
    say: Say,
    heartbeat: Callable[[], None] = lambda: None,
    measures: bool | None = None,
) -> None:
    """Set the model's memory formats, `micro_batch` and compiled forward, from a checkpoint or by measuring.

    `epoch`, `step`: how far the run has come. `measures`: None: on a GPU. Weights, batch norms' statistics and random
    numbers do not change. Raises StoppedEarly between two parts, once `stop` is set.

    Several processes measure at the same time, and agree on the figures of the slowest: after each step they have to be
    equal to the bit, and gradients are summed in their memory format.
    """
    gpu = _cards(setup)
    saved = setup.autotune if setup.autotune and setup.autotune.gpu == gpu else None
    measures = setup.device.is_cuda if measures is None else measures
    if setup.has_shared_norms and (measures or setup.config.compile == "on"):
        # Each pass waits for the passes of the other processes, whose number depends on the clock.
        say("nothing is measured or compiled: batch norm is over all processes; `sync_batchnorm: false` changes that")
    tuning = _Tuning(setup, saved, say, heartbeat, measures and not setup.has_shared_norms)

    is_long = measures or takes_long(setup)

    def pause() -> None:
        heartbeat()
        if is_long:
            stop.raise_if_set()

    formats = tuning.formats()
    pause()
    micro_batch = tuning.micro_batch()
    pause()
    compiled_sizes, compile_s = tuning.compiled(epochs=full_size_epochs(setup, epoch=epoch, step=step))
    pause()
    before_s = setup.autotune.compile_s if setup.autotune else 0.0
    setup.autotune = AutotuneResult(gpu, formats, micro_batch, compiled_sizes, before_s + compile_s)
    heartbeat()


def takes_long(setup: TrainingSetup) -> bool:
    """Return whether `tune` may take a minute or more."""
    return setup.device.is_cuda or setup.config.compile == "on"


def full_size_epochs(setup: TrainingSetup, *, epoch: int, step: int) -> float:
    """Return the epochs left at full image size: only that size is compiled."""
    config = setup.config
    left = [number for number in range(epoch, config.epochs + 1) if size_at(number, config) == config.image_size]
    return len(left) - (step / setup.steps_per_epoch if epoch in left else 0.0)


def _cards(setup: TrainingSetup) -> str | None:
    """Return the GPUs of all processes, `2 x A100` where there are several; None on a CPU."""
    counts = Counter(name for name in setup.ranks.gather(setup.device.gpu_name) if name is not None)
    several = [f"{count} x {name}" if count > 1 else name for name, count in sorted(counts.items())]
    return " + ".join(several) or None


@dataclass(frozen=True, slots=True)
class _Tuning:
    setup: TrainingSetup
    saved: AutotuneResult | None
    say: Say
    heartbeat: Callable[[], None]
    measures: bool

    def formats(self) -> tuple[str, ...]:
        """Return the formats that were measured; empty where config or rule decided."""
        setup, config = self.setup, self.setup.config
        if config.memory_format != "auto":
            set_memory_formats(setup, [config.memory_format] * len(config.backbones))
            return ()
        if not self.measures:
            set_memory_formats(setup, setup.model.format_names())
            return ()
        if self.saved and self.saved.memory_formats:
            set_memory_formats(setup, self.saved.memory_formats)
            self.say(f"memory formats as before: {', '.join(map(_words, self.saved.memory_formats))}")
            return self.saved.memory_formats
        return self._measured_formats()

    def _measured_formats(self) -> tuple[str, ...]:
        setup = self.setup
        by_rule = setup.model.format_names()
        size = setup.config.image_size
        own = measure_formats(setup.model, setup.device, count=setup.micro_batch, size=size)
        rates = [slowest(backbone) for backbone in zip(*setup.ranks.gather(own), strict=True)]
        chosen = tuple(faster(measured, otherwise=rule) for measured, rule in zip(rates, by_rule, strict=True))
        set_memory_formats(setup, chosen)
        for name, format_name, measured in zip(setup.config.backbones, chosen, rates, strict=True):
            speeds = ", ".join(
                f"{_words(option)} {measured[option]:.0f} images/s"
                if option in measured
                else f"{_words(option)} failed"
                for option in ("contiguous", "channels_last")
            )
            self.say(f"memory format: {name} {_words(format_name)} ({speeds})")
        return chosen

    def micro_batch(self) -> int | None:
        """Return the micro-batch that was found to fit; None where config or rule decided."""
        setup = self.setup
        if setup.config.micro_batch != "auto" or not self.measures:
            return None
        if self.saved and self.saved.micro_batch:
            setup.micro_batch = min(self.saved.micro_batch, setup.micro_batch)
            self.say(f"batch: {setup.batch_size}, {setup.micro_batch} at once, as before")
            return setup.micro_batch
        began, probe = time.monotonic(), MemoryProbe(setup, {})
        fitting = largest_that_fits(setup.micro_batch, probe.fits)
        # Where not even 2 fit, the first step reports it.
        setup.micro_batch = -setup.ranks.decide(-(fitting or 2))[0]
        peak = ""
        if fitting and probe.usable:
            peak = f"peak {probe.peaks[fitting] / _GB:.1f} of {probe.usable / _GB:.1f} GB; "
        found_s = time.monotonic() - began
        self.say(f"batch: {setup.batch_size}, {setup.micro_batch} at once ({peak}found in {found_s:.1f} s)")
        return setup.micro_batch

    def compiled(self, *, epochs: float) -> tuple[tuple[int, ...] | None, float]:
        """Return the sizes for which compiling was worth it, None where the config decided; and the seconds of
        compiling.
        """
        setup, wish = self.setup, self.setup.config.compile
        setup.model.compiled = None
        if wish == "off" or setup.has_shared_norms or (wish == "auto" and not self.measures):
            return None, 0.0
        passes = passes_an_epoch(
            len(setup.train_files),
            batch_size=setup.batch_size,
            micro_batch=setup.micro_batch,
            ranks=setup.ranks,
        )
        if wish == "on":
            compilation = self._compile([count for count, _ in passes.most_common()], epochs=epochs)
            return None, compilation.seconds
        compiled_before = self.saved.compiled_sizes if self.saved else None
        if compiled_before == ():
            self.say("not compiled, as before")
            return (), 0.0
        # Not where `micro_batch` has changed. Each process has sizes of its own, one image apart.
        sizes = [
            count
            for count, _ in passes.most_common()
            if compiled_before and (count in compiled_before or setup.ranks.world > 1)
        ]
        is_known = bool(sizes)
        if not is_known:
            sizes = self._sizes_worth_it(passes, epochs=epochs)
            if setup.ranks.decide(int(not sizes))[0]:  # in one of the processes
                return (), 0.0
        compilation = self._compile(sizes, epochs=epochs, must_be_faster=not is_known)
        return tuple(sizes) if compilation.compiled else (), compilation.seconds

    def _sizes_worth_it(self, passes: Counter[int], *, epochs: float) -> list[int]:
        setup = self.setup
        most_frequent, layers = passes.most_common(1)[0][0], layer_count(setup.model)
        size = setup.config.image_size
        rate = eager_rate(setup.model, setup.device, count=most_frequent, size=size)
        if rate is None:
            self.say(f"not compiled: memory runs out with {most_frequent} images at once")
            return []
        image_s = 1 / rate
        sizes = sizes_worth_it(passes, epochs=epochs, image_s=image_s, layers=layers)
        if not sizes:
            left_s = len(setup.train_files) * epochs * image_s
            self.say(
                f"not compiled: it would take some {expected_seconds(layers):.0f} s for each of {len(passes)} size(s) "
                f"of a batch, and save some {EXPECTED_GAIN:.0%} of {as_time(left_s)} at full image size"
            )
        return sizes

    def _compile(self, sizes: Sequence[int], *, epochs: float, must_be_faster: bool = False) -> Compilation:
        setup = self.setup
        seconds = expected_seconds(layer_count(setup.model))
        self.say(f"compiling, some {seconds:.0f} s for each of {len(sizes)} size(s) of a batch ...")
        compilation = compile_model(
            setup.model, setup.device, counts=sizes, size=setup.config.image_size,
            must_be_faster=must_be_faster, heartbeat=self.heartbeat,
        )  # fmt: skip
        setup.ranks.wait_for_all(PATIENCE_S)
        if setup.ranks.decide(int(compilation.compiled is None))[0] and compilation.compiled is not None:
            compilation = replace(compilation, compiled=None, failure="in another process, or it is no faster there")
        setup.model.compiled = compilation.compiled
        self.say(outcome(compilation, images_left=len(setup.train_files) * epochs))
        return compilation


def _words(format_name: str) -> str:
    return format_name.replace("_", " ")
