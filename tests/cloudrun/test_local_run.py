"""launch, logs, fetch, down, ps, cost and resume as typed, on this computer, with a command of the user's own."""

from __future__ import annotations

import json
import os
import re
import signal
import time
from pathlib import Path

import pytest

from tests.conftest import Shell, images

JOB = """\
name: tiny
infra: local
data: {source: .}
run: |
  echo "line one"
  mkdir -p $CLOUDRUN_OUTPUT/checkpoints
  echo weights > $CLOUDRUN_OUTPUT/checkpoints/best.pt
  echo '{"epoch": 1, "epochs": 1, "eta_s": 0}' > $CLOUDRUN_OUTPUT/progress.json
"""
ENDLESS = """\
name: endless
infra: local
data: {source: .}
run: |
  trap 'echo saved > $CLOUDRUN_OUTPUT/last.txt; exit 75' TERM
  echo up
  while :; do sleep 0.05; done
"""


def wait_until_log_has(shell: Shell, text: str) -> None:
    until = time.monotonic() + 60
    while text not in shell("logs", "--no-follow").out:
        assert time.monotonic() < until
        time.sleep(0.05)


def test_a_launch_prints_the_run_id_brings_the_results_home_and_ends_the_bill(shell: Shell) -> None:
    done = shell("launch", shell.job(JOB))
    assert done.code == 0
    assert re.fullmatch(r"tiny-\d{4}-[a-z0-9]{5}\n", done.out)  # stdout is the answer and nothing else
    assert "line one" in done.err
    assert "nothing is billing" in done.err
    folder = shell.folder / "runs" / done.out.strip()
    names = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert names == {"checkpoints/best.pt", "cost.json", "job.yaml", "log.txt", "report.html"}
    assert json.loads((folder / "cost.json").read_text())["is_final"] is True
    assert list((shell.home / "local").iterdir()) == []  # the machine is gone, with its disk


def test_the_json_of_a_launch_is_one_document(shell: Shell) -> None:
    done = shell("launch", shell.job(JOB), "--json")
    assert set(done.json) == {"run_id", "phase", "exit_code", "cost_usd", "folder"}
    assert (done.json["phase"], done.json["exit_code"]) == ("succeeded", 0)


def test_a_job_that_fails_ends_the_launch_with_1_and_says_why(shell: Shell) -> None:
    done = shell("launch", shell.job(JOB + '  echo "error: no leaf"; exit 9\n'))
    assert done.code == 1
    assert "failed: the job ended with exit code 9: no leaf" in done.err
    assert (shell.folder / "runs" / done.out.strip() / "checkpoints" / "best.pt").exists()  # what there was is home


def test_a_job_over_its_budget_ends_with_4_and_its_results_are_home(shell: Shell) -> None:
    done = shell("launch", shell.job(ENDLESS), "--max-hours", "0.0015")  # 5.4 s, for the job to come to its `trap`
    assert done.code == 4
    assert (shell.folder / "runs" / done.out.strip() / "last.txt").read_text() == "saved\n"


def test_a_detached_run_is_followed_fetched_and_ended_from_a_new_shell(shell: Shell) -> None:
    run_id = shell("launch", "-d", shell.job(ENDLESS)).out.strip()
    wait_until_log_has(shell, "up")
    row = shell("ps", "--json").json[0]
    assert (row["run_id"], row["phase"], row["billing"]) == (run_id, "running", True)
    assert shell("fetch").out.strip() == str(shell.folder / "runs" / run_id)
    done = shell("down", run_id[:12], "--json")
    assert done.code == 0
    assert done.json[0]["is_final"] is True
    assert (shell.folder / "runs" / run_id / "last.txt").exists()  # saved on the way down, and brought home
    assert shell("ps", "--json").json == []
    assert shell("down", run_id).code == 0  # idempotent


def test_fetching_a_finished_run_ends_its_bill(shell: Shell) -> None:
    run_id = shell("launch", "-d", shell.job(JOB)).out.strip()
    assert shell("logs").code == 0  # follows to the end
    assert shell("ps", "--json").json[0]["billing"] is True
    assert shell("fetch", "--json").json["complete"] is True
    assert shell("ps", "--json").json == []
    assert json.loads((shell.folder / "runs" / run_id / "cost.json").read_text())["is_final"] is True


def test_ctrl_c_leaves_the_job_alone_and_says_how_to_stop_it(shell: Shell) -> None:
    launch = shell.start("launch", shell.job(ENDLESS))
    assert launch.stderr is not None
    for line in launch.stderr:
        if line == "up\n":
            break
    launch.send_signal(signal.SIGINT)
    _, said = launch.communicate(timeout=60)
    assert launch.returncode == 130
    assert "goes on" in said
    assert "cloudrun down" in said
    assert shell("ps", "--json").json[0]["phase"] == "running"


