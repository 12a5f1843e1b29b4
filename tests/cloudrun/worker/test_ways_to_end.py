"""How a machine is ended from within: the order of things, and what is never tried."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from cloudrun.worker import ending
from cloudrun.worker.ending import insist_on_the_end, ways_to_end
from tests.support.orders import an_order

SKYLET, SKYPILOT = "have skylet end the machine", "let SkyPilot end the machine"
GENTLY, BY_FORCE = "end the Slurm allocation", "cancel the Slurm allocation"
OFF = "power the machine off"


@pytest.mark.parametrize(
    ("kind", "cloud", "slurm_job", "tried_s", "ways"),
    [
        ("skypilot", "aws", None, 0.0, [SKYLET, SKYPILOT]),
        ("skypilot", "aws", None, 599.0, [SKYLET, SKYPILOT]),
        ("skypilot", "aws", None, 600.0, [SKYLET, SKYPILOT, OFF]),
        ("skypilot", "gcp", None, 600.0, [SKYLET, SKYPILOT, OFF]),
        ("skypilot", "azure", None, 9999.0, [SKYLET, SKYPILOT]),  # what is off and allocated bills in full
        ("skypilot", "lambda", None, 9999.0, [SKYLET, SKYPILOT]),
        ("skypilot", "runpod", None, 9999.0, [SKYLET, SKYPILOT]),
        ("skypilot", "vast", None, 9999.0, [SKYLET, SKYPILOT]),
        ("skypilot", "kubernetes", None, 9999.0, [SKYLET, SKYPILOT]),
        ("skypilot", "nebius", None, 9999.0, [SKYLET, SKYPILOT]),
        ("skypilot", "", None, 9999.0, [SKYLET, SKYPILOT]),
        ("slurm", "slurm", "7", 0.0, [GENTLY, BY_FORCE, SKYPILOT]),
        ("slurm", "slurm", None, 9999.0, [SKYLET, SKYPILOT]),  # no allocation to be seen
    ],
)
def test_the_ways_of_each_cloud(kind: str, cloud: str, slurm_job: str | None, tried_s: float, ways: list[str]) -> None:
    order = an_order("true", ending=kind, cloud=cloud)
    found = ways_to_end(order, slurm_job=slurm_job, tried_s=tried_s, python="/sky/python")
    assert [way.text for way in found] == ways


def test_nothing_that_a_machine_runs_to_end_itself_stops_ray() -> None:
    """`ray stop` kills the SkyPilot job, and so whoever asks from within it."""
    for way in ways_to_end(an_order("true", ending="skypilot", cloud="aws"), slurm_job=None, tried_s=1e6, python="p"):
        assert not {"_stop_cluster", "StopEvent"} & set(
            " ".join(way.command).replace("(", " ").replace(".", " ").split()
        )


def test_the_machine_is_given_time_for_skylets_next_look_and_not_more_than_the_promise() -> None:
    skylet, terminate = ways_to_end(an_order("true", ending="skypilot"), slurm_job=None, tried_s=0, python="p")
    order = an_order("true", ending="skypilot")
    assert skylet.patience_s >= 75
    assert skylet.patience_s - order.end_lead_s + terminate.patience_s <= 75


@pytest.mark.parametrize("fails", [True, False])
def test_whoever_calls_it_off_is_heard_between_two_ways(
    fails: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    python = tmp_path / "skypilot-runtime" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(f"#!/bin/sh\necho x >> {tmp_path}/asked\nexit {int(fails)}\n")
    python.chmod(0o755)
    monkeypatch.setenv("SKY_RUNTIME_DIR", str(tmp_path))
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    asked = tmp_path / "asked"
    said: list[str] = []
    began = time.monotonic()
    insist_on_the_end(an_order("true", ending="skypilot"), say=said.append, is_called_off=asked.exists)
    assert asked.read_text() == "x\n"
    assert said == []
    assert time.monotonic() - began < 10


def test_a_way_that_fails_is_told_and_the_next_one_is_tried_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SKY_RUNTIME_DIR", str(tmp_path))  # there is no SkyPilot
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    said: list[str] = []
    insist_on_the_end(an_order("true", ending="skypilot"), say=said.append, is_called_off=lambda: len(said) == 2)
    assert [line.split(": ")[0] for line in said] == [f"tried to {SKYLET}", f"tried to {SKYPILOT}"]


def test_what_did_not_work_is_told_in_its_own_words(tmp_path: Path) -> None:
    assert ending.try_to_end(["sh", "-c", "echo first; echo no credentials >&2; exit 3"]) == "no credentials"
    assert ending.try_to_end(["sh", "-c", "exit 3"]) == "exit code 3"
    assert "No such file" in ending.try_to_end([str(tmp_path / "none")])
    assert ending.try_to_end(["true"]) == ""
