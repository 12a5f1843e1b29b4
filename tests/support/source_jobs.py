"""Write job files whose machine fetches its data itself, and check them."""

from __future__ import annotations

from pathlib import Path

from cloudrun.dataset.survey import Survey
from cloudrun.job.job_file import load_job
from cloudrun.runs.prepare import check_job

JOB = """\
name: fetched
infra: local
data: {source: "SOURCE"}
run: |
  find $CLOUDRUN_DATA -name "*.jpg" | wc -l > $CLOUDRUN_OUTPUT/images.txt
"""
TRAINED = JOB.partition("run:")[0]


def job_for(folder: Path, source: str, text: str = JOB) -> str:
    """Write a job file whose `data.source` is `source`, and return its name."""
    (folder / "job.yaml").write_text(text.replace("SOURCE", source))
    return "job.yaml"


def checked(folder: Path, source: str, text: str = TRAINED, *, secrets: str = "") -> Survey | None:
    """Return what `cloudrun check` finds out about such a job's data."""
    name = job_for(folder, source, text)
    return check_job(load_job(folder / name, overrides=[f"secrets=[{secrets}]"]))
