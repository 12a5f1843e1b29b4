"""The ledger survives kills and company: what may cost money is never forgotten."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cloudrun.backends.local import LocalBackend
from cloudrun.errors import NoSuchRun
from cloudrun.runs.context import Context
from cloudrun.runs.refresh import record
from cloudrun.state.home import may_bill
from cloudrun.state.ledger import BeingLaunched, Ledger, LedgerDamaged
from cloudrun.state.records import JobState, Measured, Phase, Result, now_utc
from cloudrun.state.run import Assignment, Ending
from tests.support.checkout import CHECKOUT
from tests.support.processes import program
from tests.support.runs import a_local_run, an_aws_quote


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger(tmp_path)


def test_a_new_process_reads_what_another_recorded(ledger: Ledger) -> None:
    ledger.add(a_local_run("plants-1"))
    ledger.update("plants-1", lambda run: run.begun("file:///tmp/plants-1"))
    again = Ledger(ledger.home).get("plants-1")
    assert (again.phase, again.run_uri) == (Phase.PREPARING, "file:///tmp/plants-1")


def test_one_id_is_never_given_twice(ledger: Ledger) -> None:
    ledger.add(a_local_run("plants-1"))
    with pytest.raises(FileExistsError):
        ledger.add(a_local_run("plants-1"))


@pytest.mark.parametrize(
    ("prefix", "found"), [("plants-1", "plants-1"), ("plants-12", "plants-12"), (None, "plants-2")]
)
def test_a_run_is_found_by_id_prefix_or_age(ledger: Ledger, prefix: str | None, found: str) -> None:
    for run_id in ("plants-1", "plants-12", "plants-2"):
        ledger.add(a_local_run(run_id))
    assert ledger.find(prefix).run_id == found


def test_an_ambiguous_prefix_names_the_runs_it_could_mean(ledger: Ledger) -> None:
    for run_id in ("plants-11", "plants-12"):
        ledger.add(a_local_run(run_id))
    with pytest.raises(NoSuchRun, match="plants-11, plants-12"):
        ledger.find("plants-1")


def test_a_damaged_record_hides_no_other_run_and_names_its_machine(ledger: Ledger) -> None:
    ledger.add(a_local_run("plants-1"))
    ledger.add(a_local_run("plants-2"))
    (ledger.home / "ledger" / "plants-2.json").write_text("{half")
    assert [run.run_id for run in ledger.all()] == ["plants-1"]
    assert "sky down cloudrun-plants-2" in ledger.damaged()[0].hint


def writer(ledger: Ledger, times: int, field: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        program("count_in_ledger", ledger.home, times, field),
        cwd=CHECKOUT,
        stdout=subprocess.PIPE,
        text=True,
    )


def test_what_a_killed_command_has_half_written_goes_with_the_next_change(ledger: Ledger) -> None:
    ledger.add(a_local_run("r1"))
    left = ledger.home / "ledger" / "r1.4711.tmp"
    left.write_text("half")
    other = ledger.home / "ledger" / "r1-b.4711.tmp"  # another run's, which may be being written
    other.write_text("half")
    ledger.update("r1", lambda run: run)
    assert not left.exists()
    assert other.exists()


def test_a_record_that_cannot_be_written_is_named_and_leaves_nothing(ledger: Ledger) -> None:
    ledger.add(a_local_run("r1"))
    path = ledger.home / "ledger" / "r1.json"
    before = path.read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    had = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10, hard))  # as a full disk: a write fails in the middle
    try:
        with pytest.raises(OSError, match="too large") as caught:
            ledger.update("r1", lambda run: run)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, had)
    assert caught.value.filename == str(path)
    assert path.read_bytes() == before
    assert list(path.parent.glob("*.tmp")) == []


def test_two_commands_at_once_lose_no_change(ledger: Ledger) -> None:
    ledger.add(a_local_run("plants-1"))
    writers = [writer(ledger, 101, field) for field in ("epoch", "epochs")]
    assert [process.wait(60) for process in writers] == [0, 0]
    for process in writers:
        assert process.stdout is not None
        process.stdout.close()
    run = ledger.get("plants-1")
    assert (run.epoch, run.epochs) == (100, 100)


@pytest.mark.parametrize("milliseconds", [3, 11, 29, 53])
def test_a_kill_at_any_instant_leaves_a_whole_record(ledger: Ledger, milliseconds: int) -> None:
    ledger.add(a_local_run("plants-1"))
    process = writer(ledger, 1_000_000, "epoch")
    assert process.stdout is not None
    process.stdout.readline()
    time.sleep(milliseconds / 1000)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    process.stdout.close()
    before = ledger.get("plants-1").epoch or 0
    ledger.update(
        "plants-1", lambda run: run.model_copy(update={"epoch": before + 1})
    )  # the lock went with the process
    assert ledger.get("plants-1").epoch == before + 1


def test_a_launch_is_seen_as_long_as_its_process_lives(ledger: Ledger) -> None:
    code = (
        "import sys; from pathlib import Path; from cloudrun.state.ledger import Ledger\n"
        "with Ledger(Path(sys.argv[1])).launching('plants-1'): print('ready', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(ledger.home)],
        stdout=subprocess.PIPE,
        stdin=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        assert ledger.is_launching("plants-1")
        process.kill()
    assert not ledger.is_launching("plants-1")


def test_two_commands_never_launch_one_run(ledger: Ledger) -> None:
    with ledger.launching("plants-1"), pytest.raises(BeingLaunched), ledger.launching("plants-1"):
        pass
    with ledger.launching("plants-1"):
        assert ledger.is_launching("plants-1")
    assert not ledger.is_launching("plants-1")


def test_a_record_that_cannot_be_read_says_so_when_its_run_is_named(ledger: Ledger) -> None:
    ledger.add(a_local_run("plants-1"))
    (ledger.home / "ledger" / "plants-1.json").write_text("{half")
    with pytest.raises(LedgerDamaged):
        ledger.find("plants-1")


def test_what_was_seen_late_does_not_undo_what_another_command_has_written(ledger: Ledger, tmp_path: Path) -> None:
    ended = now_utc()
    ledger.add(a_local_run("plants-1", phase=Phase.RUNNING, billed_from=ended))
    before_the_look = ledger.get("plants-1")
    ledger.update("plants-1", lambda run: run.stopped("asked to stop"))  # `down`, while the look went on
    ledger.update(
        "plants-1", lambda run: run.released(Ending(ended), disk_until=ended, else_phase=Phase.LOST, now=ended)
    )
    after = record(before_the_look, Context(ledger, LocalBackend(tmp_path)), JobState.ABSENT, None, None)
    assert (after.phase, after.message, after.released_at) == (Phase.STOPPED, "asked to stop", ended)
    assert (after.exit_code, after.finished_at, after.end_is_proven) == (None, ended, True)


def test_a_machine_that_its_provider_took_back_was_not_stopped_by_its_user(ledger: Ledger, tmp_path: Path) -> None:
    began = now_utc()
    ledger.add(a_local_run("plants-1", phase=Phase.RUNNING, billed_from=began))
    said = {"reason": "preempted", "exit_code": 75, "message": "", "started_at": began, "finished_at": began}
    result = Result.model_validate(said)
    after = record(ledger.get("plants-1"), Context(ledger, LocalBackend(tmp_path)), JobState.UNKNOWN, None, result)
    assert (after.phase, after.phase.is_final, after.phase.exit_code) == (Phase.PREEMPTED, True, 1)
    assert after.may_bill  # until its end is proven


def test_a_result_of_the_attempt_before_does_not_end_a_run_that_was_resumed(ledger: Ledger, tmp_path: Path) -> None:
    began = now_utc()
    ledger.add(a_local_run("plants-1", phase=Phase.RUNNING, billed_from=began))
    before_the_look = ledger.get("plants-1")
    attempt = {"name": "run", "from": began.isoformat(), "to": began.isoformat(), "seconds": 0.0}
    ledger.update("plants-1", lambda run: run.model_copy(update={"phases": (attempt,)}))
    again = Assignment(job={}, backend="local", infra="local", gpu=(), store_uri=None, endpoint=None)
    ledger.update("plants-1", lambda run: run.reopened(again))  # `resume`, while the look went on
    result = Result(reason="stopped", exit_code=75, message="", started_at=began, finished_at=began)
    after = record(before_the_look, Context(ledger, LocalBackend(tmp_path)), JobState.ACTIVE, None, result)
    assert (after.phase, after.exit_code) == (Phase.LAUNCHING, None)


def damage(ledger: Ledger, run_id: str, content: bytes) -> None:
    (ledger.home / "ledger" / f"{run_id}.json").write_bytes(content)


def edited(ledger: Ledger, run_id: str, **fields: object) -> bytes:
    """A record with some of its fields replaced, as by an editor."""
    return json.dumps({**json.loads((ledger.home / "ledger" / f"{run_id}.json").read_bytes()), **fields}).encode()


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "empty"),
        (b"\xff\xfe", "not JSON"),
        (b"[" * 200_000, "nested too deeply"),
        (b'{"a":' * 200_000, "nested too deeply"),
        (b"[]", "a list"),
        (b" " * 17_000_000, "larger than 16 MB"),
    ],
)
def test_a_record_that_is_none_is_named_and_hides_no_other(ledger: Ledger, content: bytes, why: str) -> None:
    for run_id in ("plants-1", "plants-2"):
        ledger.add(a_local_run(run_id))
    damage(ledger, "plants-2", content)
    assert [run.run_id for run in ledger.all()] == ["plants-1"]
    assert why in ledger.damaged()[0].message
    assert may_bill(ledger.home)  # it may stand for a machine


@pytest.mark.parametrize(
    "fields",
    [
        {"created_at": "2026-11-24T12:00:00"},  # no time zone
        {"billed_from": "9999-12-31T23:59:59Z"},
        {"epoch": 10**400},
        {"projected_usd": float("nan")},
        {"phase": "hibernating"},
        {"job": {"budget": 5}},
        {"job": {"budget": {"max_cost": 0, "max_hours": 4}}},
        {"job": {"budget": {"max_cost": 5, "max_hours": 1e9}}},
        {"job": {"lifecycle": {}}},
    ],
)
def test_a_record_with_an_impossible_value_is_named_and_hides_no_other(
    ledger: Ledger, fields: dict[str, object]
) -> None:
    for run_id in ("plants-1", "plants-2"):
        ledger.add(a_local_run(run_id))
    damage(ledger, "plants-2", edited(ledger, "plants-2", **fields))
    assert [run.run_id for run in ledger.all()] == ["plants-1"]
    (name,) = fields
    assert f"`{name}`" in ledger.damaged()[0].message


def test_folders_and_pipes_under_the_name_of_a_record_are_named(ledger: Ledger) -> None:
    ledger.add(a_local_run("plants-1"))
    (ledger.home / "ledger" / "plants-2.json").mkdir()
    os.mkfifo(ledger.home / "ledger" / "plants-3.json")
    assert [one.run_id for one in ledger.damaged()] == ["plants-2", "plants-3"]
    assert ledger.find("plants-1").run_id == "plants-1"
    assert may_bill(ledger.home)


def test_a_record_of_a_newer_version_is_read_without_what_that_added(ledger: Ledger) -> None:
    ledger.add(a_local_run("plants-1", quote=an_aws_quote()))
    quote = {**an_aws_quote().model_dump(mode="json"), "carbon_kg": 3}
    damage(ledger, "plants-1", edited(ledger, "plants-1", quote=quote, tide="high"))
    assert ledger.get("plants-1").quote == an_aws_quote()


def test_a_slip_in_the_name_of_a_money_field_is_refused() -> None:
    with pytest.raises(ValueError, match="projected_used"):
        a_local_run("plants-1", projected_used=3.0)
    with pytest.raises(ValueError, match="disk_hourly"):
        an_aws_quote(disk_hourly=0.1)


@pytest.mark.parametrize("speed", ["fast", float("nan"), float("inf")])
def test_what_could_not_be_read_back_is_not_written(ledger: Ledger, speed: object) -> None:
    ledger.add(a_local_run("plants-1"))
    measured = Measured(kind="run", machine="cpu", infra="local").model_copy(update={"images_per_s": speed})
    with pytest.raises(ValueError, match="images_per_s"):
        ledger.update("plants-1", lambda run: run.took(measured))
    assert ledger.get("plants-1").measured is None


def test_numbers_without_end_in_a_job_are_not_written(ledger: Ledger) -> None:
    with pytest.raises(ValueError, match="another record"):
        ledger.add(a_local_run("plants-1", job={"train": {"lr": 10**400}}))
    assert ledger.all() == []


def test_an_older_run_never_takes_the_place_of_the_newest_that_cannot_be_read(ledger: Ledger) -> None:
    ledger.add(a_local_run("plants-1", created_at="2026-11-24T12:00:00Z"))
    ledger.add(a_local_run("plants-2"))
    damage(ledger, "plants-2", b"{half")
    for meant in (None, "plants-2"):
        with pytest.raises(LedgerDamaged, match="plants-2"):
            ledger.find(meant)
    with pytest.raises(NoSuchRun, match="plants-1, plants-2"):
        ledger.find("plants")


@pytest.mark.parametrize("name", ["", " ", "x" * 5000, "../plants-1", "a\0b", "[a"])
def test_an_odd_name_names_no_run(ledger: Ledger, name: str) -> None:
    ledger.add(a_local_run("plants-1"))
    with pytest.raises(NoSuchRun):
        ledger.find(name)


def test_a_damaged_record_of_this_computer_says_how_its_processes_end(ledger: Ledger) -> None:
    ledger.add(a_local_run("plants-1"))
    (ledger.home / "local" / "plants-1").mkdir(parents=True)
    damage(ledger, "plants-1", b"{half")
    assert f"fuser -k {ledger.home}/local/plants-1/lock" in ledger.damaged()[0].hint
