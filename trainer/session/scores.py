"""Evaluate a model on images: logits, and how right they are."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from weakref import WeakSet

import torch
from torch import Tensor, nn
from torch.nn import functional

from cloudrun.imagedata.folders import UNLABELLED
from trainer.data.augment import normalise
from trainer.data.loader import Batch, Loader
from trainer.distributed.ranks import ALONE, Ranks
from trainer.distributed.stop import StopFlag
from trainer.errors import TrainerError
from trainer.model.targets import ONE_CLASS, DecisionRule, Targets, decision_rule, f_scores, tune_thresholds
from trainer.outputs.scoring import ACCURACY, Judged, Metric
from trainer.session.device import Device
from trainer.session.probe import is_out_of_memory

# Models that had logits beyond the range of fp16.
_OVERFLOWED: WeakSet[nn.Module] = WeakSet()


@dataclass(frozen=True, slots=True)
class Rating:
    """How right a model is. Values that depend on thresholds are None where an image has one class.

    `accuracy`: images with all their classes right, and no other. `recalls`, `f1`: of each class; None where it has no
    image (and, for F1, no prediction).
    """

    accuracy: float
    recalls: list[float | None]
    f1: list[float | None] | None = None
    thresholds: list[float] | None = None
    metric: float | None = None  # of the competition; None where it is undefined

    @property
    def macro_f1(self) -> float | None:
        """The mean over the classes, with equal weights."""
        if self.f1 is None:
            return None
        defined = [value for value in self.f1 if value is not None]
        return sum(defined) / len(defined) if defined else 0.0


@dataclass(frozen=True, slots=True)
class Scores:
    """float32 logits (N, classes) and labels (N,), on the CPU, in the order of the files."""

    logits: Tensor
    labels: Tensor
    targets: Targets = ONE_CLASS

    @property
    def loss(self) -> float:
        """The mean over the images, without label smoothing."""
        return float(self.targets.losses(self.logits, self.labels).mean().item())

    @property
    def probabilities(self) -> Tensor:
        return self.targets.probabilities(self.logits)

    def rate(self, thresholds: Sequence[float] | None = None, *, metric: Metric = ACCURACY) -> Rating:
        """Return the rating. With several classes an image: at `thresholds`, or at the best ones for these images."""
        if self.targets.has_several:
            return self._rate_several(thresholds, metric)
        right = self.logits.argmax(1) == self.labels
        parts = [right[self.labels == index] for index in range(self.logits.shape[1])]
        value = metric.of(self.judged(DecisionRule()))
        return Rating(_mean(right), [_mean(part) if len(part) else None for part in parts], metric=value)

    def judged(self, rule: DecisionRule) -> Judged:
        """Return probabilities, and predicted and true classes. All images need a label."""
        probabilities = self.targets.probabilities(self.logits.double())
        if self.targets.has_several:
            wanted = self.targets.wanted(self.labels).bool()
        else:
            wanted = functional.one_hot(self.labels, self.logits.shape[1]).bool()
        return Judged(probabilities, rule.predicted(probabilities), wanted)

    def is_labelled(self) -> bool:
        return bool((self.labels != UNLABELLED).all().item())

    def _rate_several(self, thresholds: Sequence[float] | None, metric: Metric) -> Rating:
        probabilities, wanted = self.probabilities, self.targets.wanted(self.labels).bool()
        beta = metric.threshold_beta
        limits = tune_thresholds(probabilities, wanted, beta=beta) if thresholds is None else list(thresholds)
        predicted = decision_rule(self.targets, limits).predicted(probabilities)
        parts = [predicted[wanted[:, index], index] for index in range(wanted.shape[1])]
        return Rating(
            accuracy=_mean((predicted == wanted).all(1)),
            recalls=[_mean(part) if len(part) else None for part in parts],
            f1=f_scores(predicted, wanted),
            thresholds=limits,
            metric=metric.of(Judged(probabilities.double(), predicted, wanted)),
        )


def _mean(flags: Tensor) -> float:
    return float(flags.double().mean().item())


def evaluate(  # noqa: PLR0913 - a model, its images, and who hears of them
    model: nn.Module,
    loader: Loader,
    device: Device,
    *,
    targets: Targets = ONE_CLASS,
    stop: StopFlag | None = None,
    on_batch: Callable[[], None] = lambda: None,
    ranks: Ranks = ALONE,
) -> Scores:
    """Return the scores of all images of `loader`, with fewer images at once where memory runs out.

    In fp16 on a GPU; once more in float32, and later at once, where a logit is not finite.

    `ranks`: the processes whose loaders together have each image once; all get the scores of all images. Raises
    StoppedEarly between two batches once `stop` is set, TrainerError where memory does not hold one image.
    """
    *fast, precise = device.evaluation_dtypes
    for dtype in () if model in _OVERFLOWED else fast:
        scores = _evaluate(model, loader, device, dtype, targets=targets, stop=stop, on_batch=on_batch, ranks=ranks)
        if bool(torch.isfinite(scores.logits).all()):
            return scores
        _OVERFLOWED.add(model)
    return _evaluate(model, loader, device, precise, targets=targets, stop=stop, on_batch=on_batch, ranks=ranks)


def _evaluate(  # noqa: PLR0913 - a model, its images, and who hears of them
    model: nn.Module,
    loader: Loader,
    device: Device,
    dtype: torch.dtype,
    *,
    targets: Targets,
    stop: StopFlag | None,
    on_batch: Callable[[], None],
    ranks: Ranks,
) -> Scores:
    was_training = model.training
    model.eval()
    logits, labels = [], []
    at_once: int | None = None
    try:
        with torch.inference_mode(), device.algorithms_by_rule():
            for batch in _together(loader.epoch(0), ranks):
                if batch is not None:
                    images = batch.images.to(device.torch_device, non_blocking=True)
                    batch_logits, at_once = _logits(model, images, device, dtype, at_once=at_once)
                    logits.append(batch_logits)
                    labels.append(batch.labels)
                on_batch()
                if stop is not None:
                    stop.raise_if_set()
            own = (torch.cat(logits).cpu(), torch.cat(labels)) if logits else None
    finally:
        model.train(was_training)
    parts = [part for part in ranks.gather(own) if part is not None]
    return Scores(torch.cat([part[0] for part in parts]), torch.cat([part[1] for part in parts]), targets)


def _logits(
    model: nn.Module, images_BCHW: Tensor, device: Device, dtype: torch.dtype, *, at_once: int | None
) -> tuple[Tensor, int | None]:
    """Return float32 (B, classes) of uint8 images, and how many may be at once from now on; None: no limit.

    Raises TrainerError where memory does not hold one image.
    """
    while True:
        size = min(at_once or len(images_BCHW), len(images_BCHW))
        try:
            parts = []
            for part in torch.split(images_BCHW, size):
                inputs = normalise(part)
                with device.autocast(dtype):
                    parts.append(model(inputs).float())
            return (parts[0] if len(parts) == 1 else torch.cat(parts)), at_once
        except RuntimeError as err:
            if not is_out_of_memory(err):
                raise
        # Outside the handler: the exception would keep the failed pass's tensors alive.
        if size == 1:
            raise TrainerError(
                f"memory does not hold one image of {images_BCHW.shape[-1]} px",
                hint="end other programs that use the memory, lower `image_size`, or choose a machine with more memory",
            )
        at_once = size // 2
        torch.cuda.empty_cache()  # cuDNN and cuBLAS allocate beside the blocks that torch keeps


def _together(batches: Iterator[Batch], ranks: Ranks) -> Iterator[Batch | None]:
    """Yield as many batches in each process: None where this process has no more, but another has."""
    batch = next(batches, None)
    while ranks.decide(int(batch is not None))[0]:
        yield batch
        batch = next(batches, None)
