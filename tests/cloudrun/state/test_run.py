"""A run's life, step by step: what each step changes of the record, and what it leaves alone."""

from __future__ import annotations

from datetime import timedelta

import pytest

from cloudrun.state.records import Estimate, JobState, Phase, Progress, Result, now_utc
from cloudrun.state.run import Assignment, Ending, Run, Sighting, new_run
from tests.support.runs import an_aws_quote

NOW = now_utc()
MINUTE = timedelta(minutes=1)
JOB = Assignment(
    job={"lifecycle": {"on_finish": "down"}}, backend="sky", infra="aws", gpu=("A100:1",), store_uri=None, endpoint=None
)


def a_new_run() -> Run:
    return new_run("plants-1", "plants", JOB, job_path="/plants.yaml", folder="/runs/plants-1", now=NOW)


def rented() -> Run:
    return a_new_run().asking_for_machine(rented_by="me", now=NOW).rented(an_aws_quote(), NOW + MINUTE)


def ended(reason: str = "finished") -> Result:
    return Result.model_validate(
        {"reason": reason, "exit_code": 0, "message": "", "started_at": NOW, "finished_at": NOW + 2 * MINUTE}
    )


def test_a_whole_life_opens_one_bill_and_closes_it() -> None:
    run = a_new_run()
    assert not run.may_bill
    run = run.estimated(None, an_aws_quote()).asking_for_machine(rented_by="me", now=NOW)
    assert (run.may_bill, run.billed_from, run.start_is) == (True, NOW, "request")
    run = run.rented(an_aws_quote(), NOW + MINUTE).begun("node://plants-1/run").left_to_itself()
    assert (run.phase, run.handed_over, run.last_seen_at) == (Phase.PREPARING, True, NOW + MINUTE)
    run = run.looked_at(Sighting(NOW + 3 * MINUTE, JobState.ACTIVE, None, ended()))
    assert (run.phase, run.exit_code, run.may_bill) == (Phase.SUCCEEDED, 0, True)
    run = run.fetched("/runs/plants-1", is_complete=True).came_home(began_at=NOW, now=NOW + 4 * MINUTE)
    run = run.released(
        Ending(NOW + 5 * MINUTE), disk_until=NOW + 5 * MINUTE, else_phase=Phase.STOPPED, now=NOW + 6 * MINUTE
    )
    assert (run.phase, run.may_bill, run.end_is_proven, run.eta_s) == (Phase.SUCCEEDED, False, True, None)
    assert (run.released_at, run.finished_at) == (NOW + 5 * MINUTE, NOW + 2 * MINUTE)


def test_a_bill_that_is_open_is_not_opened_anew() -> None:
    first = a_new_run().asking_for_machine(rented_by="me", now=NOW)
    again = first.asking_for_machine(rented_by="you", now=NOW + MINUTE)
    assert (again.billed_from, again.rented_by) == (NOW, "you")


@pytest.mark.parametrize(
    ("since", "counts"),
    [(NOW + MINUTE, True), (NOW - timedelta(seconds=4), True), (NOW - MINUTE, False), (NOW + 9 * MINUTE, False)],
)
def test_the_providers_time_counts_where_both_clocks_can_be_right(since: object, *, counts: bool) -> None:
    run = a_new_run().asking_for_machine(rented_by="me", now=NOW)
    noticed = run.noticed(since, 2.5, now=NOW + 2 * MINUTE)  # type: ignore[arg-type]
    assert (noticed.billed_from == since, noticed.start_is == "provider") == (counts, counts)
    assert noticed.last_seen_at == NOW + 2 * MINUTE


def test_a_machine_that_nobody_saw_is_not_billed_when_none_is_had() -> None:
    run = a_new_run().asking_for_machine(rented_by="me", now=NOW).not_rented("sold out", NOW + MINUTE)
    assert (run.phase, run.exit_code, run.message, run.billed_from) == (Phase.FAILED, 3, "sold out", None)


def test_a_machine_that_was_seen_is_billed_until_then_when_it_is_not_had() -> None:
    run = a_new_run().asking_for_machine(rented_by="me", now=NOW).seen(NOW + MINUTE)
    run = run.not_rented("too dear", NOW + 2 * MINUTE)
    assert (run.billed_from, run.released_at, run.end_is_proven) == (NOW, NOW + MINUTE, True)


def test_the_next_machine_has_a_bill_of_its_own() -> None:
    run = rented().next_machine(NOW + 2 * MINUTE)
    (earlier,) = run.earlier
    assert (earlier.billed_from, earlier.released_at) == (NOW, NOW + MINUTE)
    assert (run.billed_from, run.quote, run.last_seen_at) == (NOW + 2 * MINUTE, None, None)


def test_a_final_phase_is_never_reopened_by_a_look() -> None:
    run = rented().stopped("asked to stop").looked_at(Sighting(NOW + MINUTE, JobState.ACTIVE, None, ended("failed")))
    assert run.phase is Phase.STOPPED


def test_a_job_that_left_no_result_says_why() -> None:
    run = rented().begun("node://x").looked_at(Sighting(NOW + 2 * MINUTE, JobState.IDLE, why="out of memory"))
    assert (run.phase, run.exit_code) == (Phase.FAILED, 1)
    assert (run.message, run.finished_at) == ("it left no result: out of memory", NOW + 2 * MINUTE)


def test_a_machine_that_is_gone_is_billed_to_the_last_moment_that_proves_it_was_up() -> None:
    run = rented().begun("node://x").looked_at(Sighting(NOW + 9 * MINUTE, JobState.ABSENT))
    assert (run.phase, run.released_at, run.released_by) == (Phase.LOST, NOW + MINUTE, NOW + 9 * MINUTE)
    assert run.found_alive().may_bill


def test_a_heartbeat_carries_progress_and_the_corrected_estimate_into_the_record() -> None:
    beat = Progress(phase="run", heartbeat_at=NOW, epoch=2, epochs=5, eta_s=9.0, projected_s=60.0, projected_usd=0.1)
    run = rented().begun("node://x").looked_at(Sighting(NOW, JobState.ACTIVE, beat))
    assert (run.phase, run.epoch, run.epochs, run.eta_s) == (Phase.RUNNING, 2, 5, 9.0)
    assert (run.projected_s, run.projected_usd) == (60.0, 0.1)


def test_a_resumed_run_keeps_its_bills_and_forgets_how_it_ended() -> None:
    made = Estimate(parts=(), low_s=1.0, high_s=2.0, low_usd=0.1, high_usd=0.2, rests_on="a guess")
    before = rented().looked_at(Sighting(NOW, JobState.ACTIVE, None, ended("failed")))
    before = before.fetched("/x", is_complete=True).gone(Ending(NOW + 3 * MINUTE))
    run = before.reopened(JOB).estimated(made, None).without_machine(before.closed_intervals(NOW + 3 * MINUTE))
    assert (run.phase, run.message, run.exit_code, run.home_complete) == (Phase.LAUNCHING, "", None, False)
    assert [one.released_at for one in run.earlier] == [NOW + 3 * MINUTE]
    assert (run.billed_from, run.quote, run.run_uri, run.estimate) == (None, None, None, made)
    assert run.attempt != before.attempt


def test_the_first_fetch_that_brings_the_final_results_counts() -> None:
    first = rented().came_home(began_at=NOW, now=NOW + MINUTE)
    assert first.came_home(began_at=NOW + MINUTE, now=NOW + 2 * MINUTE) == first
