"""Turn a plan into requests to SkyPilot, as plain values. Pure, so that it is tested by equality."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from cloudrun.job.plan import Plan
from cloudrun.protocol.run_folder import CODE
from cloudrun.protocol.words import WorkerCommand
from cloudrun.remote.python import FIND_PYTHON

_START = f"""\
{FIND_PYTHON}\
cd RUN_DIR && PYTHONPATH=RUN_DIR/{CODE} exec "$python" -m cloudrun.worker RUN_DIR WORD
"""


def machine_config(plan: Plan, gpus: Sequence[str] | None = None) -> dict[str, Any]:
    """Return the task for the bare machine: `sky.yaml`'s resources with the job's own; no code, set-up or command.

    `gpus`: SkyPilot's names of the GPUs in the order in which to try them; None: the job's choices in their order.

    SkyPilot arms autodown only after sync and set-up, so the task has neither: once it is rented, the machine ends
    itself, whatever becomes of this computer.
    """
    spec = plan.spec
    wanted: dict[str, Any] = dict(plan.base_resources)
    wanted["disk_size"] = spec.resources.disk
    asked = {"cpus": spec.resources.cpus, "memory": spec.resources.memory, "infra": spec.infra}
    wanted.update({key: value for key, value in asked.items() if value is not None})
    if spec.spot:
        wanted["use_spot"] = True
    match tuple(gpus) if gpus is not None else tuple(one for sold in spec.gpu_choices for one in sold):
        case ():
            pass
        case (only,):
            wanted["accelerators"] = only
        case several:
            wanted["ordered"] = [{"accelerators": gpu} for gpu in dict.fromkeys(several)]
    return {"name": plan.run_id, **_nodes(plan), "resources": wanted}


def job_config(plan: Plan, run_dir: str, accelerators: Mapping[str, float] | None) -> dict[str, Any]:
    """Return the task that runs the worker as a job on the machine. The job holds the GPU: so SkyPilot sees it busy."""
    run = _START.replace("RUN_DIR", shlex.quote(run_dir)).replace(" WORD", "")
    config: dict[str, Any] = {"name": plan.run_id, **_nodes(plan), "run": run}
    if accelerators:
        config["resources"] = {"accelerators": dict(accelerators)}
    return config


def begin_script(run_dir: str) -> str:
    """Return the shell script that starts the watchdog at once; the SkyPilot job, when it comes, waits for it."""
    script = _START.replace("RUN_DIR", shlex.quote(run_dir)).replace("WORD", WorkerCommand.BEGIN.value)
    return f"bash --login -c {shlex.quote(script)}"


def _nodes(plan: Plan) -> dict[str, int]:
    return {"num_nodes": plan.spec.nodes} if plan.spec.nodes > 1 else {}