def test_the_job_outlives_a_launch_that_is_killed(shell: Shell) -> None:
    launch = shell.start("launch", shell.job(ENDLESS))
    assert launch.stderr is not None
    for line in launch.stderr:
        if line == "up\n":
            break
    os.killpg(launch.pid, signal.SIGKILL)
    launch.communicate()
    assert shell("ps", "--json").json[0]["phase"] == "running"
    assert shell("down").code == 0


def test_a_worker_that_is_killed_leaves_a_failed_run_whose_files_can_be_fetched(shell: Shell) -> None:
    run_id = shell("launch", "-d", shell.job(ENDLESS)).out.strip()
    wait_until_log_has(shell, "up")
    os.kill(int((shell.home / "local" / run_id / "attempt.pid").read_text()), signal.SIGKILL)
    done = shell("logs")  # follows, notices, and ends
    assert done.code == 1
    row = shell("ps", "--all", "--json").json[0]
    assert (row["phase"], "its worker was killed" in row["message"]) == ("failed", True)
    assert shell("fetch").code == 0


def test_every_line_of_the_log_is_printed_once_and_in_order(shell: Shell) -> None:
    job = JOB + "  for i in $(seq 400); do echo n$i; sleep 0.002; done\n"
    done = shell("launch", shell.job(job))
    shown = [line for line in done.err.splitlines() if re.fullmatch(r"n\d+", line)]
    assert shown == [f"n{number}" for number in range(1, 401)]
    logged = shell("logs")
    assert [line for line in logged.out.splitlines() if line.startswith("n")] == shown
    assert logged.code == 0
    assert shell("logs", "--tail", "2").out.splitlines() == ["n400", "cloudrun: finished"]
    assert json.loads(shell("logs", "--json").out.splitlines()[0])["line"] == "line one"


def test_only_the_best_checkpoint_is_fetched_when_asked_for(shell: Shell) -> None:
    shell("launch", shell.job(JOB))
    target = shell.folder / "submission"
    assert shell("fetch", "--best", "--to", str(target)).code == 0
    assert [path.name for path in target.rglob("*") if path.is_file()] == ["best.pt"]


def test_the_receipt_says_what_was_billed(shell: Shell) -> None:
    run_id = shell("launch", shell.job(JOB)).out.strip()
    receipt = shell("cost", "--json").json[0]
    assert receipt["run_id"] == run_id
    assert (receipt["infra"], receipt["cost_usd"], receipt["is_final"]) == ("local", 0.0, True)
    assert "total" in shell("cost").out


def test_a_run_goes_on_where_it_was_with_its_log_and_checkpoint(shell: Shell) -> None:
    job = """\
name: counter
infra: local
data: {source: .}
run: |
  mkdir -p $CLOUDRUN_OUTPUT/checkpoints
  echo x >> $CLOUDRUN_OUTPUT/checkpoints/last.pt
  echo "attempt $(wc -l < $CLOUDRUN_OUTPUT/checkpoints/last.pt)"
"""
    run_id = shell("launch", shell.job(job)).out.strip()
    done = shell("resume", run_id)
    assert done.code == 0
    assert done.out.strip() == run_id
    assert "attempt 2" in done.err
    assert "attempt 1" not in done.err  # only what is new is shown
    log = (shell.folder / "runs" / run_id / "log.txt").read_text()
    assert [line for line in log.splitlines() if line.startswith("attempt")] == ["attempt 1", "attempt 2"]


def test_a_run_without_a_checkpoint_cannot_be_resumed(shell: Shell) -> None:
    run_id = shell("launch", shell.job(JOB)).out.strip()
    (shell.folder / "runs" / run_id / "checkpoints" / "best.pt").rename(shell.folder / "gone.pt")
    done = shell("resume", run_id)
    assert done.code == 1
    assert "no checkpoint" in done.err


def test_a_users_own_folder_of_code_is_frozen_at_launch(shell: Shell) -> None:
    (shell.folder / "code").mkdir()
    (shell.folder / "code" / "train.py").write_text("print('from my own code')")
    job = "name: own\ninfra: local\ndata: {source: .}\nworkdir: code\nrun: python3 train.py\n"
    assert "from my own code" in shell("launch", shell.job(job)).err


