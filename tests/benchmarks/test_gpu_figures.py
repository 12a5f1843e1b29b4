"""The figures of `python -m benchmarks.gpu`: on disk at once, whole after any kill, and a table of them."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from benchmarks.gpu.figures import Figures, line_of, read_figures, table
from benchmarks.gpu.limits import parts_from
from benchmarks.gpu.predictions import predicted_for
from tests.support.checkout import CHECKOUT

H100, H200 = "NVIDIA H100 80GB HBM3", "NVIDIA H200"


def test_a_figure_is_in_the_file_when_it_has_been_added(tmp_path: Path) -> None:
    Figures(tmp_path, part="ceiling", card=H100).add("whole step, 64 at once", 1234.5, "images/s", note="eager")
    [line] = (tmp_path / "figures.jsonl").read_text().splitlines()
    row = json.loads(line)
    assert (row["part"], row["value"], row["unit"], row["note"]) == ("ceiling", 1234.5, "images/s", "eager")


def test_a_line_that_was_cut_off_is_left_out(tmp_path: Path) -> None:
    Figures(tmp_path, part="probe").add("cores", 16)
    with (tmp_path / "figures.jsonl").open("a") as file:
        file.write('{"part": "probe", "name": "copy on')
    assert [one.name for one in read_figures(tmp_path)] == ["cores"]


@pytest.mark.parametrize(
    ("value", "limit", "is_wrong"),
    [(0.009, 0.01, False), (0.011, 0.01, True), (float("nan"), 0.01, True), (None, 0.01, True), (None, None, False)],
)
def test_a_figure_over_its_limit_or_without_a_number_is_wrong(
    tmp_path: Path, value: float | None, limit: float | None, is_wrong: bool
) -> None:
    figures = Figures(tmp_path, part="smoke")
    assert figures.add("mixup, bf16", value, limit=limit).is_wrong == is_wrong
    assert figures.wrong == is_wrong
    assert ("WRONG" in line_of(read_figures(tmp_path)[0])) == is_wrong


def test_the_table_has_the_prediction_beside_the_measurement_and_the_cards_name(tmp_path: Path) -> None:
    figures = Figures(tmp_path, part="ceiling", card=H100)
    figures.add("whole step, 64 at once", 1300, "images/s")
    figures.add("validation in bf16: rms error of a logit", 0.9)
    figures.add("augmentation, 64 at once", None, note="failed: a | b")
    lines = table(read_figures(tmp_path), heading="commit 1a2b3c4").splitlines()
    assert lines[0] == f"{H100}; commit 1a2b3c4"
    assert lines[4:7] == [
        "| ceiling | whole step, 64 at once | 1,300 images/s | 1100 to 1500 | as predicted |",
        "| ceiling | validation in bf16: rms error of a logit | 0.9 | 0.08 to 0.3 | above |",
        "| ceiling | augmentation, 64 at once | not measured (failed: a \\| b) |  |  |",
    ]


def test_predictions_are_for_the_cards_that_they_were_made_for() -> None:
    assert predicted_for("probe", "copy on the device", card=H100) == (2.6, 3.3)
    assert predicted_for("probe", "copy on the device", card=H200) == (3.9, 4.6)
    assert predicted_for("probe", "copy on the device", card="NVIDIA A100-SXM4-80GB") is None


def test_parts_are_taken_in_the_order_given_and_a_wrong_name_is_refused() -> None:
    assert parts_from("tune,probe") == ["tune", "probe"]
    done = start("--parts", "probe,soup", out=Path("unused")).communicate()
    assert "there is no part soup; parts are probe, smoke, tune" in done[1]


def start(*words: str, out: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "benchmarks.gpu", "--rehearse", "--out", str(out), *words]
    return subprocess.Popen(
        command, cwd=CHECKOUT, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
    )


@pytest.mark.slow
def test_a_part_that_is_not_begun_for_want_of_time_is_said(tmp_path: Path) -> None:
    process = start("--parts", "probe", "--budget", "3", out=tmp_path)
    said, _ = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "not begun: 3 s were left" in said
    assert "not begun: 3 s were left" in (tmp_path / "figures.md").read_text()


@pytest.mark.slow
def test_what_was_measured_before_a_kill_is_there_and_the_part_ends_too(tmp_path: Path) -> None:
    process = start("--parts", "probe", out=tmp_path)
    until = time.monotonic() + 60
    while not (tmp_path / "figures.jsonl").exists():
        assert time.monotonic() < until
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate(timeout=20)  # until the part, which writes to the same pipe, has ended
    assert read_figures(tmp_path)[0].name == "import torch"
    again = subprocess.run(
        [sys.executable, "-m", "benchmarks.gpu", "--table", "--out", str(tmp_path)],
        cwd=CHECKOUT, capture_output=True, text=True,
    )  # fmt: skip
    assert "| probe | import torch |" in again.stdout
