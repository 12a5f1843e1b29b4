"""What a newcomer meets in the first hour: a run that is still rented, a narrow terminal, Ctrl-C, a read-only home."""

from __future__ import annotations

import json
import signal
import sqlite3
import threading
from datetime import timedelta
from pathlib import Path
from typing import cast

import pytest

from cloudrun.backends import Backend
from cloudrun.dataset.duplicates import find_duplicates
from cloudrun.dataset.survey import survey_folder
from cloudrun.job.job_file import load_job
from cloudrun.render.tables import ps_table
from cloudrun.runs.console import Console
from cloudrun.runs.context import Context
from cloudrun.runs.logs import await_log
from cloudrun.state.ledger import Ledger
from cloudrun.state.records import JobState, Phase, now_utc
from cloudrun.text.names import name_from
from cloudrun.text.units import age, brief_duration
from cloudrun.worker.policy import time_text
from tests.support.backends import OneMachine
from tests.support.runs import a_local_run, an_aws_quote
from tests.support.shell import Shell

NO_GPU_HERE = (
    "this computer has no GPU that works, and `gpu: A100:1` is for a rented machine: here the command runs without it"
)


def renting(home: Path) -> Ledger:
    ledger = Ledger(home)
    ledger.add(a_local_run("plants-1128-aaaaa", phase=Phase.LAUNCHING))
    return ledger


def test_logs_wait_for_a_machine_that_is_being_rented(tmp_path: Path) -> None:
    ledger, said = renting(tmp_path), list[str]()
    context = Context(ledger, cast("Backend", OneMachine(JobState.ACTIVE)), Console(said.append))

    def begin() -> None:
        ledger.update("plants-1128-aaaaa", lambda run: run.model_copy(update={"run_uri": "file:///run"}))

    with ledger.launching("plants-1128-aaaaa"):
        threading.Timer(1.0, begin).start()
        run = await_log(ledger.get("plants-1128-aaaaa"), context)
    assert run.run_uri == "file:///run"
    assert said == ["plants-1128-aaaaa has no log yet: its machine is being rented; waiting for it ..."]


def test_logs_do_not_wait_for_a_launch_that_was_cut_short(tmp_path: Path) -> None:
    ledger, said = renting(tmp_path), list[str]()
    context = Context(ledger, cast("Backend", OneMachine(JobState.ACTIVE)), Console(said.append))
    assert await_log(ledger.get("plants-1128-aaaaa"), context).run_uri is None
    assert said == []


@pytest.mark.parametrize(("width", "left_out"), [(110, set()), (80, {"LEFT"}), (60, {"LEFT", "INFRA", "GPU", "SEEN"})])
def test_ps_fits_into_a_narrow_terminal(width: int, left_out: set[str]) -> None:
    now = now_utc()
    run = a_local_run(
        "seedlings-1127-utdem", phase=Phase.RUNNING, quote=an_aws_quote(), billed_from=now - timedelta(hours=3),
        epoch=12, epochs=30, eta_s=4805.0, refreshed_at=now - timedelta(seconds=185), infra="runpod",
    )  # fmt: skip
    text = ps_table([run], now, width=width)
    headers = ["RUN", "PHASE", "BILLING", "INFRA", "GPU", "COST", "EPOCH", "LEFT", "SEEN"]
    assert text.splitlines()[0].split() == [name for name in headers if name not in left_out]
    assert max(map(len, text.splitlines())) <= width
    assert "3m ago" in text or width != 80


def test_ps_that_is_not_a_terminals_has_every_column() -> None:
    text = ps_table([a_local_run("seedlings-1127-utdem", phase=Phase.RUNNING)], now_utc())
    assert text.split()[:9] == ["RUN", "PHASE", "BILLING", "INFRA", "GPU", "COST", "EPOCH", "LEFT", "SEEN"]


def test_ps_of_all_runs_shows_the_score_of_those_that_are_at_home(shell: Shell) -> None:
    folder = shell.folder / "runs" / "plants-1128-aaaaa"
    folder.mkdir(parents=True)
    (folder / "summary.json").write_text('{"val_accuracy": 0.923, "best_epoch": 4}')
    ledger, ended = Ledger(shell.home), {"phase": Phase.SUCCEEDED, "exit_code": 0}
    ledger.add(a_local_run("plants-1128-aaaaa", **ended, home_complete=True, folder=str(folder)))
    ledger.add(a_local_run("plants-1128-bbbbb", **ended))
    head, first, second, *_ = shell("ps", "--all").out.splitlines()
    assert (head.split()[-1], first.split()[-1], second.split()[-1]) == ("VAL", "92.3%", "-")