@pytest.mark.parametrize(
    ("said", "is_new_enough"),
    [
        ("rsync  version 3.2.7  protocol version 31", True),
        ("rsync  version v3.4.1  protocol version 32", True),
        ("rsync  version 2.6.9  protocol version 29", False),
        ("openrsync: protocol version 29\nrsync version 2.6.9 compatible", False),
        ("", False),
    ],
)
def test_an_rsync_that_cannot_send_data_is_noticed_before_renting(shell: Shell, said: str, is_new_enough: bool) -> None:
    programs = shell.folder / "bin"
    programs.mkdir()
    (programs / "rsync").write_text(f"#!/bin/sh\nprintf '%s\\n' '{said}'\n")
    (programs / "rsync").chmod(0o755)
    shell.env["PATH"] = f"{programs}:{shell.env['PATH']}"
    done = shell("check", shell.job("name: d\ninfra: runpod\ndata: {source: 'demo://leaves'}\n"))
    assert (done.code == 0) is is_new_enough
    assert is_new_enough or f"{programs}/rsync is too old to send data with" in done.err
    assert is_new_enough or "hint: `brew install rsync`" in done.err


def test_a_secret_reaches_the_job_and_no_file(shell: Shell) -> None:
    shell.env["KAGGLE_KEY"] = "s3cret-value"
    job = 'name: own\ninfra: local\ndata: {source: .}\nsecrets: [KAGGLE_KEY]\nrun: echo "${#KAGGLE_KEY} letters"\n'
    done = shell("launch", shell.job(job))
    assert "12 letters" in done.err
    files = [path for path in shell.folder.rglob("*") if path.is_file()]
    assert not [path for path in files if b"s3cret-value" in path.read_bytes()]


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["launch", "nosuch.yaml"], 2, "there is no job file"),
        (["lunch"], 2, "launch"),
        (["launch", "--gpuu", "A100:1", "job.yaml"], 2, "--gpu"),
        (["logs", "nosuch"], 1, "no run"),
        (["down", "nosuch"], 1, "no run"),
        (["launch", "job.yaml", "--set", "nonsense"], 2, "KEY=VALUE"),
        (["launch", "job.yaml", "--set", "data.source=missing"], 2, "there is no folder"),
        (["logs", "--since", "soon"], 2, "90s, 30m"),
    ],
)
def test_a_mistake_ends_with_its_code_and_two_lines(shell: Shell, words: list[str], code: int, said: str) -> None:
    shell.job(JOB)
    done = shell(*words)
    assert done.code == code
    assert done.out == ""
    assert re.search(r"^error: .+\n\nhint: .+$", done.err, re.MULTILINE)
    assert said in done.err
    assert "Traceback" not in done.err
    assert not (shell.home / "ledger").exists()


def test_a_dry_run_starts_nothing(shell: Shell) -> None:
    done = shell("launch", shell.job(JOB), "--dry-run", "--json")
    assert done.json["backend"] == "local"
    assert not shell.home.exists()


@pytest.mark.parametrize(
    "command",
    [
        "launch",
        "logs",
        "fetch",
        "down",
        "ps",
        "cost",
        "report",
        "gpus",
        "check",
        "resume",
        "ssh",
        "init",
        "watch",
        "clouds",
    ],
)
def test_every_command_shows_an_example(shell: Shell, command: str) -> None:
    done = shell(command, "--help")
    assert done.code == 0
    assert f"cloudrun {command}" in done.out.split("Example:")[1]


def test_the_report_needs_nothing_from_elsewhere(shell: Shell) -> None:
    shell("launch", shell.job(JOB))
    page = Path(shell("report").out.strip()).read_text()
    assert "<svg" in page or "No epoch is over yet" in page
    assert not re.search(r"(src|href)=['\"]?https?:", page)


def test_every_command_warns_of_another_run_that_bills_past_its_estimate(shell: Shell) -> None:
    run_id = shell("launch", shell.job(JOB)).out.strip()
    path = shell.home / "ledger" / f"{run_id}.json"
    record = json.loads(path.read_text())
    quote = {**record["quote"], "hourly_usd": 1.29}
    made = {**record["estimate"], "low_usd": 0.01, "high_usd": 0.02} if record["estimate"] else None
    part = {"name": "train", "low_s": 10.0, "high_s": 60.0}
    made = made or {"parts": [part], "low_s": 10.0, "high_s": 60.0, "low_usd": 0.01, "high_usd": 0.02, "rests_on": "x"}
    forgotten = {
        **record, "run_id": "old-1124-aaaaa", "backend": "sky", "quote": quote, "estimate": made,
        "billed_from": "2026-11-01T00:00:00Z", "released_at": None, "handed_over": True,
    }  # fmt: skip
    (path.parent / "old-1124-aaaaa.json").write_text(json.dumps(forgotten))
    said = shell("cost", run_id).err
    assert "old-1124-aaaaa may be billing past its estimate" in said
    assert "`cloudrun down old-1124-aaaaa` ends it" in said
    path.with_name("old-1124-aaaaa.json").unlink()


