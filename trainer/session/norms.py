"""Measure the statistics of batch norm anew, for weights that no training step has made."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch.nn.modules.batchnorm import _BatchNorm

from cloudrun.recipe.evaluations import REFRESH_IMAGES
from cloudrun.recipe.progressive import size_at
from trainer.distributed.stop import StopFlag
from trainer.session.setup import TrainingSetup
from trainer.session.step import micro_batches, prepare, split


@torch.no_grad()
def refresh_norms(setup: TrainingSetup, *, stop: StopFlag, on_batch: Callable[[], None]) -> None:
    """Give the model's batch norms the mean statistics of training images as the last epoch has them.

    As `torch.optim.swa_utils.update_bn`, but without dropout and stochastic depth, and with some `REFRESH_IMAGES`
    images at most, which are enough. Source: Wu & Johnson 2021, arXiv:2105.07576, section 3. A model without batch norm
    is left as it is. Raises StoppedEarly between two batches, with statistics that are not complete.
    """
    model, epoch = setup.model, setup.config.epochs
    norms = [one for one in model.modules() if isinstance(one, _BatchNorm) and one.track_running_stats]
    if not norms:
        return
    size, was_training = size_at(epoch, setup.config), model.training
    momenta = [norm.momentum for norm in norms]
    model.eval()
    try:
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None  # torch then keeps the mean over all batches
            norm.train()
        batches = math.ceil(REFRESH_IMAGES / setup.batch_size)
        first = max(0, setup.steps_per_epoch - batches)
        sizes = setup.train_loader.sizes[first:]
        with setup.device.algorithms_by_rule():
            for images, batch in zip(sizes, setup.train_loader.epoch(epoch, start=first), strict=True):
                parts = micro_batches(len(batch.labels), images, micro_batch=setup.micro_batch, ranks=setup.ranks)
                for part in split(batch, parts):
                    with setup.device.autocast():
                        model.features(prepare(part, setup.device.torch_device, size=size))
                on_batch()
                stop.raise_if_set()
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
        model.train(was_training)
    if setup.gradients is not None:
        setup.gradients.average_statistics()
