"""Averages at the end of a run: which weights predict, and that a killed run chooses the same."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.support.trainer_runs import Config, StopsAfter, Train, assert_same_predictions, assert_same_run, rows
from trainer.cross_validation.train_folds import train_folds
from trainer.distributed.stop import StopFlag
from trainer.errors import StoppedEarly
from trainer.model.weight_average import WeightAverage
from trainer.outputs import checkpoint
from trainer.outputs.progress import Progress
from trainer.session.build import build_setup
from trainer.session.norms import refresh_norms
from trainer.session.scores import evaluate
from trainer.session.setup import TrainingSetup
from trainer.session.state import TrainState
from trainer.tools.predict import predict
from trainer.training import engine, final_weights

# Log losses of few images differ after each epoch, where accuracies are often equal.
AVERAGED: dict[str, Any] = {"epochs": 4, "swa_epochs": 3, "soup": 3, "metric": "log_loss", "lr": 1e-3}


@pytest.fixture
def epochs_weights(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Tensor]]:
    """The weights after each epoch of the next run."""
    found: list[dict[str, Tensor]] = []
    validate = engine._validate

    def watched(state: TrainState, **named: Any) -> None:
        found.append({name: value.clone() for name, value in state.setup.model.state_dict().items()})
        validate(state, **named)

    monkeypatch.setattr(engine, "_validate", watched)
    return found


class Judge:
    """The loss on val of averages, as plainly as it can be written."""

    def __init__(self, config: Any, data: Path, weights: list[dict[str, Tensor]]) -> None:
        self.setup, self.weights = build_setup(config, data), weights

    def loss(self, epochs: list[int]) -> float:
        setup, average = self.setup, WeightAverage()
        for epoch in epochs:
            average = average.plus(epoch, self.weights[epoch - 1])
        assert average.weights is not None
        setup.model.load_state_dict(average.weights)
        if len(epochs) > 1:
            refresh_norms(setup, stop=StopFlag(), on_batch=lambda: None)
        return evaluate(setup.model, setup.val_loader(), setup.device).loss


def test_the_best_average_predicts_where_the_metric_does_not_fall(
    leaves: Path, tmp_path: Path, tiny_config: Config, train_quietly: Train, epochs_weights: list[dict[str, Tensor]]
) -> None:
    config = tiny_config(**AVERAGED)
    summary = train_quietly(config, leaves, tmp_path / "out")
    judge = Judge(config, leaves, epochs_weights)
    losses = {epoch: judge.loss([epoch]) for epoch in range(1, 5)}
    first, *others = sorted(losses, key=lambda epoch: losses[epoch])[:3]
    soup, of_soup = [first], losses[first]
    for epoch in others:
        loss = judge.loss([*soup, epoch])
        if loss <= of_soup:
            soup, of_soup = [*soup, epoch], loss
    tried = {"epoch": ([first], losses[first]), "swa": ([2, 3, 4], judge.loss([2, 3, 4]))}
    if len(soup) > 1:
        tried["soup"] = (soup, of_soup)
    source = min(tried, key=lambda name: tried[name][1])
    found = summary["weights"]
    assert (found["source"], found["epochs"]) == (source, tried[source][0])
    assert found["metric_before"] == pytest.approx(losses[first], rel=1e-5)
    assert found["metric_after"] == pytest.approx(tried[source][1], rel=1e-5)
    assert summary["best_metric"] == found["metric_after"]
    assert summary["best_epoch"] == first
    assert sorted(path.name for path in (tmp_path / "out" / "checkpoints").iterdir()) == ["best.pt", "last.pt"]
    best = checkpoint.load(tmp_path / "out" / "checkpoints" / "best.pt")
    assert best["best"]["metric"] == found["metric_after"]
    predict(tmp_path / "out" / "checkpoints" / "best.pt", data=leaves, out=tmp_path / "again.csv", device="cpu")
    assert_same_predictions(tmp_path / "again.csv", tmp_path / "out" / "predictions.csv")


def test_an_average_that_is_worse_is_not_taken(
    leaves: Path, tmp_path: Path, tiny_config: Config, train_quietly: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    def spoil(setup: TrainingSetup, **_: Any) -> None:
        with torch.no_grad():
            setup.model.head.weight.mul_(-100)

    plain = tiny_config(epochs=2, metric="log_loss")
    train_quietly(plain, leaves, tmp_path / "plain")
    losses = [row["log_loss"] for row in rows(tmp_path / "plain")[1::2]]
    monkeypatch.setattr(final_weights, "refresh_norms", spoil)
    averaged = plain.model_copy(update={"swa_epochs": 2, "soup": 2})
    summary = train_quietly(averaged, leaves, tmp_path / "averaged")
    assert summary["weights"] == {
        "source": "epoch", "epochs": [summary["best_epoch"]],
        "metric_before": min(losses), "metric_after": min(losses),
    }  # fmt: skip
    for name in ("predictions.csv", "predictions-val.csv"):
        assert (tmp_path / "plain" / name).read_bytes() == (tmp_path / "averaged" / name).read_bytes()


@pytest.mark.parametrize("ema", [0, 0.9])
def test_a_run_that_is_stopped_anywhere_chooses_the_same(
    leaves: Path, tmp_path: Path, tiny_config: Config, train_quietly: Train, ema: float
) -> None:
    config = tiny_config(**{**AVERAGED, "ema_decay": ema, "swa_lr": 0.5})
    whole = train_quietly(config, leaves, tmp_path / "whole")
    out = tmp_path / "stopped"
    for asked in (14, 13, 5):  # within epochs 3 and 4, and while averages are tried
        with pytest.raises(StoppedEarly):
            train_quietly(config, leaves, out, StopsAfter(asked))
    again = train_quietly(config, leaves, out)
    assert again["weights"] == whole["weights"]
    assert again["weights"]["source"] != "epoch"
    assert_same_run(out, tmp_path / "whole")
    finished = train_quietly(config, leaves, out)  # chosen already
    assert finished["weights"] == whole["weights"]
    assert finished["best_metric"] == whole["best_metric"]
    assert_same_run(out, tmp_path / "whole")


def test_a_run_that_goes_on_averages_its_new_last_epochs(
    leaves: Path, tmp_path: Path, tiny_config: Config, train_quietly: Train
) -> None:
    first = train_quietly(tiny_config(**AVERAGED), leaves, tmp_path)
    longer = train_quietly(tiny_config(**{**AVERAGED, "epochs": 6}), leaves, tmp_path)
    assert longer["weights"] is not None
    assert longer["weights"]["metric_after"] <= first["weights"]["metric_after"]
    assert longer["best_metric"] == longer["weights"]["metric_after"]


def test_each_fold_averages_its_own(leaves: Path, tmp_path: Path, tiny_config: Config) -> None:
    config = tiny_config(**{**AVERAGED, "folds": 2, "fold": "all", "epochs": 3, "tta": "flip"})
    with (tmp_path / "log").open("w") as log:
        train_folds(config, data=leaves, out=tmp_path / "out", stop=StopFlag(), progress=Progress(stream=log))
    for fold in range(2):
        summary = json.loads((tmp_path / "out" / f"fold-{fold}" / "summary.json").read_text())
        assert set(summary["weights"]) == {"source", "epochs", "metric_before", "metric_after"}
    assert (tmp_path / "log").read_text().count("weights: ") == 2


def test_the_rate_stays_where_averaging_asks_for_it(
    leaves: Path, tmp_path: Path, tiny_config: Config, train_quietly: Train
) -> None:
    config = tiny_config(epochs=4, swa_epochs=2, swa_lr=0.25, lr=1e-3)
    train_quietly(config, leaves, tmp_path)
    rates = [row["lr"] for row in rows(tmp_path)[1::2]]
    assert rates[2:] == pytest.approx([2.5e-4] * 2)
    assert rates[1] > rates[2]
    assert torch.isfinite(torch.tensor(rates)).all()
