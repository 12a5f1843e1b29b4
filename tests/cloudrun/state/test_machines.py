"""Machines by their names: whose they are, and what they cost."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from cloudrun.state.machines import Scan, find_machines, orphans
from cloudrun.state.run import Run
from tests.support.backends import a_machine

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)


def a_run(run_id: str, **changes: Any) -> Run:
    fields = {
        "run_id": run_id, "name": "r", "backend": "sky", "infra": "slurm", "gpu": (), "job": {}, "job_path": "r.yaml",
        "created_at": NOW, "billed_from": NOW,
    }  # fmt: skip
    return Run.model_validate({**fields, **changes})


@pytest.mark.parametrize(
    "name",
    [
        "cloudrun-plants-1124-x7k2m",
        "cloudrun-plants-1124-x7k2m-fcd1e5cf",  # Slurm, AWS
        "cloudrun-plants-1124-x7k2m-fcd1e5cf-head",  # RunPod, Vast, Lambda
        "cloudrun-plants-1124-x7k2m-fcd1e5cf-worker3",
    ],
)
def test_a_machines_name_tells_its_run_with_and_without_skypilots_owner(name: str) -> None:
    assert a_machine(name).run_id == "plants-1124-x7k2m"


def test_a_machine_of_a_run_that_is_billed_is_no_orphan() -> None:
    scan = Scan(at=NOW, machines=(a_machine("cloudrun-a-1124-aaaaa"), a_machine("cloudrun-b-1124-bbbbb")))
    assert [machine.run_id for machine in orphans(scan, [a_run("a-1124-aaaaa")])] == ["b-1124-bbbbb"]


def test_a_machine_whose_run_was_called_ended_is_a_orphan() -> None:
    scan = Scan(at=NOW, machines=(a_machine("cloudrun-a-1124-aaaaa"),))
    assert len(orphans(scan, [a_run("a-1124-aaaaa", released_at=NOW)])) == 1


def test_a_machine_that_ended_after_the_scan_is_no_orphan() -> None:
    scan = Scan(at=NOW, machines=(a_machine("cloudrun-a-1124-aaaaa"),))
    later, earlier = NOW + timedelta(seconds=9), NOW - timedelta(seconds=9)
    assert orphans(scan, [a_run("a-1124-aaaaa", released_at=later, end_is_proven=True)]) == []
    assert len(orphans(scan, [a_run("a-1124-aaaaa", released_at=earlier, end_is_proven=True)])) == 1


@pytest.mark.parametrize("text", ["cloudrun-a-1124-aaaaa-fcd1e5cf", "cloudrun-a-1124-aaaaa", "a-1124-aaaaa", "h:7"])
def test_a_machine_is_found_by_whatever_it_is_called(text: str) -> None:
    machine = a_machine("cloudrun-a-1124-aaaaa-fcd1e5cf")
    assert find_machines([machine, a_machine("cloudrun-b-1124-bbbbb", handle="h:8")], text) == [machine]


def test_all_machines_of_a_run_on_several_are_found_by_its_name() -> None:
    """Some providers call them all the same, some by their part in the cluster."""
    alike = [a_machine("cloudrun-a-1124-aaaaa-fcd1e5cf", handle=f"us-east-1:i-{number}") for number in (1, 2)]
    parts = [a_machine(f"cloudrun-a-1124-aaaaa-fcd1e5cf-{part}", handle=part) for part in ("head", "worker1")]
    assert find_machines(alike, "a-1124-aaaaa") == alike
    assert find_machines(parts, "cloudrun-a-1124-aaaaa") == parts
    assert find_machines(alike, "us-east-1:i-2") == alike[1:]


def test_what_a_orphan_costs_is_only_said_where_the_price_is_known() -> None:
    up = {"up_since": NOW - timedelta(hours=2)}
    assert a_machine("cloudrun-a", hourly_usd=1.5, **up).cost_usd(NOW) == 3.0
    assert a_machine("cloudrun-a", **up).cost_usd(NOW) is None