def test_watch_names_a_run_that_does_not_exist_even_without_a_terminal(shell: Shell) -> None:
    renting(shell.home)
    assert "error: there is no run `nosuch`" in shell("watch", "nosuch").err


def test_ctrl_c_while_following_is_no_error_and_says_how_to_look_again(shell: Shell) -> None:
    job = shell.job("name: own\ninfra: local\ndata: {source: .}\nrun: echo up; sleep 300\n")
    run_id = shell("launch", "-d", job).out.strip()
    following = shell.start("logs", run_id)
    assert following.stdout is not None
    assert any(line == "up\n" for line in following.stdout)
    following.send_signal(signal.SIGINT)
    _, said = following.communicate(timeout=60)
    assert following.returncode == 130
    assert said == (
        f"interrupted; `{run_id}` goes on\n\n"
        f"hint: `cloudrun logs {run_id}` shows it again; `cloudrun down {run_id}` ends it and its bill\n"
    )


def test_the_end_of_a_launch_names_the_report(shell: Shell) -> None:
    done = shell("launch", shell.job("name: own\ninfra: local\ndata: {source: .}\nrun: 'true'\n"))
    assert f"report    {shell.folder / 'runs' / done.out.strip() / 'report.html'}\n" in done.err


@pytest.mark.parametrize(("name", "of_another"), [("数据 集", "另一个"), ("猫", "狗")])
def test_data_sets_with_names_that_no_machine_can_have_get_names_of_their_own(name: str, of_another: str) -> None:
    assert name_from(Path(name)).startswith("job-")
    assert name_from(Path(name)) == name_from(Path(f"/elsewhere/{name}"))
    assert name_from(Path(name)) != name_from(Path(of_another))


def test_a_launch_that_cannot_be_recorded_is_refused_before_any_image_is_compared(shell: Shell, leaves: Path) -> None:
    shell.env["CLOUDRUN_HOME"] = str(shell.folder / "a file" / "home")
    (shell.folder / "a file").write_text("")
    done = shell("launch", "--yes", shell.job(f"name: p\ninfra: local\ndata: {{source: {leaves}}}\nrun: 'true'\n"))
    assert done.code == 1
    assert (
        f"error: no run can be recorded in {shell.folder}/a file/home/ledger: Not a directory; nothing was" in done.err
    )
    assert "`export CLOUDRUN_HOME=...`" in done.err


@pytest.mark.parametrize(
    ("enabled", "warning", "last"),
    [
        (None, "whether a cloud is enabled is not known", "ready to launch\n"),
        (
            [],
            "warning: no cloud is enabled, by SkyPilot's last check",
            "ready to launch, but for a cloud to rent from\n",
        ),
    ],
)
def test_check_says_whether_a_cloud_is_enabled(
    shell: Shell, enabled: list[str] | None, warning: str, last: str
) -> None:
    if enabled is not None:
        (shell.folder / ".sky").mkdir()
        with sqlite3.connect(shell.folder / ".sky" / "state.db") as opened:
            opened.execute("CREATE TABLE config (key TEXT PRIMARY KEY, value TEXT)")
            opened.execute("INSERT INTO config VALUES ('enabled_clouds_default_compute', ?)", (json.dumps(enabled),))
    job = shell.job("name: p\ndata: {source: 'demo://leaves'}\n")
    done = shell("check", job)
    assert warning in done.err
    assert done.out.endswith(last)
    plain = shell("check", job, "--json").json
    assert plain["clouds"] == {"enabled": enabled, "wanted": None, "is_missing": enabled == []}
    assert any(one.startswith("no cloud is enabled") for one in plain["warnings"]) is (enabled == [])


def test_check_asks_for_no_cloud_where_the_job_runs_here(shell: Shell) -> None:
    done = shell("check", shell.job("name: p\ninfra: local\ndata: {source: 'demo://leaves'}\n"), "--json")
    assert done.json["clouds"] is None


