"""Metrics of competitions, with values worked out by hand."""

import math

import pytest
import torch

from cloudrun.recipe.train_config import TrainConfig
from trainer.errors import ConfigError
from trainer.outputs.scoring import (
    Judged,
    Metric,
    class_report,
    metric_of,
    quadratic_kappa,
    ranks_of,
)

# Five images of three classes: 0, 0, 1, 1, 2 are true, 0, 1, 1, 1, 0 are predicted.
PROBABILITIES = torch.tensor(
    [[0.7, 0.2, 0.1], [0.3, 0.5, 0.2], [0.1, 0.8, 0.1], [0.2, 0.6, 0.2], [0.5, 0.1, 0.4]], dtype=torch.float64
)
TRUE = torch.tensor([0, 0, 1, 1, 2])


def judged() -> Judged:
    one_hot = torch.nn.functional.one_hot
    return Judged(PROBABILITIES, one_hot(PROBABILITIES.argmax(1), 3).bool(), one_hot(TRUE, 3).bool())


@pytest.mark.parametrize(
    ("metric", "value"),
    [
        (Metric("accuracy"), 3 / 5),
        (Metric("balanced_accuracy"), (1 / 2 + 1 + 0) / 3),
        (Metric("macro_f1"), (2 / 4 + 4 / 5 + 0) / 3),
        (Metric("f_beta", beta=2.0), (5 / (2 + 4 * 2) + 10 / (3 + 4 * 2) + 0) / 3),
        (Metric("f_beta", beta=1.0), (2 / 4 + 4 / 5 + 0) / 3),
        # Pairs of a true and a false image that are in the right order: 5 of 6, 6 of 6 and 4 of 4.
        (Metric("auc"), (5 / 6 + 1 + 1) / 3),
        (Metric("log_loss"), -math.log(0.7 * 0.3 * 0.8 * 0.6 * 0.4) / 5),
        (Metric("top_k", k=1), 3 / 5),
        (Metric("top_k", k=2), 1.0),
        (Metric("top_k", k=9), 1.0),
    ],
    ids=lambda one: one.name if isinstance(one, Metric) else None,
)
def test_a_metric_has_the_value_of_its_definition(metric: Metric, value: float) -> None:
    assert metric.of(judged()) == pytest.approx(value)


def test_kappa_with_quadratic_weights_is_that_of_the_table_of_both_labels() -> None:
    predicted, true = PROBABILITIES.argmax(1), TRUE
    seen = sum((mine - right) ** 2 for mine, right in zip(predicted.tolist(), true.tolist(), strict=True))
    by_chance = sum((mine - right) ** 2 for mine in predicted.tolist() for right in true.tolist()) / len(true)
    assert quadratic_kappa(predicted, true, ranks=(0, 1, 2)) == pytest.approx(1 - seen / by_chance)
    assert quadratic_kappa(true, true, ranks=(0, 1, 2)) == pytest.approx(1)
    assert (
        quadratic_kappa(torch.zeros(5, dtype=torch.int64), torch.zeros(5, dtype=torch.int64), ranks=(0, 1, 2)) is None
    )


def test_classes_that_are_numbers_are_in_the_order_of_the_numbers() -> None:
    assert ranks_of(["1", "10", "2"]) == (0, 2, 1)
    assert ranks_of(["mild", "none", "severe"]) == (0, 1, 2)
    far, near = torch.tensor([1]), torch.tensor([2])  # 10 and 2, for an image of 1
    metric = Metric("quadratic_kappa", ranks=ranks_of(["1", "10", "2"]))
    values = [quadratic_kappa(torch.cat([torch.tensor([0]), one]), torch.tensor([0, 0]), ranks=metric.ranks)
              for one in (far, near)]  # fmt: skip
    assert values == [0, 0]  # all truths are one label: no better than chance
    mixed = torch.tensor([0, 1, 2])
    closer = quadratic_kappa(torch.tensor([2, 1, 2]), mixed, ranks=metric.ranks)
    further = quadratic_kappa(torch.tensor([1, 1, 2]), mixed, ranks=metric.ranks)
    assert closer is not None
    assert further is not None
    assert closer > further


def test_what_is_undefined_is_never_better() -> None:
    metric = Metric("auc")
    assert metric.of(judged()[torch.tensor([0, 1])]) is None  # one class alone
    assert metric.gain(None) < metric.gain(0.0) < metric.gain(0.5)
    assert Metric("log_loss").gain(0.2) > Metric("log_loss").gain(0.3)


def test_the_metric_is_chosen_by_the_config_and_has_to_fit_the_images() -> None:
    assert metric_of(TrainConfig(), ["a", "b"], has_several=False).name == "accuracy"
    assert metric_of(TrainConfig(), ["a", "b"], has_several=True).name == "macro_f1"
    beta = metric_of(TrainConfig(metric="f_beta", metric_beta=0.5), ["a", "b"], has_several=True)
    assert (beta.beta, beta.threshold_beta) == (0.5, 0.5)
    assert metric_of(TrainConfig(metric="auc"), ["a", "b"], has_several=True).threshold_beta == 1
    for name in ("quadratic_kappa", "top_k"):
        with pytest.raises(ConfigError, match=f"`metric: {name}` needs one class an image"):
            metric_of(TrainConfig(metric=name), ["a", "b"], has_several=True)


def test_a_report_has_each_class_and_who_is_taken_for_whom() -> None:
    report = class_report(judged(), ["a", "b", "c"], has_several=False)
    assert report["confusion"] == [[1, 1, 0], [0, 2, 0], [1, 0, 0]]
    assert report["per_class"] == {
        "a": {"images": 2, "precision": 1 / 2, "recall": 1 / 2, "f1": 0.5},
        "b": {"images": 2, "precision": pytest.approx(2 / 3), "recall": 1.0, "f1": pytest.approx(0.8)},
        "c": {"images": 1, "precision": None, "recall": 0.0, "f1": 0.0},
    }
    assert class_report(judged(), ["a", "b", "c"], has_several=True)["confusion"] is None
