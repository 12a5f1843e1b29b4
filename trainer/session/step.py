"""Take one optimizer step, in as many micro-batches as memory allows."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from trainer.data.affine import augment
from trainer.data.augment import normalise
from trainer.data.loader import Batch, even_sizes, spread
from trainer.data.mixing import draw_mix
from trainer.data.strong import strengthen
from trainer.data.strong_params import FIRST_STEP
from trainer.distributed.ranks import Ranks
from trainer.errors import TrainerError
from trainer.session.epoch_stats import StepResult
from trainer.session.probe import is_out_of_memory
from trainer.session.setup import TrainingSetup


def train_step(
    setup: TrainingSetup, batch: Batch, *, say: Callable[[str], None], images: int | None = None
) -> StepResult:
    """Take one step on `batch`. Where memory runs out, the micro-batch is halved and the step repeated.

    `images`: of the whole batch, where this process has a share of it. The result is that of the whole batch.
    """
    while True:
        result = _try_step(setup, batch, images=len(batch.labels) if images is None else images)
        if result is not None:
            return result
        if setup.micro_batch <= 2:
            raise TrainerError(
                f"memory does not hold {setup.micro_batch} images of {setup.train_size} px",
                hint="lower `image_size`, choose smaller `backbones`, or a machine with more memory",
            )
        setup.optimizer.zero_grad(set_to_none=True)
        torch.cuda.empty_cache()
        setup.micro_batch = max(2, setup.micro_batch // 2)
        was_compiled, setup.model.compiled = setup.model.compiled is not None, None
        eager = "; what is compiled is for another number, and is not used any more" if was_compiled else ""
        say(f"out of memory: from here on {setup.micro_batch} images at once, accumulated{eager}")


def split(batch: Batch, sizes: list[int]) -> Iterator[Batch]:
    """Yield micro-batches of `sizes` images."""
    augment_params, soft = (
        [None] * len(sizes) if values is None else torch.split(values, sizes)
        for values in (batch.augment_params, batch.soft)
    )
    for images, labels, drawn, targets in zip(
        torch.split(batch.images, sizes), torch.split(batch.labels, sizes), augment_params, soft, strict=True
    ):
        yield Batch(images, labels, drawn, targets)


def prepare(batch: Batch, device: torch.device, *, size: int) -> Tensor:
    """Return the model's input, float32 (B, 3, size, size) on `device`: augmented where the batch has parameters."""
    images = batch.images.to(device, non_blocking=True)
    if batch.augment_params is None:
        return normalise(images)
    augment_params = batch.augment_params.to(device, non_blocking=True)
    augmented = augment(images, augment_params, size=size)
    if augment_params.shape[1] >= FIRST_STEP:
        strengthen(augmented, batch.augment_params, augment_params)
    return augmented


def _try_step(setup: TrainingSetup, batch: Batch, *, images: int) -> StepResult | None:
    """Return None where memory ran out, here or in another process: nothing was learned then."""
    together = setup.gradients
    try:
        done = _backward(setup, batch, images=images)
    except RuntimeError as err:
        if not is_out_of_memory(err):
            raise
        if together is None:
            return None
        if setup.has_shared_norms:  # the other processes wait in their forward pass
            raise TrainerError(
                f"memory does not hold {setup.micro_batch} images of {setup.train_size} px",
                hint="lower `micro_batch` or `image_size`, or set `sync_batchnorm: false`",
            ) from None
        nothing = torch.zeros((), device=setup.device.torch_device)
        done = nothing, nothing.long()
        is_void = 1
    else:
        if together is None:
            return _update(setup, *done)
        is_void = 0
    loss_sum, correct = together.finish(*done)
    if setup.ranks.decide(is_void)[0]:
        return None
    return _update(setup, loss_sum, correct)


def _backward(setup: TrainingSetup, batch: Batch, *, images: int) -> tuple[Tensor, Tensor]:
    """Add the gradient of the mean loss over `images`; return the sum of losses, and the correct predictions."""
    device, together = setup.device, setup.gradients
    sizes = micro_batches(len(batch.labels), images, micro_batch=setup.micro_batch, ranks=setup.ranks)
    loss_sum = torch.zeros((), device=device.torch_device)
    correct = torch.zeros((), dtype=torch.int64, device=device.torch_device)
    if together is None:
        setup.optimizer.zero_grad(set_to_none=True)
    else:
        together.zero()
    mix = None if setup.is_plain else draw_mix(setup.config, size=setup.train_size)
    for number, part in enumerate(split(batch, sizes), start=1):
        inputs = prepare(part, device.torch_device, size=setup.train_size)
        labels = part.labels.to(device.torch_device, non_blocking=True)
        soft = None if part.soft is None else part.soft.to(device.torch_device, non_blocking=True)
        if mix is not None:
            inputs = mix.images(inputs)
        with device.autocast():
            logits = setup.model(inputs)
        losses = setup.image_losses(logits.float(), labels, soft)
        if mix is not None:
            others = labels.flip(0)
            other_soft = None if soft is None else soft.flip(0)
            losses = mix.losses(losses, setup.image_losses(logits.float(), others, other_soft))
            labels = labels if mix.share >= 0.5 else others  # for the accuracy: the label with the larger share
        loss = losses.sum()
        if together is not None and number == len(sizes):
            together.arm()
        torch.autograd.backward(setup.scaler.scale(loss / images))
        loss_sum += loss.detach()
        correct += setup.targets.correct(logits.detach(), labels)
    return loss_sum, correct


def micro_batches(own: int, images: int, *, micro_batch: int, ranks: Ranks) -> list[int]:
    """Return the sizes of the parts of this process's `own` share of a batch of `images`.

    All processes have the same number of parts.
    """
    if ranks.world == 1:
        return even_sizes(own, micro_batch)
    most = math.ceil(images / ranks.world)
    parts = math.ceil(most / micro_batch)
    return spread(own, max(1, min(parts, images // ranks.world // 2)))


def _update(setup: TrainingSetup, loss_sum: Tensor, correct: Tensor) -> StepResult:
    """Update the weights.

    Cannot be repeated: half of it may be done. Only AdamW's moments take memory, in the first step.
    """
    try:
        return learn(setup, loss_sum, correct)
    except RuntimeError as err:
        if not is_out_of_memory(err):
            raise
        raise TrainerError(
            f"memory does not hold AdamW's state beside the model of {setup.model.parameter_count() / 1e6:.0f} M "
            "parameters",
            hint="choose smaller `backbones`, or a machine with more memory",
        ) from None


def learn(setup: TrainingSetup, loss_sum: Tensor, correct: Tensor) -> StepResult:
    scaler, optimizer = setup.scaler, setup.optimizer
    scaler.unscale_(optimizer)
    # The optimizer's own lists: to walk over the modules of a large model takes the host milliseconds a step.
    weights = [weight for group in optimizer.param_groups for weight in group["params"] if weight.grad is not None]
    norm = torch.nn.utils.get_total_norm([weight.grad for weight in weights])
    if setup.config.grad_clip:
        torch.nn.utils.clip_grads_with_norm_(weights, setup.config.grad_clip, norm)
    if not scaler.is_enabled():
        # The fused AdamW does not change the weights where this is 1, as with loss scaling.
        optimizer.found_inf = (~torch.isfinite(norm)).float()  # type: ignore[attr-defined]
    scaler.step(optimizer)
    scaler.update()
    # Loss scaling produces infinite gradients by design, and skips these steps.
    return StepResult(loss_sum, correct, torch.zeros_like(norm) if scaler.is_enabled() else norm)
