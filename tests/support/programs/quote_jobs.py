"""Print SkyPilot's quotes for jobs, each with clouds enabled and options: `... JOBS`, a list as JSON."""

import json
import sys
from pathlib import Path
from typing import Any

from sky import global_user_state
from sky.clouds.cloud import CloudCapability

from cloudrun.backends.skypilot.backend import SkyBackend
from cloudrun.errors import NoMachine
from cloudrun.job.job_file import load_job
from cloudrun.runs.prepare import plan_for


def quote_of(wanted: dict[str, Any]) -> dict[str, Any]:
    global_user_state.set_enabled_clouds(wanted["clouds"], CloudCapability.COMPUTE, "default")
    job = load_job(Path(wanted["job"]), options=wanted.get("options", {}))
    try:
        quote = SkyBackend(Path.home() / "cloudrun").quote(plan_for(job))
    except NoMachine as err:
        return {"error": err.message, "hint": err.hint}
    return {"infra": quote.infra, "gpu": quote.gpu, "hourly_usd": quote.hourly_usd, "machine": quote.machine}


if __name__ == "__main__":
    print(json.dumps([quote_of(wanted) for wanted in json.loads(sys.argv[1])]))
