"""Make the plan of a job file that says little."""

from __future__ import annotations

from typing import Any

from cloudrun.job.plan import Plan, make_plan
from cloudrun.job.spec import JobSpec
from cloudrun.job.staging import base_task

RUN_ID = "plants-1124-x7k2m"


def a_plan(**job: Any) -> Plan:
    """Return the plan of the run `RUN_ID`, whose job has the keys `job`."""
    spec = JobSpec.model_validate({"name": "plants", "data": {"source": "/data/plants"}, **job})
    return make_plan(spec, RUN_ID, python="/usr/bin/python3", base=base_task())
