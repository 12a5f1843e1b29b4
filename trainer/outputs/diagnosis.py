"""Diagnose a run from its curves: what is wrong, with the numbers that show it, and what to try. Pure.

A healthy run has no finding: what a small val set or a few steps can do by chance is not reported.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

from cloudrun.recipe.train_config import TrainConfig

Kind = Literal["not_learning", "unstable_validation", "overfitting", "out_of_memory", "slow_loading"]
Row = Mapping[str, Any]
"""A row of metrics.jsonl."""

# Standard errors from which a difference counts; by chance one epoch in 700 falls as far.
_SURE = 3.0
# The loss has hardly fallen: share of the chance loss that it is still above, and epochs after the warm-up.
_HARDLY = 0.97
_PATIENCE_EPOCHS, _PATIENCE_STEPS = 3, 50
# The loss is flat: epochs that lowered it by less than a share of it, while it is above a share of the chance loss.
_FLAT_EPOCHS, _FLAT_PART, _STUCK = 6, 0.01, 0.7
# Jumps: two falls of val accuracy by at least this within so many epochs, with a rise between them.
_JUMP, _JUMP_EPOCHS = 0.05, 6
# Overfitting: epochs with val loss above its best by a share, and train accuracy above val accuracy by a gap.
_WORSE_EPOCHS, _WORSE_PART, _GAP = 4, 0.1, 0.05
# Waiting for images: the share of an epoch from which it counts, and the least time that it costs the run.
_WAITING, _WAITING_S = 0.3, 60.0


@dataclass(frozen=True, slots=True)
class Finding:
    """`epoch`: at whose end it was first found. `message`: what is wrong; `hint`: what to try."""

    kind: Kind
    message: str
    hint: str
    epoch: int

    def as_plain(self) -> dict[str, Any]:
        return {"kind": self.kind, "message": self.message, "hint": self.hint, "epoch": self.epoch}

    def lines(self) -> list[str]:
        """Return the lines of the log."""
        return [f"finding (epoch {self.epoch}): {self.message}", f"  try: {self.hint}"]


@dataclass(frozen=True, slots=True)
class Facts:
    """Facts about a run that its curves do not contain. `class_shares`: each class's share of the training images.

    `has_several`: an image may have several classes. `micro_batch`: images in memory at once now, in each of
    `processes`. `fitting_micro_batch`: how many were found to fit at the start; None where that was not searched.
    """

    config: TrainConfig
    class_shares: tuple[float, ...]
    has_several: bool
    train_images: int
    val_images: int
    batch_size: int
    micro_batch: int
    workers: int
    cores: int
    precision: str
    processes: int = 1
    fitting_micro_batch: int | None = None


def diagnose(rows: Sequence[Row], facts: Facts) -> list[Finding]:
    """Return what is wrong at the end of the last epoch of `rows`, which has a row a kind and epoch, in their order.

    `train` rows may have `wait_share`: the share of the epoch in which steps waited for images.
    """
    train, val = ([row for row in rows if row["kind"] == kind] for kind in ("train", "val"))
    if not train or len(train) != len(val):
        return []
    findings = (
        _not_learning(train, val, facts),
        _unstable_validation(val, facts),
        _overfitting(train, val, facts),
        _out_of_memory(train, facts),
        _slow_loading(train, facts),
    )
    return [finding for finding in findings if finding is not None]


def new_findings(rows: Sequence[Row], facts: Facts, *, known: Sequence[Finding]) -> list[Finding]:
    """Return the findings of `diagnose` whose kind is not among `known`: each kind is reported once a run."""
    kinds = {finding.kind for finding in known}
    return [finding for finding in diagnose(rows, facts) if finding.kind not in kinds]


def closing_lines(findings: Sequence[Finding]) -> list[str]:
    """Return the last lines of a run's log about its findings; none where there are none."""
    if not findings:
        return []
    count = "1 finding" if len(findings) == 1 else f"{len(findings)} findings"
    lines = [f"  epoch {finding.epoch}: {finding.message}" for finding in findings]
    return [f"{count}; see above and summary.json for what to try:", *lines]


def chance_loss(facts: Facts) -> float:
    """Return the training loss of a model that knows only how frequent the classes are.

    ln(classes) where they are even; with label smoothing, class weights and focus as in `trainer.model.loss`.
    """
    config, count = facts.config, len(facts.class_shares)
    smoothing, focus = config.label_smoothing, config.focal_gamma
    if facts.has_several:
        wanted = [share * (1 - smoothing) + smoothing / 2 for share in facts.class_shares]
        losses = [_entropy([share, 1 - share]) for share in wanted]
        # A lower bound: a focused loss is lower, and so are balanced weights of rare classes.
        return 0.0 if focus or config.class_weights == "balanced" else sum(losses) / count
    shares = [1 / count] * count if config.class_weights == "balanced" else list(facts.class_shares)
    probabilities = [share * (1 - smoothing) + smoothing / count for share in shares]
    if not focus:
        return _entropy(probabilities)
    spread = smoothing / count * -sum(math.log(share) for share in probabilities) if smoothing else 0.0
    losses = [
        (1 - share) ** focus * ((1 - smoothing) * -math.log(share) + spread) if share else 0.0
        for share in probabilities
    ]
    return sum(share * loss for share, loss in zip(shares, losses, strict=True))


