"""Compile the model for training with torch.compile, before the first step, where it is worth it.

It is dropped where it fails. Evaluation and `predict` are not compiled: they would need compiling for their own sizes,
for a small part of the work.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from trainer.data.loader import equal_sizes
from trainer.distributed.ranks import ALONE, Ranks
from trainer.model.ensemble import Ensemble
from trainer.session.autotune_result import AutotuneResult
from trainer.session.device import Device
from trainer.session.probe import is_out_of_memory, make_images, release, restored_after, run_pass, seconds_of, wait_for
from trainer.session.step import micro_batches

# Share of a pass that compiling is expected to save, until it was measured. Cited: nothing for EfficientNet-B0's
# training (geti #3758), 18 % for EfficientNet-B3's on an RTX 4090 (train-ego-path-detection #5), at inference there
# 14 % for EfficientNet-B3 and 41 % for ResNeSt.
EXPECTED_GAIN = 0.2
# Seconds a layer with weights, to compile forward and backward for one shape, until it was measured. Cited: ResNet-50,
# 54 such layers, 28 s, and twice that with cold caches (pytorch/benchmark #1547); EfficientNet-B0, 82 layers, about
# 75 s (geti #3758).
SECONDS_A_LAYER = 0.6
BACKEND = "inductor"
# Compiling takes minutes for one size; after this time it counts as a stall.
PATIENCE_S = 1800.0
_PASSES = 8
# For inputs that were not compiled beforehand: another size, another memory format.
STANCE: Literal["eager_on_recompile", "fail_on_recompile"] = "eager_on_recompile"
_MOST_S = 3.0


class Compiled:
    """Logits of a model: compiled for the shapes that `learn` was called with, eager for any other.

    So nothing is compiled in the middle of an epoch, whether images grow, files are skipped or memory runs out.
    """

    def __init__(self, model: Ensemble) -> None:
        self._call: Callable[[Tensor], Tensor] = torch.compile(model.logits, dynamic=False, backend=BACKEND)

    def __call__(self, images_BCHW: Tensor) -> Tensor:
        with torch.compiler.set_stance(STANCE):
            return self._call(images_BCHW)

    def learn(self, images_BCHW: Tensor) -> Tensor:
        return self._call(images_BCHW)


@dataclass(frozen=True, slots=True)
class Expectation:
    """What compiling is expected to save, as a share of a pass, and to take, in seconds for one number of images."""

    gain: float
    size_s: float

    def __str__(self) -> str:
        return f"some {self.size_s:.0f} s for each number of images at once, and save some {self.gain:.0%}"


def expectation(layers: int, measured: AutotuneResult | None) -> Expectation:
    """Return what this run has measured, as far as it has; else what is cited for a model of so many layers."""
    gain, size_s = EXPECTED_GAIN, layers * SECONDS_A_LAYER
    if measured is not None and measured.compile_rates is not None:
        gain = gain_of(measured.compile_rates)
    if measured is not None and measured.size_s is not None:
        size_s = measured.size_s
    return Expectation(gain, size_s)


def gain_of(rates: tuple[float, float]) -> float:
    """Return the share of a pass that is saved. `rates`: images per second, compiled and eager."""
    compiled, eager = rates
    return 1 - eager / compiled


@dataclass(frozen=True, slots=True)
class Compilation:
    """Result of compiling.

    `rates`: images per second, compiled and eager. `compiled`: None: it failed, or is no faster. `sizes`: numbers of
    images at once that were compiled. `size_s`: seconds for the first of them.
    """

    compiled: Callable[[Tensor], Tensor] | None
    seconds: float
    rates: tuple[float, float] | None = None
    failure: str | None = None
    sizes: tuple[int, ...] = ()
    size_s: float | None = None
    ran_out: bool = False


def passes_an_epoch(images: int, *, batch_size: int, micro_batch: int, ranks: Ranks = ALONE) -> Counter[int]:
    """Return images at once -> number of such passes in an epoch, in this process."""
    passes: Counter[int] = Counter()
    for size in equal_sizes(images, batch_size):
        own = len(range(ranks.rank, size, ranks.world))
        passes.update(micro_batches(own, size, micro_batch=micro_batch, ranks=ranks))
    return passes


def layer_count(model: nn.Module) -> int:
    """Count the layers with weights, on which the compiler works."""
    return sum(isinstance(module, nn.Conv2d | nn.Linear) for module in model.modules())


def sizes_worth_it(passes: Mapping[int, int], *, epochs: float, image_s: float, expected: Expectation) -> list[int]:
    """Return the numbers of images at once for which compiling should save more than it takes, the most frequent first.

    `epochs`: left at full image size, those of later folds among them. `image_s`: seconds of an image's eager pass.
    """
    saved_s = {count: times * epochs * count * image_s * expected.gain for count, times in passes.items()}
    worth = [count for count, seconds in saved_s.items() if seconds > expected.size_s]
    return sorted(worth, key=lambda count: -saved_s[count])


def eager_rate(model: Ensemble, device: Device, *, count: int, size: int) -> float | None:
    """Return images per second, forward and backward, of the whole model; None where memory runs out."""
    try:
        with restored_after(model):
            return _rate(model.logits, make_images(count, size=size, device=device), device)
    except RuntimeError as err:
        if not is_out_of_memory(err):
            raise
    release(model)
    return None


def compile_model(  # noqa: PLR0913 - what is compiled, and what decides for it
    model: Ensemble,
    device: Device,
    *,
    counts: Sequence[int],
    size: int,
    must_be_faster: bool,
    heartbeat: Callable[[], None],
    is_worth_it: Callable[[int, Expectation], bool] = lambda *_: True,
) -> Compilation:
    """Compile for `counts` images of `size` px at once, the first of which is timed against eager.

    Any exception of the compiler becomes `failure`, and the model is eager as before. `is_worth_it`: whether to compile
    for another number of images, by what was measured for the first.
    """
    began, failure, ran_out = time.monotonic(), None, False
    rates: tuple[float, float] | None = None
    sizes: list[int] = []
    size_s = None
    try:
        compiled = Compiled(model)
        with restored_after(model), heartbeats(heartbeat):
            for place, count in enumerate(counts):
                if rates and size_s and not is_worth_it(count, Expectation(gain_of(rates), size_s)):
                    continue
                images = make_images(count, size=size, device=device)
                run_pass(compiled.learn, images, device)
                sizes.append(count)
                if place == 0:
                    wait_for(device)
                    size_s = time.monotonic() - began
                    rates = _rate(compiled, images, device), _rate(model.logits, images, device)
                    if must_be_faster and rates[0] <= rates[1]:
                        break
        wait_for(device)
    except Exception as err:  # noqa: BLE001 - dynamo, inductor, triton and the C++ compiler raise errors of their own
        failure, ran_out = _first_line(err), isinstance(err, RuntimeError) and is_out_of_memory(err)
    else:
        if not must_be_faster or rates is None or rates[0] > rates[1]:
            return Compilation(compiled, time.monotonic() - began, rates, sizes=tuple(sizes), size_s=size_s)
    torch.compiler.reset()
    release(model)
    return Compilation(None, time.monotonic() - began, rates, failure, size_s=size_s, ran_out=ran_out)


@contextmanager
def heartbeats(heartbeat: Callable[[], None], *, every_s: float = 10.0, most_s: float = PATIENCE_S) -> Iterator[None]:
    """Call `heartbeat` from a thread inside the context, so that long work is not taken for a stall."""
    is_done, began = threading.Event(), time.monotonic()

    def keep() -> None:
        while not is_done.wait(every_s) and time.monotonic() - began < most_s:
            heartbeat()

    thread = threading.Thread(target=keep, name="beats", daemon=True)
    thread.start()
    try:
        yield
    finally:
        is_done.set()
        thread.join()


def outcome(tried: Compilation, *, images_left: float) -> str:
    """Return a line for the log. `images_left`: still to be trained with at full size."""
    if tried.ran_out:
        return f"warning: memory ran out while compiling, after {tried.seconds:.0f} s, so nothing is compiled"
    if tried.failure is not None:
        return f"warning: the compiler failed after {tried.seconds:.0f} s, so nothing is compiled: {tried.failure}"
    assert tried.rates is not None
    fast, slow = tried.rates
    speeds = f"{fast:.0f} against {slow:.0f} images/s"
    if tried.compiled is None:
        return f"not compiled: tried for {tried.seconds:.0f} s, and is no faster, {speeds}"
    text = f"compiled in {tried.seconds:.0f} s: {speeds}"
    if fast <= slow:
        return f"{text}; it is no faster"
    # Time until the trained images have saved as much as compiling took.
    pays_after_s = tried.seconds / (1 / slow - 1 / fast) / fast
    left_s = images_left / fast
    if pays_after_s > left_s:
        return f"{text}; does not pay for itself in the {as_time(left_s)} left"
    return f"{text}; pays for itself after {as_time(pays_after_s)} of {as_time(left_s)}"


def as_time(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"


def _rate(forward: Callable[[Tensor], Tensor], images: Tensor, device: Device) -> float:
    def act() -> None:
        run_pass(forward, images, device)

    return len(images) / seconds_of(act, device=device, warmups=2, most=_PASSES, most_s=_MOST_S)


def _first_line(err: Exception) -> str:
    lines = [line.strip() for line in str(err).splitlines() if line.strip()]
    return f"{type(err).__name__}: {lines[0]}"[:200] if lines else type(err).__name__
