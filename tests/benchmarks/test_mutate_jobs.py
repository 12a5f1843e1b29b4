"""Random job files and `--set` values are valid or refused as the contract says; `benchmarks.mutate_jobs` has more."""

from __future__ import annotations

from pathlib import Path

from benchmarks.mutate_jobs import Trial, fault_of, trial


def test_no_random_job_file_ends_in_a_traceback(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    answers = [(number, *fault_of(trial(19, number), tmp_path)) for number in range(150)]
    assert [(number, fault) for number, _, fault in answers if fault is not None] == []
    assert {kind for _, kind, _ in answers} == {"valid", "refused"}


def test_the_harness_sees_a_fault(tmp_path: Path) -> None:
    """A name that no file has: the folder is missing, so that writing the job file fails outside of cloudrun."""
    kind, fault = fault_of(Trial(b"name: x\n", ()), tmp_path / "missing")
    assert kind == "fault"
    assert fault is not None
    assert "FileNotFoundError" in fault