def _not_learning(train: Sequence[Row], val: Sequence[Row], facts: Facts) -> Finding | None:
    config, epoch = facts.config, train[-1]["epoch"]
    since_warmup = [row for row in train if row["epoch"] > _warmup_epochs(config)]
    steps = len(since_warmup) * train[0]["step"]
    if len(since_warmup) < _PATIENCE_EPOCHS or steps < _PATIENCE_STEPS:
        return None
    chance, loss, accuracy = chance_loss(facts), train[-1]["loss"], val[-1]["accuracy"]
    guess = max(facts.class_shares)
    # Where an image may have several classes, "none" may be right for many images: only the loss is used.
    is_guessing = facts.has_several or accuracy < guess + _SURE * _standard_error(guess, facts.val_images)
    if chance and loss > _HARDLY * chance and is_guessing:
        seen = f"after epoch {epoch} it is {loss:.4f}, and guessing by the classes' shares alone gives {chance:.4f}"
    elif chance and loss > _STUCK * chance and _is_flat(train, val, since_warmup, config):
        before = min(row["loss"] for row in since_warmup[:-_FLAT_EPOCHS])
        seen = f"it was {before:.4f} before the last {_FLAT_EPOCHS} epochs, and is {loss:.4f} (guessing: {chance:.4f})"
    else:
        return None
    return Finding(
        "not_learning",
        f"the training loss does not fall: {seen}; val accuracy {accuracy:.1%} of {len(facts.class_shares)} classes",
        "first `python -m cloudrun.trainer overfit`: where one batch is not learned, labels or model are wrong; then "
        f"the learning rate by `python -m cloudrun.trainer lr` (`lr` is {config.lr:g}); then less augmentation "
        f"(`crop_scale_min` is {config.crop_scale_min:g}, `rotation_degrees` {config.rotation_degrees:g}, "
        f"`color_jitter` {config.color_jitter:g}, `mixup` {config.mixup:g}, `cutmix` {config.cutmix:g})",
        epoch,
    )


def _is_flat(train: Sequence[Row], val: Sequence[Row], since_warmup: Sequence[Row], config: TrainConfig) -> bool:
    """Return whether neither loss falls before the rate has come down.

    Mixed images keep the loss up, which is no fault.
    """
    if config.mixup or config.cutmix or len(since_warmup) <= _FLAT_EPOCHS:
        return False
    if train[-1]["lr"] < max(row["lr"] for row in train) / 2:
        return False
    for rows in (since_warmup, val[-len(since_warmup) :]):
        before = min(row["loss"] for row in rows[:-_FLAT_EPOCHS])
        if min(row["loss"] for row in rows[-_FLAT_EPOCHS:]) < (1 - _FLAT_PART) * before:
            return False
    return True


def _unstable_validation(val: Sequence[Row], facts: Facts) -> Finding | None:
    """Find falls and rises of val accuracy that its standard error sqrt(p (1 - p) / n) does not explain."""
    config = facts.config
    settled = [row for row in val if row["epoch"] > max(_warmup_epochs(config), 2)][-_JUMP_EPOCHS - 1 :]
    accuracies = [row["accuracy"] for row in settled]
    falls = [at for at in range(1, len(settled)) if _is_jump(accuracies[at - 1], accuracies[at], facts.val_images)]
    rises = [(accuracies[second - 1], accuracies[first]) for first, second in pairwise(falls)]
    if not any(_is_jump(high, low, facts.val_images) for high, low in rises):
        return None
    widest = max(falls, key=lambda at: accuracies[at - 1] - accuracies[at])
    high, low, epoch = accuracies[widest - 1], accuracies[widest], settled[widest]["epoch"]
    error = _standard_error((high + low) / 2, facts.val_images)
    averaged = f"raise `ema_decay` ({config.ema_decay:g})" if config.ema_decay else "`ema_decay: 0.999` (it is 0)"
    return Finding(
        "unstable_validation",
        f"validation jumps: accuracy fell from {high:.1%} to {low:.1%} in epoch {epoch} (loss "
        f"{settled[widest - 1]['loss']:.4f} to {settled[widest]['loss']:.4f}), one of {len(falls)} such falls in "
        f"{len(settled)} epochs; {facts.val_images} val images explain about {error:.1%}",
        f"a larger `batch_size` ({facts.batch_size}), a lower `lr` ({config.lr:g}), more `weight_decay` "
        f"({config.weight_decay:g}) or `dropout` ({config.dropout:g}), or an average of the weights: {averaged}",
        val[-1]["epoch"],
    )


