"""Check what has to be right on a GPU, each with its tolerance; the tests call the same functions on a CPU.

A check is given a `Bench` and returns its deviation; it is right up to `limit`. The networks are tiny, and begin on
every device with the same weights, images and random numbers. Some checks need a GPU.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from cloudrun.recipe.train_config import TrainConfig
from trainer.autotune.memory_format import set_memory_formats
from trainer.data.affine import augment
from trainer.data.loader import Batch, mix
from trainer.session.build import build_setup
from trainer.session.epoch_stats import FirstBadStep, StepResult
from trainer.session.setup import TrainingSetup
from trainer.session.step import train_step

TINY: dict[str, Any] = {
    "backbones": ["test_resnet", "test_efficientnet"], "pretrained": False, "image_size": 64, "batch_size": 8,
    "epochs": 4, "warmup_epochs": 0, "workers": 0, "dropout": 0, "cache_gb": 0,
}  # fmt: skip
_SCALED_STEPS, _POISONED_STEP = 20, 5


class NotHere(Exception):
    """A check cannot be made on this device; the message says why."""


@dataclass(frozen=True, slots=True)
class Bench:
    """A device to be checked, and images: `data` in class folders, `plants` with train.csv, several labels an image."""

    device: Literal["cuda", "cpu"]
    data: Path
    plants: Path

    @property
    def is_cuda(self) -> bool:
        return self.device == "cuda"

    def setup(self, *, has_several: bool = False, **changes: Any) -> TrainingSetup:
        """Return a session on the device; `precision` is what the device takes unless it is among `changes`."""
        config = TrainConfig.model_validate({**TINY, "device": self.device, **changes})
        folder = self.plants if has_several else self.data
        return build_setup(config, folder, labels=folder / "train.csv" if has_several else None)

    def reference(self, *, has_several: bool = False, **changes: Any) -> TrainingSetup:
        """Return the same session in float32 on the CPU."""
        return Bench("cpu", self.data, self.plants).setup(
            has_several=has_several, **{**changes, "device": "cpu", "precision": "fp32"}
        )


@dataclass(frozen=True, slots=True)
class Check:
    """A check: `act` returns the largest deviation, which is right up to `limit`. `act` may raise NotHere."""

    name: str
    limit: float
    act: Callable[[Bench], float]


def first_batches(setup: TrainingSetup, count: int) -> list[Batch]:
    """Return the first `count` batches of epoch 1, on the CPU."""
    batches = setup.train_loader.epoch(1)
    return [batch for _, batch in zip(range(count), batches, strict=False)]


def step(setup: TrainingSetup, batch: Batch, number: int = 0) -> StepResult:
    """Do one step of training with the random numbers of step `number`."""
    setup.model.train()
    torch.manual_seed(mix(setup.config.seed, number))
    return train_step(setup, batch, say=lambda _: None)


def weights_of(setup: TrainingSetup) -> dict[str, Tensor]:
    return {name: one.detach().cpu().clone() for name, one in setup.model.state_dict().items()}


def largest_difference(some: dict[str, Tensor], others: dict[str, Tensor]) -> float:
    return max(float((value.double() - others[name].double()).abs().max()) for name, value in some.items())


# --- precision ---------------------------------------------------------------------------------------------------


def against_float32(precision: str, **changes: Any) -> Callable[[Bench], float]:
    """Return a check: the relative deviation of one step's loss and gradient from those in float32 on a CPU.

    A gradient's norm adds up the rounding of all layers: its deviation counts a fifth.
    """

    def act(bench: Bench) -> float:
        here, there = (
            bench.setup(precision=precision, grad_clip=0, **changes), bench.reference(grad_clip=0, **changes),
        )  # fmt: skip
        [batch] = first_batches(there, 1)
        results = [step(setup, batch) for setup in (here, there)]
        losses = [float(one.loss_sum) for one in results]
        norms = [_gradient_norm(setup) for setup in (here, there)]
        return max(abs(losses[0] / losses[1] - 1), abs(norms[0] / norms[1] - 1) / 5)

    return act


def _gradient_norm(setup: TrainingSetup) -> float:
    parts = [one.grad.double().norm() for one in setup.model.parameters() if one.grad is not None]
    return float(torch.stack([one.cpu() for one in parts]).norm())


# --- augmentation, formats, averages -----------------------------------------------------------------------------


def augmentation(bench: Bench) -> float:
    """Compare the augmented images of the device, all at once, with those of a CPU, in units of their deviation."""
    if not bench.is_cuda:
        raise NotHere("the CPU is what it is compared with")
    setup = bench.reference()
    [batch] = first_batches(setup, 1)
    assert batch.augment_params is not None
    own = augment(batch.images.cuda(), batch.augment_params.cuda(), size=64).cpu()
    return float((own - augment(batch.images, batch.augment_params, size=64)).abs().max())


def another_format(bench: Bench) -> float:
    """Change the memory format between two steps; return how much the losses of the next two change by that."""
    losses: list[list[float]] = []
    for changes_format in (False, True):
        setup = bench.setup(precision="fp32", ema_decay=0.9)
        set_memory_formats(setup, ["channels_last"] * 2)
        seen = []
        for number, batch in enumerate(first_batches(setup, 3)):
            if number == 1 and changes_format:
                set_memory_formats(setup, ["contiguous"] * 2)
            seen.append(float(step(setup, batch, number).loss_sum))
        losses.append(seen)
    unchanged, changed = losses
    return max(abs(one / other - 1) for one, other in zip(unchanged, changed, strict=True))


def average_of_weights(bench: Bench) -> float:
    """Compare three updates of the averaged weights with the same in float64, and put them in place and out again."""
    setup = bench.setup(precision="fp32", ema_decay=0.9)
    assert setup.ema is not None
    expected = {name: one.detach().double().cpu() for name, one in setup.model.named_parameters()}
    for number, batch in enumerate(first_batches(setup, 3)):
        step(setup, batch, number)
        decay = setup.ema.decay
        setup.ema.update()
        for name, one in setup.model.named_parameters():
            expected[name] = expected[name] * decay + one.detach().double().cpu() * (1 - decay)
    before = weights_of(setup)
    with setup.ema.in_place():
        averaged = {name: one.detach().cpu() for name, one in setup.model.named_parameters()}
    return max(largest_difference(averaged, expected), largest_difference(weights_of(setup), before))


# --- what must not reach the weights -----------------------------------------------------------------------------


@contextmanager
def infinite_gradient(setup: TrainingSetup) -> Iterator[None]:
    """Make the gradient of the head's weights infinite while the block runs; the loss stays finite."""
    hook = setup.model.head.weight.register_hook(lambda gradient: gradient * float("inf"))  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        hook.remove()


