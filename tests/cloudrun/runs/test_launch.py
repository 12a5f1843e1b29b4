"""`cloudrun launch` as typed, on this computer, with a command of the user's own: what it prints, and how it ends."""

from __future__ import annotations

import json
import os
import re
import signal

import pytest

from tests.support.local_jobs import ENDLESS, TINY
from tests.support.shell import Shell, images, wait_until_log_has


def test_a_launch_prints_the_run_id_brings_the_results_home_and_ends_the_bill(shell: Shell) -> None:
    done = shell("launch", shell.job(TINY))
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
    done = shell("launch", shell.job(TINY), "--json")
    assert set(done.json) == {"run_id", "phase", "exit_code", "cost_usd", "folder"}
    assert (done.json["phase"], done.json["exit_code"]) == ("succeeded", 0)


def test_a_dry_run_starts_nothing(shell: Shell) -> None:
    done = shell("launch", shell.job(TINY), "--dry-run", "--json")
    assert done.json["backend"] == "local"
    assert not shell.home.exists()


def test_what_is_not_there_is_missed_before_anything_is_started(shell: Shell) -> None:
    text = "name: own\ninfra: local\ndata: {source: .}\nworkdir: nowhere\nrun: 'true'\n"
    assert "there is no folder" in shell("launch", shell.job(text)).err
    (shell.folder / "weights").mkdir()
    trains = "name: t\ninfra: local\ndata: {source: leaves}\ntrain: {backbones: [test_resnet], pretrained: weights}\n"
    images(shell.folder / "leaves", count=12)
    done = shell("check", shell.job(trains))
    assert (done.code, "has no weights for `test_resnet`" in done.err) == (2, True)
    assert shell("check", "job.yaml", "--json").json["ok"] is False
    assert not list((shell.home / "ledger").glob("*.json"))


def test_a_job_that_fails_ends_the_launch_with_1_and_says_why(shell: Shell) -> None:
    done = shell("launch", shell.job(TINY + '  echo "error: no leaf"; exit 9\n'))
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


def test_a_users_own_folder_of_code_is_frozen_at_launch(shell: Shell) -> None:
    (shell.folder / "code").mkdir()
    (shell.folder / "code" / "train.py").write_text("print('from my own code')")
    job = "name: own\ninfra: local\ndata: {source: .}\nworkdir: code\nrun: python3 train.py\n"
    assert "from my own code" in shell("launch", shell.job(job)).err


def test_a_secret_reaches_the_job_and_no_file(shell: Shell) -> None:
    shell.env["KAGGLE_KEY"] = "s3cret-value"
    job = 'name: own\ninfra: local\ndata: {source: .}\nsecrets: [KAGGLE_KEY]\nrun: echo "${#KAGGLE_KEY} letters"\n'
    done = shell("launch", shell.job(job))
    assert "12 letters" in done.err
    files = [path for path in shell.folder.rglob("*") if path.is_file()]
    assert not [path for path in files if b"s3cret-value" in path.read_bytes()]


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