def _is_jump(high: float, low: float, images: int) -> bool:
    """Whether the difference of two accuracies on as many images is large, and no chance."""
    error = _standard_error((high + low) / 2, images) * math.sqrt(2)
    return high - low >= max(_JUMP, _SURE * error)


def _overfitting(train: Sequence[Row], val: Sequence[Row], facts: Facts) -> Finding | None:
    config = facts.config
    best_at = min(range(len(val)), key=lambda at: val[at]["loss"])
    later = val[best_at + 1 :]
    if len(later) < _WORSE_EPOCHS:
        return None
    best, loss = val[best_at], val[-1]["loss"]
    known, seen = train[-1]["accuracy"], val[-1]["accuracy"]
    gap = max(_GAP, _SURE * _standard_error(seen, facts.val_images))
    is_worse = all(row["loss"] > (1 + _WORSE_PART) * best["loss"] for row in later[-_WORSE_EPOCHS:])
    if not is_worse or train[-1]["loss"] >= train[best_at]["loss"] or known - seen < gap:
        return None
    return Finding(
        "overfitting",
        f"it overfits: since epoch {best['epoch']} val loss rose from {best['loss']:.4f} to {loss:.4f} while train "
        f"loss fell from {train[best_at]['loss']:.4f} to {train[-1]['loss']:.4f}; accuracy is {known:.1%} on train, "
        f"{seen:.1%} on val",
        f"more images, or hold it back: `weight_decay` ({config.weight_decay:g}), `dropout` ({config.dropout:g}), "
        f"`drop_path` ({config.drop_path:g}), `label_smoothing` ({config.label_smoothing:g}), `mixup` "
        f"({config.mixup:g}), `cutmix` ({config.cutmix:g}), stronger crops (`crop_scale_min` "
        f"{config.crop_scale_min:g}, less is stronger), or fewer `epochs` ({config.epochs})",
        val[-1]["epoch"],
    )


def _out_of_memory(train: Sequence[Row], facts: Facts) -> Finding | None:
    config = facts.config
    own = math.ceil(facts.batch_size / facts.processes)
    asked = own if config.micro_batch == "auto" else min(config.micro_batch, own)
    first = facts.fitting_micro_batch or asked
    if facts.micro_batch >= first:
        return None
    parts = math.ceil(own / facts.micro_batch)
    cheaper = "" if facts.precision in ("bf16", "fp16") else ", `precision: bf16` where the GPU has it"
    return Finding(
        "out_of_memory",
        f"memory ran out: {facts.micro_batch} images at once instead of {first}; the batch of {facts.batch_size} is "
        f"accumulated from {parts} parts, so batch and learning rate stay what they were",
        f"`micro_batch: {facts.micro_batch}` saves the failed steps next time; for larger parts a lower `image_size` "
        f"({config.image_size}){cheaper} (it is {facts.precision}), a smaller `batch_size` ({facts.batch_size}) or "
        "more GPU memory",
        train[-1]["epoch"],
    )


def _slow_loading(train: Sequence[Row], facts: Facts) -> Finding | None:
    """Find waits for images from the second epoch on: in the first epoch images are decoded and the cache is filled."""
    config, last = facts.config, train[-1]
    share, speed = last.get("wait_share"), last["images_per_s"]
    if last["epoch"] < 2 or share is None or share < _WAITING or not speed:
        return None
    epoch_s = facts.train_images / speed
    if share * epoch_s * config.epochs < _WAITING_S:
        return None
    return Finding(
        "slow_loading",
        f"the loader starves the step: {share:.0%} of epoch {last['epoch']} ({share * epoch_s:.1f} of {epoch_s:.1f} s) "
        "passed waiting for images",
        f"more `workers` ({facts.workers}, of {facts.cores} cores) or a machine with more cores; a larger `cache_gb` "
        f"({_shown(config.cache_gb)}), so that no image is decoded twice; a smaller `decoded_size` "
        f"({_shown(config.decoded_size)})",
        last["epoch"],
    )


def _warmup_epochs(config: TrainConfig) -> float:
    """Return the epochs of warm-up as in `trainer.model.optim`: at most half of the run."""
    return min(config.warmup_epochs, config.epochs / 2)


def _standard_error(share: float, images: int) -> float:
    """Return the standard error of a share of so many images.

    Computed as with one image more, so that 0 % and 100 % of a few images are not certain.
    """
    likely = (share * images + 0.5) / (images + 1)
    return math.sqrt(likely * (1 - likely) / max(1, images))


def _entropy(shares: Sequence[float]) -> float:
    return -sum(share * math.log(share) for share in shares if share)


def _shown(value: float | str) -> str:
    return value if isinstance(value, str) else f"{value:g}"