def gradient_that_is_infinite(bench: Bench) -> float:
    """Count the parameters that an infinite gradient has changed, and 1 more where the bad step was not noted."""
    setup = bench.setup()
    bad = FirstBadStep(setup.device.torch_device)
    batches = first_batches(setup, 2)
    bad.note(1, step(setup, batches[0], 0))
    before = dict(setup.model.named_parameters())
    kept = {name: one.detach().clone() for name, one in before.items()}
    with infinite_gradient(setup):
        bad.note(2, step(setup, batches[1], 1))
    changed = sum(not torch.equal(one, kept[name]) for name, one in before.items())
    return changed + float(not bad.is_any())


def loss_scaling(bench: Bench) -> float:
    """Count the faults of 20 scaled steps. One has an infinite gradient: it has to be skipped, and the scale halved."""
    setup = bench.setup(precision="fp16" if bench.is_cuda else "fp32")
    setup.scaler = torch.amp.GradScaler(setup.device.torch_device.type, enabled=True)
    bad = FirstBadStep(setup.device.torch_device)
    faults = 0
    for number in range(_SCALED_STEPS):
        batch = first_batches(setup, 1)[0]
        before = {name: one.detach().clone() for name, one in setup.model.named_parameters()}
        scale = setup.scaler.get_scale()
        if number == _POISONED_STEP:
            with infinite_gradient(setup):
                bad.note(number + 1, step(setup, batch, number))
            kept = all(torch.equal(one, before[name]) for name, one in setup.model.named_parameters())
            faults += (not kept) + (setup.scaler.get_scale() != scale / 2)
        else:
            bad.note(number + 1, step(setup, batch, number))
    finite = all(bool(torch.isfinite(one).all()) for one in setup.model.parameters())
    return faults + float(not finite) + float(bad.is_any())


