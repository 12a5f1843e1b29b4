"""Check what happens where a GPU's memory runs out: in the search, in a step, in validation, and in compiled code.

Each check measures first how much memory a pass takes, then gives the process less than that.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any, cast

import torch

from benchmarks.gpu.checks import Bench, Check, NotHere, first_batches, step
from benchmarks.gpu.checks_of_compiling import compiled_for
from trainer.autotune.batch_fit import MemoryProbe, largest_that_fits
from trainer.data.loader import Batch, Loader
from trainer.session.probe import make_images, run_pass
from trainer.session.scores import evaluate
from trainer.session.setup import TrainingSetup

# Layer norm alone, so that images seen in several parts give what they give together.
_WITHOUT_BATCH_NORM: dict[str, Any] = {"backbones": ["test_vit"], "image_size": 160}
_COUNT = 256
_SHARE = 0.5  # of the memory that a pass takes


def memory_search(bench: Bench) -> float:
    """Return 0 where the search finds fewer images than all, which do not fit, and more than a few; else 1."""
    setup, _ = _opened(bench)
    with _half_of_what_it_takes(lambda: _pass(setup)):
        found = largest_that_fits(_COUNT, MemoryProbe(setup, {}).fits) or 0
    return float(not _COUNT // 32 <= found < _COUNT)


def memory_in_a_step(bench: Bench) -> float:
    """Return the relative difference between the loss of a step that had to be halved and of a whole step.

    Returns 1 where the step was not halved.
    """
    setup, batch = _opened(bench)
    whole, _ = _opened(bench)
    return _halved(setup, batch, expected=float(step(whole, batch).loss_sum))


def memory_in_compiled_code(bench: Bench) -> float:
    """Return the same as `memory_in_a_step`, where the whole batch is compiled."""
    setup, batch = _opened(bench)
    whole, _ = _opened(bench)
    expected = float(step(whole, batch).loss_sum)
    with compiled_for(setup, [_COUNT], fails_on_others=False):
        return _halved(setup, batch, expected=expected)


def memory_in_validation(bench: Bench) -> float:
    """Compare the logits of a validation in several parts, for want of memory, with those of all images at once."""
    setup, batch = _opened(bench)
    loader = cast("Loader", SimpleNamespace(epoch=lambda _: iter([batch])))
    expected = evaluate(setup.model, loader, setup.device).logits
    seen: list[int] = []
    hook = setup.model.register_forward_pre_hook(lambda _, given: seen.append(len(given[0])))
    with _half_of_what_it_takes(lambda: evaluate(setup.model, loader, setup.device)):
        found = evaluate(setup.model, loader, setup.device).logits
    hook.remove()
    return float((found - expected).abs().max()) if min(seen) < _COUNT else 1.0


def _opened(bench: Bench) -> tuple[TrainingSetup, Batch]:
    if not bench.is_cuda:
        raise NotHere("a GPU's memory")
    setup = bench.setup(**_WITHOUT_BATCH_NORM)
    [batch] = first_batches(setup, 1)
    times = _COUNT // len(batch.labels)
    assert batch.augment_params is not None
    setup.micro_batch = _COUNT
    return setup, Batch(*(torch.cat([one] * times) for one in (batch.images, batch.labels, batch.augment_params)))


def _pass(setup: TrainingSetup) -> None:
    run_pass(setup.model.logits, make_images(_COUNT, size=160, device=setup.device), setup.device)
    setup.optimizer.zero_grad(set_to_none=True)


def _halved(setup: TrainingSetup, batch: Batch, *, expected: float) -> float:
    with _half_of_what_it_takes(lambda: _pass(setup)):
        found = float(step(setup, batch).loss_sum)
    return abs(found / expected - 1) if setup.micro_batch < _COUNT else 1.0


@contextmanager
def _half_of_what_it_takes(act: Callable[[], object]) -> Iterator[None]:
    """Leave this process half of the memory that `act` takes while the block runs, beside what is on the device."""
    torch.cuda.empty_cache()
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    act()
    needed = torch.cuda.max_memory_allocated() - before
    torch.cuda.empty_cache()
    whole = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.set_per_process_memory_fraction((torch.cuda.memory_reserved() + _SHARE * needed) / whole)
    try:
        yield
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
        torch.cuda.empty_cache()


CHECKS_OF_MEMORY = (
    Check("memory runs out: search", 0, memory_search),
    Check("memory runs out: step", 1e-2, memory_in_a_step),
    Check("memory runs out: validation", 5e-2, memory_in_validation),
    Check("memory runs out: compiled step", 1e-2, memory_in_compiled_code),
)
