"""What a model says about images: logits, and how right they are."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from trainer.augment import normalise
from trainer.device import Device
from trainer.folders import UNLABELLED
from trainer.loader import Loader
from trainer.stop import StopFlag


@dataclass(frozen=True, slots=True)
class Scores:
    """float32 logits (N, classes) and labels (N,), on the CPU, in the order of the files."""

    logits: Tensor
    labels: Tensor

    @property
    def loss(self) -> float:
        """Cross entropy without label smoothing."""
        return float(functional.cross_entropy(self.logits, self.labels).item())

    @property
    def accuracy(self) -> float:
        return float((self.logits.argmax(1) == self.labels).double().mean().item())

    @property
    def probabilities(self) -> Tensor:
        return self.logits.softmax(1)

    def recalls(self) -> list[float | None]:
        """For each class: which part of its images is named right; None where it has none."""
        right = self.logits.argmax(1) == self.labels
        parts = [right[self.labels == index] for index in range(self.logits.shape[1])]
        return [float(part.double().mean().item()) if len(part) else None for part in parts]

    def is_labelled(self) -> bool:
        return bool((self.labels != UNLABELLED).all().item())


def evaluate(
    model: nn.Module,
    loader: Loader,
    device: Device,
    *,
    stop: StopFlag | None = None,
    on_batch: Callable[[], None] = lambda: None,
) -> Scores:
    """Scores of all images of `loader`. Raises StoppedEarly between two batches once `stop` is set."""
    was_training = model.training
    model.eval()
    logits, labels = [], []
    try:
        with torch.inference_mode():
            for batch in loader.epoch(0):
                images = normalise(batch.images.to(device.torch_device, non_blocking=True))
                with device.autocast():
                    logits.append(model(images).float())
                labels.append(batch.labels)
                on_batch()
                if stop is not None:
                    stop.raise_if_set()
            return Scores(torch.cat(logits).cpu(), torch.cat(labels))
    finally:
        model.train(was_training)
