"""The main job on a rented machine, through SkyPilot itself: from launch to the receipt, and on again."""

from __future__ import annotations

import json

import pytest

from tests.clouds.box import Box
from tests.clouds.jobs import GPUS, KEPT, TRAINED, assert_receipt_agrees, launch, on, wait_for
from tests.support.shell import Shell, images

pytestmark = pytest.mark.clouds


def test_the_bundled_trainer_runs_on_a_rented_machine_and_its_files_are_home(shell: Shell, cloud: Box) -> None:
    images(shell.folder / "more" / "train", count=12)
    images(shell.folder / "more" / "test", count=4)
    code, run_id, said = launch(shell, shell.job(on(cloud.cloud, TRAINED)))
    assert code == 0, said
    home = shell.folder / "runs" / run_id
    assert "epoch 2/2" in (home / "log.txt").read_text()
    files = {path.relative_to(home).as_posix() for path in home.rglob("*") if path.is_file()}
    assert {"checkpoints/best.pt", "checkpoints/last.pt", "metrics.jsonl", "predictions.csv", "report.html"} < files
    cost = json.loads((home / "cost.json").read_text())
    assert (cost["infra"], cost["gpu"], cost["is_final"]) == (cloud.cloud, GPUS[cloud.cloud], True)
    assert_receipt_agrees(home, cloud.machine_of(run_id))
    assert cloud.up() == []
    assert shell("ps", "--json").json == []


@pytest.mark.slow
def test_a_kept_machine_is_followed_fetched_from_gone_on_with_and_given_back(shell: Shell, cloud: Box) -> None:
    code, run_id, said = launch(shell, "-d", shell.job(on(cloud.cloud, KEPT)))
    assert code == 0, said
    followed = shell("logs", run_id, timeout_s=120)
    assert followed.code == 0, followed.err
    assert "attempt 1\n" in followed.out
    fetched = shell("fetch", run_id)
    assert fetched.code == 0, fetched.err
    home = shell.folder / "runs" / run_id
    assert (home / "checkpoints" / "last.pt").read_text() == "x\n"

    machines = cloud.up()
    done = shell("resume", "-d", "--yes", run_id, timeout_s=300)
    assert done.code == 0, done.err
    assert cloud.up() == machines  # the same machine
    wait_for(lambda: "up\n" in shell("logs", "--no-follow", run_id).out, 120, "the second attempt's first line")
    listed = shell("ps", "--refresh", "--json", timeout_s=200).json
    assert [(row["run_id"], row["billing"]) for row in listed] == [(run_id, True)]

    done = shell("down", run_id, timeout_s=300)
    assert done.code == 0, done.err
    assert (home / "checkpoints" / "last.pt").read_text() == "x\nx\n"
    assert (home / "last.txt").read_text() == "saved\n"
    assert cloud.up() == []
    assert shell("ps", "--json").json == []
