"""The Python API, as in a notebook: cells that launch, watch, fetch and end runs on this computer."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import cloudrun
from cloudrun import Run, estimate, launch
from cloudrun.errors import JobFileError, NoSuchRun
from cloudrun.state.records import Phase

JOB = """\
name: tiny
infra: local
data: {source: .}
run: |
  echo "line one"
  mkdir -p $CLOUDRUN_OUTPUT/checkpoints
  echo weights > $CLOUDRUN_OUTPUT/checkpoints/best.pt
  echo '{"kind": "val", "epoch": 1, "loss": 0.5, "accuracy": 0.9, "time": "2026-11-24T12:00:00Z"}' \\
    > $CLOUDRUN_OUTPUT/metrics.jsonl
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


@pytest.fixture
def notebook(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that a notebook works in, with job files and a ledger of its own."""
    monkeypatch.setenv("CLOUDRUN_HOME", str(tmp_path / "home"))
    folder = tmp_path / "work"
    folder.mkdir()
    monkeypatch.chdir(folder)
    (folder / "tiny.yaml").write_text(JOB)
    (folder / "endless.yaml").write_text(ENDLESS)
    return folder


def test_a_notebook_launches_a_job_and_has_its_results(notebook: Path) -> None:
    news: list[str] = []
    log: list[str] = []

    run = launch("tiny.yaml", max_cost=1.0, settings={"budget.max_hours": 0.2}, on_news=news.append, on_line=log.append)

    assert run.phase is Phase.SUCCEEDED
    assert "line one" in log
    assert any("results in" in line for line in news)
    assert run.folder == notebook / "runs" / run.run_id
    assert (run.fetch() / "checkpoints" / "best.pt").read_text() == "weights\n"
    assert [row["accuracy"] for row in run.metrics()] == [0.9]
    assert (run.cost().is_final, float(run.cost().usd)) == (True, 0.0)
    assert run.receipt()["run_id"] == run.run_id
    assert "line one" in list(run.logs(tail=50))
    run.down()  # there is nothing left to end
    assert repr(Run(run.run_id[:6])) == f"<cloudrun.Run {run.run_id}: succeeded>"


def test_a_notebook_looks_at_a_job_that_goes_on_and_ends_it(notebook: Path) -> None:
    run = launch("endless.yaml", wait=False)
    lines = run.logs()
    while next(lines) != "up":
        pass
    assert run.refresh().phase is Phase.RUNNING
    assert run.metrics() == []
    assert not run.cost().is_final

    news: list[str] = []
    run.down(on_news=news.append)

    assert run.phase is Phase.STOPPED
    assert run.cost().is_final
    assert run.folder is not None
    assert (run.folder / "last.txt").read_text() == "saved\n"
    assert any("save and stop" in line for line in news)
    assert [one.run_id for one in Run.all()] == [run.run_id]


def test_nothing_is_launched_by_an_estimate(notebook: Path) -> None:
    forecast = estimate("tiny.yaml")
    assert forecast.quote is not None
    assert (forecast.costs, forecast.fits_budget) == (False, True)
    assert Run.all() == []


def test_mistakes_are_named_errors(notebook: Path) -> None:
    with pytest.raises(JobFileError, match="max_cost"):
        launch("tiny.yaml", max_cost=-1.0)
    with pytest.raises(NoSuchRun):
        Run()


def test_the_package_is_typed_and_imports_nothing_before_the_api_is_used() -> None:
    assert (Path(cloudrun.__file__).parent / "py.typed").is_file()
    code = "import sys, cloudrun; print(sorted({name.split('.')[0] for name in sys.modules} & {'pydantic', 'yaml'}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
    with pytest.raises(AttributeError, match="has no attribute 'lunch'"):
        _ = cloudrun.lunch