def test_a_dry_run_on_this_computer_says_that_the_weights_cannot_be_had(shell: Shell) -> None:
    shell.env.update(HF_HUB_OFFLINE="1", HF_HOME=str(shell.folder), TORCH_HOME=str(shell.folder))
    job = shell.job("name: p\ninfra: local\ndata: {source: 'demo://leaves'}\n")
    done = shell("launch", "--dry-run", job)
    assert done.code == 0
    assert "warning: " in done.err
    assert (
        "downloads the weights of efficientnet_b3, resnest50d, and `HF_HUB_OFFLINE` is set; a launch would" in done.err
    )
    assert "HF_HUB_OFFLINE" not in shell("launch", "--dry-run", job, "--set", "train.pretrained=false").err


def test_epochs_that_are_chosen_by_the_budget_need_one_on_this_computer(shell: Shell) -> None:
    job = shell.job("name: own\ninfra: local\ndata: {source: 'demo://leaves'}\ntrain: {epochs: auto}\n")
    done = shell("check", job)
    assert done.code == 2
    assert "`train.epochs: auto` on this computer has no hours to fit epochs into" in done.err
    assert "`budget.max_hours` (`--max-hours 1`)" in done.err
    planned = shell("launch", "--dry-run", "--max-hours", "0.5", job)
    assert planned.code == 0
    assert "epochs (auto)" in planned.out
    assert "h of training (budget.max_hours)" in planned.out


def test_a_run_on_this_computer_has_no_machine_and_no_bill_in_its_messages(shell: Shell) -> None:
    job = shell.job("name: own\ninfra: local\ndata: {source: .}\nrun: echo up; sleep 300\n")
    run_id = shell("launch", "-d", job).out.strip()
    assert "(still running; this computer costs nothing)" in shell("cost").out
    assert f"cloudrun: ending {run_id} ...\n" in shell("down").err


@pytest.mark.parametrize(
    ("seconds", "text"), [(17.6, "18 s"), (119, "119 s"), (750, "12.5 min"), (4500, "1.25 h"), (36_000, "10.00 h")]
)
def test_the_worker_writes_times_so_that_they_are_no_zero(seconds: float, text: str) -> None:
    assert time_text(seconds) == text


def test_findings_are_told_although_the_home_folder_cannot_be_written(tmp_path: Path, leaves: Path) -> None:
    (tmp_path / "home").write_text("a file where the folder should be")
    survey = survey_folder(leaves, custom=False)
    assert survey is not None
    said = list[str]()
    findings = find_duplicates(survey, tmp_path / "home", said.append)
    assert findings.rows()
    assert said == [f"what was found is not remembered, as {tmp_path}/home/looks cannot be written: Not a directory"]


def test_a_job_that_names_gpus_runs_on_this_computer_without_one_and_check_says_so(shell: Shell) -> None:
    (shell.folder / "bin").mkdir()
    for name in ("bash", "sh", "env", "cat", "sleep"):
        (shell.folder / "bin" / name).symlink_to(
            f"/bin/{name}" if Path(f"/bin/{name}").exists() else f"/usr/bin/{name}"
        )
    shell.env["PATH"] = str(shell.folder / "bin")  # no nvidia-smi
    job = shell.job("name: own\ngpu: A100:1\ninfra: local\ndata: {source: .}\nrun: echo here\n")
    checked = shell("check", job, "--json")
    assert checked.json["warnings"] == [NO_GPU_HERE]
    done = shell("launch", job)
    assert done.code == 0, done.err
    assert f"warning: {NO_GPU_HERE}" in done.err


def test_times_for_little_room_and_ages() -> None:
    assert [brief_duration(one) for one in (8, 185, 4805, 200_000)] == ["8s", "3m", "1h20", "2d"]
    assert [age(one) for one in (60, 90_000, 5 * 86400, 700 * 86400)] == [
        "1 min 00 s", "25 h 00 min", "5 days", "23 months",
    ]  # fmt: skip


@pytest.mark.parametrize(("train", "lines"), [("{epochs: 3}", 0), ("{epochs: 3, warmup_epochs: 5}", 1)])
def test_a_launch_does_not_warn_of_a_warm_up_that_nobody_wrote(tmp_path: Path, train: str, lines: int) -> None:
    (tmp_path / "job.yaml").write_text(f"name: p\ndata: {{source: 'demo://leaves'}}\ntrain: {train}\n")
    assert len(load_job(tmp_path / "job.yaml").warnings) == lines
