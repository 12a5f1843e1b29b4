"""How many epochs `epochs: auto` is expected to have, by budget, speed and what comes before."""

from __future__ import annotations

from typing import Any

import pytest

from cloudrun.forecast.estimate import Machine, estimate
from cloudrun.forecast.fitting import Fitting, fit
from cloudrun.forecast.workload import Workload, workload_of
from cloudrun.job.spec import JobSpec
from cloudrun.state.records import Estimate, Part


def a_workload(images: int = 1000, *, budget: dict[str, float] | None = None, **train: Any) -> Workload:
    spec = JobSpec.model_validate(
        {"name": "plants", "data": {"source": "/data"}, "train": {"epochs": "auto", **train}, "budget": budget or {}}
    )
    return workload_of(spec, {"train": images, "val": 100, "test": 0}, images * 50_000)


OTHERS = [Part(name="setup", low_s=60, high_s=360), Part(name="release", low_s=0, high_s=120)]


def fitted(workload: Workload, train_s: tuple[float, float], hourly_usd: float | None = 1.0) -> Fitting:
    found = fit(workload, train_s, OTHERS, hourly_usd=hourly_usd)
    assert found is not None
    return found


def test_as_many_epochs_as_fit_beside_the_other_parts_and_a_reserve() -> None:
    found = fitted(a_workload(budget={"max_hours": 1, "max_cost": 5}), (6000.0, 30_000.0))
    assert found.train_s == (3000.0, 3000.0)  # an hour less 480 s, and less 120 s
    assert found.epochs == (10, 50)
    assert found.rests_on == "`epochs: auto`: 10 to 50 epochs in up to 0.83 h of training (budget.max_hours)"


@pytest.mark.parametrize(
    ("changes", "hourly_usd", "limit", "hours"),
    [
        ({"budget": {"max_hours": 4, "max_cost": 1}}, 1.0, "budget.max_cost", 3000 / 3600),
        ({"budget": {"max_hours": 4, "max_cost": 1}}, None, "budget.max_hours", 13_800 / 3600),
        ({"train_hours": 0.5}, 1.0, "train.train_hours", 0.5),
    ],
)
def test_the_tightest_limit_decides(changes: dict[str, Any], hourly_usd: float, limit: str, hours: float) -> None:
    found = fitted(a_workload(**changes), (6000.0, 30_000.0), hourly_usd)
    assert (found.limit, found.hours) == (limit, pytest.approx(hours))


def test_small_data_do_not_train_for_ever_and_little_money_trains_an_epoch() -> None:
    assert fitted(a_workload(), (50.0, 100.0)) == Fitting(
        (50.0, 100.0), (100, 100), pytest.approx(13_800 / 3600), "budget.max_hours"
    )
    assert fitted(a_workload(budget={"max_cost": 0.01}), (1e6, 2e6)).epochs == (1, 1)


def test_folds_share_the_money() -> None:
    found = fitted(a_workload(budget={"max_hours": 1}, folds=5, fold="all"), (15_000.0, 30_000.0))
    assert found.epochs == (10, 20)


def test_a_number_of_epochs_is_not_fitted() -> None:
    assert fit(a_workload(epochs=30), (1.0, 2.0), OTHERS, hourly_usd=1.0) is None
    chosen = a_workload().after(3, chosen=20)
    assert (chosen.epochs, chosen.budget) == (17, None)
    assert a_workload().after(3).budget is not None


def test_an_estimate_of_auto_is_within_its_budget() -> None:
    workload = a_workload(images=20_000, budget={"max_cost": 2, "max_hours": 4})
    made = estimate(workload, Machine("A100:1", "runpod", "A100:1", 16, 2.0), [])
    assert isinstance(made, Estimate)
    assert made.epochs is not None
    assert 1 <= made.epochs[0] < made.epochs[1] < 100
    assert made.high_usd is not None
    assert made.high_usd <= 2
    assert "(budget.max_cost)" in made.rests_on