# --- the host never waits ----------------------------------------------------------------------------------------


class Reads(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts values that Python reads out of tensors: on a GPU each waits until all work before it is done."""

    _OPS = frozenset(("_local_scalar_dense", "nonzero", "equal", "is_nonzero", "masked_select", "_unique2"))

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.count: int = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += func.overloadpacket.__name__ in self._OPS
        return func(*args, **(kwargs or {}))


def host_waits(**changes: Any) -> Callable[[Bench], float]:
    """Return a check: how often the host waits for the device in a step, the averaging, and the notes on both.

    On a GPU torch raises at the first wait. On a CPU the values are counted that Python reads out of tensors, less the
    value that draws a mix of images, which is on the CPU with a GPU, too.
    """

    def act(bench: Bench) -> float:
        setup = bench.setup(ema_decay=0.9, **changes)
        bad, epoch_stats = FirstBadStep(setup.device.torch_device), setup.new_epoch_stats()
        batches = first_batches(setup, 3)

        def whole(number: int) -> None:
            result = step(setup, batches[number], number)
            assert setup.ema is not None
            setup.ema.update()
            bad.note(number + 1, result)
            epoch_stats.add(result, images=len(batches[number].labels))

        for number in (0, 1):  # AdamW's state and constants are made in the first step
            whole(number)
        if not bench.is_cuda:
            with Reads() as reads:
                whole(2)
            return float(reads.count - int("mixup" in changes or "cutmix" in changes))
        augment_params = batches[2].augment_params
        assert augment_params is not None
        batches[2] = Batch(batches[2].images.pin_memory(), batches[2].labels.pin_memory(), augment_params.pin_memory())
        torch.cuda.synchronize()
        torch.cuda.set_sync_debug_mode("error")
        try:
            whole(2)
        finally:
            torch.cuda.set_sync_debug_mode("default")
        return 0.0

    return act


def _with_a_gpu(act: Callable[[Bench], float]) -> Callable[[Bench], float]:
    def where_there_is_one(bench: Bench) -> float:
        if not bench.is_cuda:
            raise NotHere("fp16 needs a GPU")
        return act(bench)

    return where_there_is_one


VARIANTS: dict[str, dict[str, Any]] = {
    "mixup": {"mixup": 0.4},
    "cutmix": {"cutmix": 1.0},
    "balanced and focal": {"class_weights": "balanced", "focal_gamma": 2.0},
    "several labels": {"has_several": True},
    "a large decoded size": {"decoded_size": 160},
    "accumulated": {"micro_batch": 4},
    "layer decay": {"layer_decay": 0.7, "backbone_lr": 0.5},
}
CHECKS: tuple[Check, ...] = (
    Check("bf16 against float32", 1e-2, against_float32("bf16")),
    Check("fp16 against float32", 3e-3, _with_a_gpu(against_float32("fp16"))),
    Check("TF32 against float32", 1e-3, against_float32("fp32")),
    *(Check(f"{name}, bf16", 1e-2, against_float32("bf16", **changes)) for name, changes in VARIANTS.items()),
    Check("augmentation against the CPU", 3e-3, augmentation),
    Check("another memory format between steps", 2e-3, another_format),
    Check("averaged weights", 1e-6, average_of_weights),
    Check("an infinite gradient in bf16", 0, gradient_that_is_infinite),
    Check("loss scaling with an infinite gradient", 0, loss_scaling),
    Check("host waits: plain step", 0, host_waits()),
    Check("host waits: fp16", 0, _with_a_gpu(host_waits(precision="fp16"))),
    *(Check(f"host waits: {name}", 0, host_waits(**changes)) for name, changes in VARIANTS.items()),
)
