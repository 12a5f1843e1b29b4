"""How many epochs a run has: fitted to its hours, ended for lack of patience, and found again when it is resumed."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from cloudrun.recipe.train_config import TrainConfig
from tests.support.trainer_runs import Config, StopsAfter, Train, assert_same_run, rows
from trainer.config_file import hours_left
from trainer.distributed.ranks import ALONE
from trainer.errors import ConfigError, StoppedEarly
from trainer.outputs import checkpoint
from trainer.outputs.progress import Progress
from trainer.outputs.timing import Timing
from trainer.session.state import Best, open_state
from trainer.training.engine import _timing
from trainer.training.planning import ended_early, fitted_epochs, hours_of, most_epochs


def timed(*, step_s: float, image_s: float) -> Timing:
    timing = Timing(steps_per_epoch=10)
    for _ in range(13):
        timing.add_step(step_s)
    timing.add_evaluation(100 * image_s, images=100)
    return timing


@pytest.mark.parametrize(
    ("hours", "done", "spent_s", "epochs"),
    [
        (None, 1, 1e9, 30),
        (1.0, 1, 120.0, 30),  # an epoch takes 100 s and its validation 10 s
        (0.5, 1, 120.0, 15),
        (0.5, 14, 1650.0, 15),
        (0.5, 14, 1700.0, 14),
        (0.5, 14, 9000.0, 14),
    ],
)
def test_as_many_epochs_as_fit_into_the_hours(hours: float | None, done: int, spent_s: float, epochs: int) -> None:
    config = TrainConfig(train_hours=hours)
    timing = timed(step_s=10.0, image_s=0.1)
    found = fitted_epochs(config, done=done, spent_s=spent_s, timing=timing, val_images=100, images_at_end=100)
    assert found == epochs


def test_growing_images_count_by_their_pixels() -> None:
    timing, hours = timed(step_s=10.0, image_s=0.0), 0.5
    growing = TrainConfig(train_hours=hours, start_image_size=64)
    small, large = (
        fitted_epochs(one, done=1, spent_s=100.0, timing=timing, val_images=1, images_at_end=0)
        for one in (TrainConfig(train_hours=hours), growing)
    )
    assert small < large


@pytest.mark.parametrize(("patience", "best_epoch", "last"), [(0, 1, None), (3, 6, None), (3, 5, 8)])
def test_a_run_waits_for_a_better_epoch_as_long_as_its_patience(
    patience: int, best_epoch: int, last: int | None
) -> None:
    assert ended_early(TrainConfig(patience=patience), done=8, best_epoch=best_epoch) == last


@pytest.mark.parametrize(
    ("changes", "last"),
    [
        ({"swa_epochs": 4}, 12),
        ({"final_image_size": 288, "final_epochs": 3}, 11),
        ({"swa_epochs": 4, "epochs": 12}, None),  # the last ones have begun
    ],
)
def test_the_epochs_that_only_the_end_has_still_come_when_patience_ends(changes: dict[str, Any], last: int) -> None:
    assert ended_early(TrainConfig(**{"patience": 3, **changes}), done=8, best_epoch=5) == last


def test_a_run_that_gets_no_better_ends_and_stays_ended(
    leaves: Path, tmp_path: Path, tiny_config: Config, train_quietly: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Best, "is_beaten_by", lambda best, *_: best.epoch < 2)
    config = tiny_config(epochs=12, patience=2)
    summary = train_quietly(config, leaves, tmp_path)
    assert (summary["best_epoch"], summary["epochs"]) == (2, 4)
    assert (summary["asked_epochs"], summary["stopped_early"]) == (12, False)
    before = rows(tmp_path)
    assert before[-1]["epoch"] == summary["epochs"]
    assert train_quietly(config, leaves, tmp_path)["epochs"] == summary["epochs"]
    assert rows(tmp_path) == before


def test_a_run_that_is_fitted_to_its_hours_has_the_rates_of_a_run_of_so_many_epochs(
    leaves: Path, tmp_path: Path, tiny_config: Config, train_quietly: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trainer.training.run_length.fitted_epochs", lambda config, **_: min(config.epochs, 4))
    config = tiny_config(epochs=9, train_hours=1, warmup_epochs=1)
    train_quietly(config, leaves, tmp_path / "whole")
    train_quietly(tiny_config(epochs=4, warmup_epochs=1), leaves, tmp_path / "four")
    rates, expected = ([row["lr"] for row in rows(tmp_path / name)[2:]] for name in ("whole", "four"))
    assert rates == expected  # from the second epoch on
    assert rates[-1] < expected[0] / 10
    with pytest.raises(StoppedEarly):
        train_quietly(config, leaves, tmp_path / "stopped", StopsAfter(14))
    train_quietly(config, leaves, tmp_path / "stopped")
    assert_same_run(tmp_path / "stopped", tmp_path / "whole")


def test_the_metric_of_the_competition_chooses_the_epoch(
    leaves: Path, tmp_path: Path, tiny_config: Config, train_quietly: Train
) -> None:
    summary = train_quietly(tiny_config(metric="log_loss"), leaves, tmp_path)
    losses = [row["log_loss"] for row in rows(tmp_path)[1::2]]
    assert summary["metric_name"] == "val_log_loss"
    assert summary["best_metric"] == min(losses)
    assert summary["best_epoch"] == losses.index(min(losses)) + 1
    assert checkpoint.load(tmp_path / "checkpoints" / "best.pt")["best"]["metric"] == min(losses)
    assert summary["test_metric"] > 0


def test_the_validation_images_are_written_as_the_best_epoch_saw_them(
    leaves: Path, tmp_path: Path, tiny_config: Config, train_quietly: Train
) -> None:
    summary = train_quietly(tiny_config(), leaves, tmp_path)
    lines = (tmp_path / "predictions-val.csv").read_text().splitlines()
    classes = summary["classes"]
    assert lines[0].split(",") == ["image", "truth", "label", "confidence", *classes]
    cells = [line.split(",") for line in lines[1:]]
    assert [row[0] for row in cells] == sorted(
        path.relative_to(leaves).as_posix() for path in (leaves / "val").rglob("*.jpg")
    )
    assert all(row[1] == Path(row[0]).parent.name for row in cells)
    right = [row[1] == row[2] for row in cells]
    assert sum(right) / len(right) == summary["val_accuracy"]
    for split in ("val", "test"):
        confusion = torch.tensor(summary[f"{split}_confusion"])
        assert confusion.sum() == 12
        assert float(confusion.trace() / 12) == pytest.approx(summary[f"{split}_accuracy"])
        report = summary[f"{split}_per_class"]
        assert [report[name]["images"] for name in classes] == confusion.sum(1).tolist()
    assert json.loads((tmp_path / "summary.json").read_text())["val_per_class"] == summary["val_per_class"]


@pytest.mark.parametrize(
    ("changes", "hours_left", "spent_s", "hours"),
    [
        ({"epochs": 30}, 2.0, 0.0, None),
        ({"epochs": 30, "train_hours": 1}, 2.0, 0.0, 1.0),
        ({"epochs": "auto"}, 2.0, 0.0, 2.0),
        ({"epochs": "auto"}, 2.0, 1800.0, 2.5),  # resumed: what is left comes on top
        ({"epochs": "auto", "train_hours": 1}, 2.0, 0.0, 1.0),
    ],
)
def test_auto_is_fitted_to_the_tightest_hours(
    changes: dict[str, Any], hours_left: float, spent_s: float, hours: float | None
) -> None:
    assert hours_of(TrainConfig(**changes), hours_left=hours_left, spent_s=spent_s) == hours


def test_auto_without_hours_is_refused_before_training(
    leaves: Path, tmp_path: Path, tiny_config: Config, train_quietly: Train
) -> None:
    with pytest.raises(ConfigError, match="`epochs: auto` has no hours"):
        train_quietly(tiny_config(epochs="auto"), leaves, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("chooses", "done", "epochs", "most"), [(True, 1, 9, 100), (True, 5, 20, 100), (True, 6, 20, 20), (False, 1, 9, 9)]
)
def test_epochs_grow_at_the_beginning_alone(chooses: bool, done: int, epochs: int, most: int) -> None:
    assert most_epochs(TrainConfig(epochs=epochs), done=done, chooses=chooses) == most


def test_a_run_of_auto_epochs_takes_what_fits_and_a_resume_keeps_them(
    leaves: Path, tmp_path: Path, tiny_config: Config, train_quietly: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    fits = {1: 3, 2: 4}  # the first epoch was slow

    def fitted(config: TrainConfig, *, done: int, **_: Any) -> int:
        return min(config.epochs, fits.get(done, 4))

    monkeypatch.setattr("trainer.training.run_length.fitted_epochs", fitted)
    config = tiny_config(epochs="auto", train_hours=1)
    whole = train_quietly(config, leaves, tmp_path / "whole")
    assert (whole["epochs"], whole["asked_epochs"]) == (4, 100)
    with pytest.raises(StoppedEarly):
        train_quietly(config, leaves, tmp_path / "stopped", StopsAfter(17))  # in the third epoch
    fits.update({3: 9})  # the machine that it goes on with is faster
    train_quietly(config, leaves, tmp_path / "stopped")
    assert_same_run(tmp_path / "stopped", tmp_path / "whole")


def test_a_run_without_time_trains_one_epoch(
    leaves: Path, tmp_path: Path, tiny_config: Config, train_quietly: Train
) -> None:
    assert train_quietly(tiny_config(epochs="auto", train_hours=1e-5), leaves, tmp_path)["epochs"] == 1


def test_a_first_epoch_tells_the_watchdog_only_what_will_fit(leaves: Path, tmp_path: Path, tiny_config: Config) -> None:
    state = open_state(
        tiny_config(epochs=50, train_hours=0.1, cache_gb=0), data=leaves, labels=None, out=tmp_path,
        progress=Progress(), ranks=ALONE,
    )  # fmt: skip
    for _ in range(4):
        state.timing.add_step(10.0)
    told = _timing(state, epoch=1, step=4)
    assert told["steps_left"] < 50  # of 200, which would take 2,000 s of 360


def test_the_hours_of_the_budget_come_from_the_worker() -> None:
    assert hours_left({}) is None
    assert hours_left({"CLOUDRUN_TRAIN_HOURS": "1.5"}) == 1.5
    for wrong in ("soon", "-1", "inf", "nan"):
        with pytest.raises(ConfigError, match="not hours"):
            hours_left({"CLOUDRUN_TRAIN_HOURS": wrong})