def test_a_resume_that_fails_to_start_loses_nothing_of_the_attempts_before_it(shell: Shell) -> None:
    (shell.folder / "code").mkdir()
    job = """\
name: own
infra: local
data: {source: .}
workdir: code
run: mkdir -p $CLOUDRUN_OUTPUT/checkpoints; echo precious > $CLOUDRUN_OUTPUT/checkpoints/last.pt
"""
    run_id = shell("launch", "-d", shell.job(job)).out.strip()
    assert shell("logs").code == 0  # follows to the end
    with (shell.folder / "code" / "huge.bin").open("wb") as huge:
        huge.truncate(201_000_000)  # more than is sent as code: the start fails, as it may for any reason
    done = shell("resume", run_id)
    assert done.code == 1
    assert "201 MB" in done.err
    assert (shell.folder / "runs" / run_id / "checkpoints" / "last.pt").read_text() == "precious\n"
    assert shell("ps", "--json").json == []


def test_down_all_does_not_say_that_nothing_bills_where_a_record_cannot_be_read(shell: Shell) -> None:
    shell("launch", shell.job(JOB))
    (shell.home / "ledger" / "old-1124-aaaaa.json").write_text("{half")
    done = shell("down", "--all")
    assert done.code == 1
    assert "nothing is billing" not in done.err
    assert "sky down cloudrun-old-1124-aaaaa" in done.err
    (shell.home / "ledger" / "old-1124-aaaaa.json").unlink()


@pytest.mark.slow
def test_a_commands_own_metrics_stop_nothing(shell: Shell) -> None:
    job = """\
name: own
infra: local
data: {source: .}
run: |
  echo '{"kind": "val", "acc": 0.9}' > $CLOUDRUN_OUTPUT/metrics.jsonl
  echo '{not json}' >> $CLOUDRUN_OUTPUT/metrics.jsonl
"""
    assert shell("launch", shell.job(job)).code == 0
    for words in (["cost", "--all"], ["report"], ["down", "--all"]):
        assert shell(*words).code == 0


def test_what_is_not_there_is_missed_before_anything_is_started(shell: Shell) -> None:
    text = "name: own\ninfra: local\ndata: {source: .}\nworkdir: nowhere\nrun: 'true'\n"
    assert "there is no folder" in shell("launch", shell.job(text)).err
    (shell.folder / "weights").mkdir()
    trains = "name: t\ninfra: local\ndata: {source: leaves}\ntrain: {backbones: [test_resnet], pretrained: weights}\n"
    images(shell.folder / "leaves", count=12)
    done = shell("check", shell.job(trains))
    assert (done.code, "has no weights for `test_resnet`" in done.err) == (2, True)
    assert shell("check", "job.yaml", "--json").json["ok"] is False
    assert not (shell.home / "ledger").exists()


def test_a_folder_without_a_name_is_no_place_to_fetch_to(shell: Shell) -> None:
    shell("launch", shell.job(JOB))
    assert shell("fetch", "--to", "").code == 2


def test_a_job_file_is_not_written_for_a_gpu_that_no_cloud_has(shell: Shell) -> None:
    images(shell.folder / "leaves")
    assert shell("init", "leaves", "--gpu", "NOPE:1").code == 2
    assert not (shell.folder / "jobs").exists()


def test_fetching_elsewhere_leaves_the_runs_home_where_it_is(shell: Shell) -> None:
    run_id = shell("launch", shell.job(JOB)).out.strip()
    assert shell("fetch", "--to", "copy").code == 0
    assert shell("report").out.strip() == str(shell.folder / "runs" / run_id / "report.html")


def test_the_log_at_home_still_knows_when_it_was_written(shell: Shell) -> None:
    shell("launch", shell.job(JOB))
    assert "line one" in shell("logs", "--since", "1h").out
    assert shell("logs", "--since", "0.001s").out == ""
    assert shell("logs", "--since", "99999999999d").code == 2


def test_a_place_that_cannot_be_written_is_an_error_and_not_a_bug(shell: Shell) -> None:
    (shell.folder / "file").touch()
    shell.env["CLOUDRUN_HOME"] = str(shell.folder / "file" / "home")
    done = shell("launch", shell.job(JOB))
    assert done.code == 1
    assert "Traceback" not in done.err


def test_a_check_as_json_names_every_problem(shell: Shell) -> None:
    done = shell("check", shell.job("name: t\ninfra: local\ndata: {source: .}\nbudgett: 3\nspot: maybe\n"), "--json")
    assert done.code == 2
    assert (done.json["ok"], len(done.json["problems"])) == (False, 2)
    assert done.err.count("error: ") == 2


def test_a_sweep_is_refused_with_a_way_out(shell: Shell) -> None:
    done = shell("sweep", "sweep.yaml")
    assert (done.code, "not supported yet" in done.err) == (2, True)
