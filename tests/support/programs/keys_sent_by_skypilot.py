"""Print which cloud keys SkyPilot would send to machines of some clouds: `... CLOUDS_AND_INFRAS PLANTED`, both as JSON.

As a launch goes: the client makes a request, SkyPilot's server takes up its settings (`executor.py`), and writes what
is to be copied to the machine (`file_mounts`) into the cluster's file.
"""

import json
import sys
from pathlib import Path
from typing import Any

import yaml
from sky import clouds, resources, skypilot_config
from sky.backends import backend_utils, cloud_vm_ray_backend
from sky.server.requests import payloads
from sky.utils import annotations
from sky.utils.registry import CLOUD_REGISTRY

from cloudrun.backends.skypilot.keys import keys_sent, sparing
from cloudrun.job.plan import make_plan
from cloudrun.job.spec import JobSpec

MACHINES = {
    "runpod": ("1x_RTX4090_SECURE", "US"),
    "lambda": ("gpu_1x_a100_sxm4", "us-east-1"),
    "vast": ("1x-RTX_4090-16-65536", "Texas, US"),
}


def sent_to(cloud: str, infra: str | None, planted: list[str]) -> dict[str, Any]:
    """Return which of the planted keys a machine of `cloud` gets, and what a user is told of them."""
    spec = JobSpec.model_validate({"name": "p", "data": {"source": "demo://leaves"}, "gpu": "RTX4090", "infra": infra})
    plan = make_plan(spec, "p-1", python="python", base={"setup": ""})
    with sparing(plan):
        request = annotations.client_api(payloads.RequestBody)()
        told = keys_sent(cloud)
    machine, region = MACHINES[cloud]
    cloud_of = CLOUD_REGISTRY.from_str(cloud)
    with skypilot_config.override_skypilot_config(
        request.override_skypilot_config, request.override_skypilot_config_path
    ):
        config = backend_utils.write_cluster_config(
            resources.Resources(cloud=cloud_of, instance_type=machine, region=region),
            1,
            cloud_vm_ray_backend._get_cluster_config_template(cloud_of),
            "cloudrun-p-1",
            Path("wheel.whl"),
            "hash",
            region=clouds.Region(region),
            zones=[clouds.Zone("US-TX-3")] if cloud == "runpod" else None,
            dryrun=True,
        )
    mounts = yaml.safe_load(Path(config["ray"]).read_text())["file_mounts"]
    home = str(Path.home())
    sent = [there for there, here in mounts.items() if here.removeprefix(home + "/").removeprefix("~/") in planted]
    return {"sent": sorted(sent), "needed": list(told.needed), "along": list(told.along)}


if __name__ == "__main__":
    wanted, files = (json.loads(word) for word in sys.argv[1:])
    print(json.dumps({f"{cloud} of {infra}": sent_to(cloud, infra, files) for cloud, infra in wanted}))
