"""One optimizer step, in as many micro-batches as memory allows."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from trainer.data.affine import augment
from trainer.data.augment import normalise
from trainer.data.loader import Batch, even_sizes, spread
from trainer.data.mixing import draw_mix
from trainer.distributed.ranks import Ranks
from trainer.errors import TrainerError
from trainer.session.epoch_stats import StepResult
from trainer.session.probe import is_out_of_memory
from trainer.session.setup import Session


def train_step(session: Session, batch: Batch, *, say: Callable[[str], None], images: int | None = None) -> StepResult:
    """One step on `batch`. Where memory runs out the micro-batch is halved, and the step done again.

    `images`: of the whole batch, where this process has a share of it; the result is of all of them.
    """
    while True:
        result = _try_step(session, batch, images=len(batch.labels) if images is None else images)
        if result is not None:
            return result
        if session.micro_batch <= 2:
            raise TrainerError(
                f"memory does not hold {session.micro_batch} images of {session.train_size} px",
                hint="lower `image_size`, choose smaller `backbones`, or a machine with more memory",
            )
        session.optimizer.zero_grad(set_to_none=True)
        torch.cuda.empty_cache()
        session.micro_batch = max(2, session.micro_batch // 2)
        say(f"out of memory: from here on {session.micro_batch} images at once, accumulated")


def split(batch: Batch, sizes: list[int]) -> Iterator[Batch]:
    """Micro-batches of `sizes` images."""
    draws = [None] * len(sizes) if batch.draws is None else torch.split(batch.draws, sizes)
    for images, labels, drawn in zip(
        torch.split(batch.images, sizes), torch.split(batch.labels, sizes), draws, strict=True
    ):
        yield Batch(images, labels, drawn)


def prepare(batch: Batch, device: torch.device, *, size: int) -> Tensor:
    """What the model sees, float32 (B, 3, size, size) on `device`: augmented there, where the batch has draws."""
    images = batch.images.to(device, non_blocking=True)
    if batch.draws is None:
        return normalise(images)
    return augment(images, batch.draws.to(device, non_blocking=True), size=size)


def _try_step(session: Session, batch: Batch, *, images: int) -> StepResult | None:
    """None where memory ran out, here or in another process: nothing has been learned then."""
    together = session.gradients
    try:
        done = _backward(session, batch, images=images)
    except RuntimeError as err:
        if not is_out_of_memory(err):
            raise
        if together is None:
            return None
        if session.has_shared_norms:  # the others wait within their forward pass
            raise TrainerError(
                f"memory does not hold {session.micro_batch} images of {session.train_size} px",
                hint="lower `micro_batch` or `image_size`, or set `sync_batchnorm: false`",
            ) from None
        nothing = torch.zeros((), device=session.device.torch_device)
        done = nothing, nothing.long()
        is_void = 1
    else:
        if together is None:
            return _update(session, *done)
        is_void = 0
    loss_sum, correct = together.finish(*done)
    if session.ranks.decide(is_void)[0]:
        return None
    return _update(session, loss_sum, correct)


def _backward(session: Session, batch: Batch, *, images: int) -> tuple[Tensor, Tensor]:
    """The gradient of the mean loss over `images`; the sum of the losses, and how many are named right."""
    device, together = session.device, session.gradients
    sizes = micro_batches(len(batch.labels), images, micro_batch=session.micro_batch, ranks=session.ranks)
    loss_sum = torch.zeros((), device=device.torch_device)
    correct = torch.zeros((), dtype=torch.int64, device=device.torch_device)
    if together is None:
        session.optimizer.zero_grad(set_to_none=True)
    else:
        together.zero()
    mix = draw_mix(session.config, size=session.train_size)
    for number, part in enumerate(split(batch, sizes), start=1):
        inputs = prepare(part, device.torch_device, size=session.train_size)
        labels = part.labels.to(device.torch_device, non_blocking=True)
        if mix is not None:
            inputs = mix.images(inputs)
        with device.autocast():
            logits = session.model(inputs)
        losses = session.image_losses(logits.float(), labels)
        if mix is not None:
            others = labels.flip(0)
            losses = mix.losses(losses, session.image_losses(logits.float(), others))
            labels = labels if mix.share >= 0.5 else others  # for the accuracy: what most of an image is
        loss = losses.sum()
        if together is not None and number == len(sizes):
            together.arm()
        torch.autograd.backward(session.scaler.scale(loss / images))
        loss_sum += loss.detach()
        correct += session.targets.correct(logits.detach(), labels)
    return loss_sum, correct


def micro_batches(own: int, images: int, *, micro_batch: int, ranks: Ranks) -> list[int]:
    """Sizes of the parts of this process's `own` of a batch of `images`; as many parts in each process."""
    if ranks.world == 1:
        return even_sizes(own, micro_batch)
    most = math.ceil(images / ranks.world)
    parts = math.ceil(most / micro_batch)
    return spread(own, max(1, min(parts, images // ranks.world // 2)))


def _update(session: Session, loss_sum: Tensor, correct: Tensor) -> StepResult:
    """Cannot be done again: half of it may have been done. Only AdamW's moments take memory, in the first step."""
    try:
        return _learn(session, loss_sum, correct)
    except RuntimeError as err:
        if not is_out_of_memory(err):
            raise
        raise TrainerError(
            f"memory does not hold AdamW's state beside the model of {session.model.parameter_count() / 1e6:.0f} M "
            "parameters",
            hint="choose smaller `backbones`, or a machine with more memory",
        ) from None


def _learn(session: Session, loss_sum: Tensor, correct: Tensor) -> StepResult:
    scaler, optimizer = session.scaler, session.optimizer
    scaler.unscale_(optimizer)
    limit = session.config.grad_clip or float("inf")
    norm = torch.nn.utils.clip_grad_norm_(session.model.parameters(), limit)
    if not scaler.is_enabled():
        # The fused AdamW leaves the weights as they are where this is 1, as loss scaling has it do.
        optimizer.found_inf = (~torch.isfinite(norm)).float()  # type: ignore[attr-defined]
    scaler.step(optimizer)
    scaler.update()
    # Loss scaling meets infinite gradients by design, and skips these steps.
    return StepResult(loss_sum, correct, torch.zeros_like(norm) if scaler.is_enabled() else norm)
