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
    PATIENCE_S,
    Compilation,
    Expectation,
    as_time,
    compile_model,
    eager_rate,
    expectation,
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


def tune(  # noqa: PLR0913 - where the run stands, and who hears of it
    setup: TrainingSetup,
    *,
    epoch: int = 1,
    step: int = 0,
    runs_after: int = 0,
    stop: StopFlag,
    say: Say,
    heartbeat: Callable[[], None] = lambda: None,
    measures: bool | None = None,
) -> None:
    """Set the model's memory formats, `micro_batch` and compiled forward, from a checkpoint or by measuring.

    `epoch`, `step`: how far the run has come; `runs_after`: equally long runs that will use what is compiled here
    (folds). `measures`: None: on a GPU. Weights, batch norms' statistics and random numbers do not change.
    Raises StoppedEarly between two parts, once `stop` is set.

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
    compilation = tuning.compiled(epochs=full_size_epochs(setup, epoch=epoch, step=step, runs_after=runs_after))
    pause()
    before = AutotuneResult(gpu, formats, micro_batch, compile_s=setup.autotune.compile_s if setup.autotune else 0.0)
    setup.autotune = with_compilation(before, compilation, saved, decides=setup.config.compile == "auto")
    heartbeat()


def with_compilation(
    result: AutotuneResult, tried: Compilation | None, saved: AutotuneResult | None, *, decides: bool
) -> AutotuneResult:
    """Return `result` with what compiling has shown; what it did not show is taken from `saved`.

    `decides`: the sizes are kept, to be compiled again; not where the config says what is compiled.
    """
    if tried is None:
        return result
    rates, size_s = tried.rates, tried.size_s
    if rates is None and saved is not None:
        rates, size_s = saved.compile_rates, saved.size_s
    return replace(
        result,
        compiled_sizes=(tried.sizes if tried.compiled else ()) if decides else None,
        compile_s=result.compile_s + tried.seconds,
        compile_rates=rates,
        size_s=size_s,
    )


def takes_long(setup: TrainingSetup) -> bool:
    """Return whether `tune` may take a minute or more."""
    return setup.device.is_cuda or setup.config.compile == "on"


def full_size_epochs(setup: TrainingSetup, *, epoch: int, step: int, runs_after: int = 0) -> float:
    """Return the epochs left at full image size, those of later runs among them: only that size is compiled.

    Not those with frozen backbones, which are never compiled.
    """
    config = setup.config
    whole = [
        number
        for number in range(config.frozen_epochs + 1, config.epochs + 1)
        if size_at(number, config) == config.image_size
    ]
    left = [number for number in whole if number >= epoch]
    return len(left) - (step / setup.steps_per_epoch if epoch in left else 0.0) + runs_after * len(whole)


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

    def compiled(self, *, epochs: float) -> Compilation | None:
        """Compile where that is worth it; None where the config decided against it, or nothing was tried."""
        setup, wish = self.setup, self.setup.config.compile
        setup.model.compiled = None
        if (
            wish == "off"
            or setup.config.grad_checkpointing
            or setup.has_shared_norms
            or (wish == "auto" and not self.measures)
        ):
            return None
        passes = passes_an_epoch(
            len(setup.train_files),
            batch_size=setup.batch_size,
            micro_batch=setup.micro_batch,
            ranks=setup.ranks,
        )
        if wish == "on":
            return self._compile([count for count, _ in passes.most_common()], epochs=epochs)
        if self.saved and self.saved.compiled_sizes == ():
            self.say("not compiled, as before")
            return Compilation(None, 0.0)
        image_s = self._seconds_of_image(passes)
        sizes = [] if image_s is None else self._sizes_worth_it(passes, epochs=epochs, image_s=image_s)
        if setup.ranks.decide(int(not sizes))[0]:  # in one of the processes
            return Compilation(None, 0.0)
        assert image_s is not None

        def is_worth_it(count: int, measured: Expectation) -> bool:
            own = {count: passes[count]}  # in several processes all or none are compiled
            return setup.ranks.world > 1 or bool(sizes_worth_it(own, epochs=epochs, image_s=image_s, expected=measured))

        return self._compile(sizes, epochs=epochs, must_be_faster=True, is_worth_it=is_worth_it)

    def _seconds_of_image(self, passes: Counter[int]) -> float | None:
        """Return the seconds of an image's eager pass, as measured before or now; None where memory runs out."""
        setup = self.setup
        if self.saved and self.saved.compile_rates:
            return 1 / self.saved.compile_rates[1]
        most_frequent = passes.most_common(1)[0][0]
        rate = eager_rate(setup.model, setup.device, count=most_frequent, size=setup.config.image_size)
        if rate is None:
            self.say(f"not compiled: memory runs out with {most_frequent} images at once")
            return None
        return 1 / rate

    def _sizes_worth_it(self, passes: Counter[int], *, epochs: float, image_s: float) -> list[int]:
        setup = self.setup
        expected = expectation(layer_count(setup.model), self.saved)
        sizes = sizes_worth_it(passes, epochs=epochs, image_s=image_s, expected=expected)
        if not sizes:
            left_s = len(setup.train_files) * epochs * image_s
            known = "measured before" if self.saved and self.saved.compile_rates else "expected"
            self.say(f"not compiled: it would take {expected} ({known}) of {as_time(left_s)} left at full image size")
        return sizes

    def _compile(
        self,
        sizes: Sequence[int],
        *,
        epochs: float,
        must_be_faster: bool = False,
        is_worth_it: Callable[[int, Expectation], bool] = lambda *_: True,
    ) -> Compilation:
        setup = self.setup
        expected = expectation(layer_count(setup.model), self.saved)
        self.say(f"compiling, some {expected.size_s:.0f} s for each of {len(sizes)} size(s) of a batch ...")
        compilation = compile_model(
            setup.model, setup.device, counts=sizes, size=setup.config.image_size,
            must_be_faster=must_be_faster, heartbeat=self.heartbeat, is_worth_it=is_worth_it,
        )  # fmt: skip
        setup.ranks.wait_for_all(PATIENCE_S)
        if setup.ranks.decide(int(compilation.compiled is None))[0] and compilation.compiled is not None:
            compilation = replace(compilation, compiled=None, failure="in another process, or it is no faster there")
        setup.model.compiled = compilation.compiled
        self.say(outcome(compilation, images_left=len(setup.train_files) * epochs))
        return compilation


def _words(format_name: str) -> str:
    return format_name.replace("_", " ")
