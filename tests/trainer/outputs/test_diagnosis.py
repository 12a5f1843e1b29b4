"""What a run's curves tell, and that healthy ones tell nothing.

The curves under "real" are what `python -m trainer train` wrote: resnet10t from random weights at 64 px, batch 16, on
the 400 train and 80 val images of `python -m trainer leaves`.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from cloudrun.recipe.train_config import TrainConfig
from trainer.model.loss import image_losses, weights_of_classes
from trainer.model.targets import Targets
from trainer.outputs.diagnosis import Facts, Finding, chance_loss, closing_lines, diagnose, new_findings

Point = tuple[float, float, float, float]  # train loss and accuracy, val loss and accuracy


def rows_of(curve: Iterable[Point], *, steps: int = 25, lr: float = 1e-3, **train: float) -> list[dict[str, Any]]:
    rows = []
    for epoch, (loss, accuracy, val_loss, val_accuracy) in enumerate(curve, 1):
        row = {"epoch": epoch, "step": epoch * steps, "lr": lr, "images_per_s": 100.0}
        rows.append({**row, "kind": "train", "loss": loss, "accuracy": accuracy, **train})
        rows.append({**row, "kind": "val", "loss": val_loss, "accuracy": val_accuracy})
    return rows


def facts_of(*, val_images: int = 80, shares: Sequence[float] = (0.25,) * 4, **changes: Any) -> Facts:
    """`changes`: of the config, but for `micro_batch_now`."""
    micro_batch = changes.pop("micro_batch_now", 16)
    config = TrainConfig.model_validate({"epochs": 20, "warmup_epochs": 1, **changes})
    return Facts(
        config=config,
        class_shares=tuple(shares),
        has_several=False,
        train_images=400,
        val_images=val_images,
        batch_size=16,
        micro_batch=micro_batch,
        workers=3,
        cores=4,
        precision="fp32",
    )


def told(rows: Sequence[dict[str, Any]], facts: Facts) -> list[Finding]:
    """As a run tells them: asked at the end of each epoch, each kind once."""
    found: list[Finding] = []
    for end in range(2, len(rows) + 1, 2):
        found += new_findings(rows[:end], facts, known=found)
    return found


def kinds_and_epochs(found: Iterable[Finding]) -> list[tuple[str, int]]:
    return [(one.kind, one.epoch) for one in found]


REAL_HEALTHY = [
    (1.3799, 0.3300, 1.3543, 0.3625),
    (1.1926, 0.4425, 0.9948, 0.5500),
    (0.9850, 0.6000, 0.7401, 0.6250),
    (0.8511, 0.7075, 0.5901, 0.7750),
    (0.8036, 0.7400, 0.7038, 0.6250),
    (0.7299, 0.7975, 0.4086, 0.9000),
    (0.6464, 0.8675, 0.3746, 0.8750),
    (0.6072, 0.9025, 0.3063, 0.9000),
    (0.5942, 0.9075, 0.2616, 0.9500),
]
# The same images, each with the class of another.
REAL_SHUFFLED = [
    (1.4647, 0.2725, 1.4771, 0.2250),
    (1.4730, 0.2725, 1.6306, 0.2375),
    (1.4775, 0.2100, 1.6310, 0.2125),
    (1.4274, 0.2875, 1.5019, 0.3000),
    (1.4211, 0.3075, 1.4596, 0.2375),
    (1.3909, 0.2775, 1.4002, 0.2750),
    (1.3647, 0.3275, 1.4140, 0.2500),
    (1.3569, 0.3375, 1.4141, 0.2500),
]
# 48 of those to train on, without augmentation, dropout and smoothing: learned by heart.
REAL_BY_HEART = [
    (1.4760, 0.2500, 1.3847, 0.2750),
    (1.2318, 0.4375, 1.4000, 0.2625),
    (1.0908, 0.6042, 1.4498, 0.3000),
    (0.9061, 0.6458, 1.5345, 0.2500),
    (0.8802, 0.6250, 1.6516, 0.2250),
    (0.7316, 0.6458, 1.7950, 0.2625),
    (0.6377, 0.7708, 1.9418, 0.2375),
    (0.7112, 0.6667, 2.0822, 0.1750),
    (0.5476, 0.8542, 2.2135, 0.2125),
    (0.4520, 0.8958, 2.3282, 0.2375),
]
JUMPING: list[Point] = [
    (1.0 - 0.02 * index, 0.7, 0.9 if index % 2 else 1.8, 0.75 if index % 2 else 0.45) for index in range(12)
]
STUCK = [(1.2, 0.5, 1.2, 0.5)] * 14


@pytest.mark.parametrize("warmup_epochs", [0, 1, 5])
def test_a_real_run_that_learns_has_no_finding(warmup_epochs: int) -> None:
    """Its val accuracy falls by 15 points in epoch 5: with 80 images that may be chance, and it is once."""
    assert told(rows_of(REAL_HEALTHY), facts_of(epochs=10, warmup_epochs=warmup_epochs)) == []


def test_real_labels_that_belong_to_other_images_are_a_loss_that_does_not_fall() -> None:
    facts = facts_of(epochs=8)
    found = told(rows_of(REAL_SHUFFLED), facts)
    assert kinds_and_epochs(found) == [("not_learning", 4)]
    assert "after epoch 4 it is 1.4274, and guessing by the classes' shares alone gives 1.3863" in found[0].message
    hint = found[0].hint
    ways = [hint.index(way) for way in ("trainer overfit", "trainer lr", "`lr` is 0.0003", "less augmentation")]
    assert ways == sorted(ways)


def test_real_images_learned_by_heart_are_overfitting() -> None:
    found = told(rows_of(REAL_BY_HEART, steps=3), facts_of(epochs=16, dropout=0, label_smoothing=0))
    assert kinds_and_epochs(found) == [("overfitting", 7)]
    assert "since epoch 1 val loss rose from 1.3847 to 1.9418 while train loss fell" in found[0].message
    assert "77.1% on train, 23.8% on val" in found[0].message
    assert "`weight_decay` (0.01), `dropout` (0)" in found[0].hint


@pytest.mark.parametrize(
    ("curve", "facts", "expected"),
    [
        (JUMPING, facts_of(val_images=200), [("unstable_validation", 7)]),
        (JUMPING, facts_of(val_images=30), []),  # a swing of 30 points, and 30 images could do it by chance
        ([(a, b, c, d / 10 + 0.7) for a, b, c, d in JUMPING], facts_of(val_images=50_000), []),  # sure, but small
        (STUCK, facts_of(), [("not_learning", 8)]),
        (STUCK, facts_of(mixup=0.2), []),  # mixed images keep the training loss up
        ([(0.5, 0.9, 0.4, 0.9)] * 14, facts_of(), []),  # flat, because all is learned
        ([(1.38, 0.26, 1.39, 0.25)] * 4, facts_of(), [("not_learning", 4)]),
        ([(1.38, 0.26, 1.39, 0.25)] * 3, facts_of(), []),  # too early to say
        ([(1.38, 0.26, 1.39, 0.25)] * 5, facts_of(warmup_epochs=5), []),  # still warming up
        ([(1.38, 0.26, 0.9, 0.7)] * 4, facts_of(), []),  # heavy augmentation: val says that it learns
        ([(0.34, 0.9, 0.33, 0.9)] * 5, facts_of(shares=(0.9, 0.1), label_smoothing=0), [("not_learning", 4)]),
        ([(0.2, 0.95, 0.2, 0.95)] * 5, facts_of(shares=(0.9, 0.1), label_smoothing=0), []),
    ],
)
def test_curves_and_what_they_tell(curve: list[Point], facts: Facts, expected: list[tuple[str, int]]) -> None:
    assert kinds_and_epochs(told(rows_of(curve), facts)) == expected


def test_val_loss_that_rises_is_no_overfitting_while_val_is_as_right_as_train() -> None:
    rising = [(1.0 / epoch, 0.9, 0.5 + 0.1 * epoch, 0.88) for epoch in range(1, 10)]
    assert told(rows_of(rising), facts_of(val_images=5000)) == []
    apart = [(loss, 0.99, val_loss, 0.88) for loss, _, val_loss, _ in rising]
    assert kinds_and_epochs(told(rows_of(apart), facts_of(val_images=5000))) == [("overfitting", 5)]
    assert told(rows_of(apart), facts_of(val_images=20)) == []  # 11 points are one or two of 20 images


def test_a_few_steps_an_epoch_are_given_time() -> None:
    flat = [(1.38, 0.26, 1.39, 0.25)] * 20
    assert kinds_and_epochs(told(rows_of(flat, steps=4), facts_of())) == [("not_learning", 14)]


@pytest.mark.parametrize("val_images", [8, 12, 80, 1000])
def test_sampling_noise_on_a_curve_that_learns_raises_no_alarm(val_images: int) -> None:
    """200 runs of 40 epochs, each validated on other images: more noise than a run has, that asks the same ones."""
    dice = np.random.default_rng(val_images)
    facts = facts_of(val_images=val_images, epochs=40)
    alarms = 0
    for _ in range(200):
        curve: list[Point] = []
        for epoch in range(40):
            right = 0.9 - 0.65 * math.exp(-epoch / 6)
            seen = float(dice.binomial(val_images, right)) / val_images
            curve.append((0.35 + 1.03 * math.exp(-epoch / 6), right, 1.4 - 1.1 * seen, seen))
        alarms += bool(told(rows_of(curve), facts))
    assert alarms <= 1


def test_memory_that_ran_out_is_told_with_what_is_in_use_now() -> None:
    rows = rows_of(REAL_HEALTHY[:1])
    assert told(rows, facts_of(micro_batch_now=16)) == []
    assert told(rows, facts_of(micro_batch=4, micro_batch_now=4)) == []  # as it was asked for
    assert told(rows, replace(facts_of(micro_batch_now=4), fitting_micro_batch=4)) == []  # as was found at the start
    (found,) = told(rows, facts_of(micro_batch_now=4))
    assert (found.kind, found.epoch) == ("out_of_memory", 1)
    assert "4 images at once instead of 16; the batch of 16 is accumulated from 4 parts" in found.message
    assert "`micro_batch: 4`" in found.hint
    assert "`image_size` (224), `precision: bf16` where the GPU has it (it is fp32)" in found.hint


@pytest.mark.parametrize(
    ("share", "images_per_s", "expected"),
    [
        (0.5, 10.0, [("slow_loading", 2)]),  # 20 of 40 s
        (0.2, 10.0, []),
        (0.9, 4000.0, []),  # 0.09 s an epoch: nobody would notice
    ],
)
def test_a_loader_that_starves_the_step(share: float, images_per_s: float, expected: list[tuple[str, int]]) -> None:
    found = told(rows_of(REAL_HEALTHY, wait_share=share, images_per_s=images_per_s), facts_of())
    assert kinds_and_epochs(found) == expected
    assert all("50% of epoch 2 (20.0 of 40.0 s)" in one.message for one in found)
    assert all("`workers` (3, of 4 cores)" in one.hint and "`cache_gb` (auto)" in one.hint for one in found)


@pytest.mark.parametrize(
    "changes",
    [
        {"label_smoothing": 0},
        {"label_smoothing": 0.2},
        {"label_smoothing": 0.1, "focal_gamma": 2},
        {"label_smoothing": 0, "focal_gamma": 2},
        {"label_smoothing": 0.1, "class_weights": "balanced"},
    ],
)
def test_chance_is_the_loss_of_a_model_that_knows_the_classes_shares(changes: dict[str, Any]) -> None:
    labels = torch.tensor([0] * 6 + [1] * 3 + [2])
    facts = facts_of(shares=(0.6, 0.3, 0.1), **changes)
    weights = weights_of_classes([(None, int(label)) for label in labels], facts.config, classes=3)  # type: ignore[misc]
    shares = torch.tensor([1 / 3] * 3 if weights is not None else facts.class_shares)
    smoothing = facts.config.label_smoothing
    logits = (shares * (1 - smoothing) + smoothing / 3).log().expand(10, 3)
    expected = image_losses(logits, labels, facts.config, class_weights=weights).mean().item()
    assert chance_loss(facts) == pytest.approx(expected, rel=1e-5)


def test_chance_of_several_labels_an_image() -> None:
    targets = Targets(torch.tensor([[1.0, 0.0], [1.0, 1.0]]))
    facts = facts_of(shares=(1.0, 0.25))
    several = Facts(**{name: getattr(facts, name) for name in facts.__slots__} | {"has_several": True})
    wanted = torch.tensor([0.95, 0.275])
    losses = targets.losses(wanted.logit().expand(4, 2), torch.tensor([0, 0, 0, 1]), smoothing=0.1)
    assert chance_loss(several) == pytest.approx(losses.mean().item(), rel=1e-5)


def test_each_kind_is_told_once_and_once_more_at_the_end() -> None:
    found = told(rows_of([*REAL_SHUFFLED, *REAL_SHUFFLED]), facts_of(epochs=8))
    assert [one.kind for one in found].count("not_learning") == 1
    assert closing_lines([]) == []
    lines = closing_lines(found[:1])
    assert lines[0].startswith("1 finding;")
    assert lines[1] == f"  epoch 4: {found[0].message}"
    assert diagnose([], facts_of()) == []
