"""Call the parts of SkyPilot 0.14 that are not its public SDK: one typed function for each use.

Public are the names in `sky.__all__`, and `sky.exceptions`. The rest may change with any release, so no other module
names it. Code for SkyPilot's own Python on a rented machine is in `cloudrun/worker/sky_internals.py`.
`tests/contracts/test_skypilot.py` reads both files, and checks each name and call against the SkyPilot that is
installed: run it first after an upgrade.

`sky` is imported inside the functions, because the import takes seconds.
"""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

RUNTIME_FILES = "~/.sky/.runtime_files"
"""The folder on a rented machine into which SkyPilot sends all files, before it copies each to its place."""

JOB_LOGS = ("~/sky_logs/*/run.log", "~/.sky_clusters/*/sky_logs/*/run.log")
"""SkyPilot's logs of the jobs on a machine; the second pattern is for machines that share a home folder."""

MACHINE_TAG = "ray-cluster-name"
"""The tag with SkyPilot's name of the machine, on clouds that have tags."""

STATE_FILE = ".sky/state.db"
"""SkyPilot's database, in the home folder or in that which RUNTIME_DIR names."""
RUNTIME_DIR = "SKY_RUNTIME_DIR"
ELSEWHERE = "SKYPILOT_API_SERVER_ENDPOINT"
"""The variable with the address of a server of SkyPilot's on another computer."""
ENABLED_KEY = "enabled_clouds_default_compute"
"""The row of its table `config` with a JSON list of clouds; a user's name may follow."""

_LAUNCH = "launch"  # in the name of a request to SkyPilot's server


@dataclass(frozen=True, slots=True)
class Launched:
    """The machines that SkyPilot rented, or is renting, by its handle of them."""

    resources: Any  # SkyPilot's public `Resources`
    nodes: int
    name_on_cloud: str

    @property
    def infra(self) -> str:
        """The name of the cloud."""
        return str(self.resources.cloud).lower()

    @property
    def accelerators(self) -> dict[str, float]:
        """The GPUs of one machine: name -> count; empty where it has none."""
        return dict(self.resources.accelerators or {})


def launched_of(handle: Any) -> Launched | None:
    """Return the machines of a handle of `sky.launch` or `sky.status`; None where there is no handle yet."""
    if handle is None:
        return None
    return Launched(handle.launched_resources, int(handle.launched_nodes), str(handle.cluster_name_on_cloud))


# SkyPilot's server, user and settings


def server_url() -> str:
    """Return the address of SkyPilot's API server."""
    from sky.server.common import get_server_url

    return str(get_server_url())


def is_server_local() -> bool:
    """Return whether SkyPilot's API server is on this computer."""
    from sky.server.common import is_api_server_local

    return bool(is_api_server_local())


def user_hash() -> str:
    """Return SkyPilot's name of the person at this computer."""
    from sky.utils.common_utils import get_user_hash

    return str(get_user_hash())


def is_a_launch(request: Any) -> bool:
    """Return whether a request of `sky.api_status` asks for a machine to be rented."""
    return _LAUNCH in request.name


def overriding(settings: Mapping[str, Any]) -> AbstractContextManager[None]:
    """Return a context in which requests to SkyPilot carry `settings` on top of the user's own."""
    from sky import skypilot_config

    return cast("AbstractContextManager[None]", skypilot_config.override_skypilot_config(dict(settings)))


def settings_of(cloud: str) -> dict[str, Any]:
    """Return the settings of one cloud that are in force; empty where there are none."""
    from sky import skypilot_config

    return dict(skypilot_config.get_nested((cloud,), {}) or {})


# Clouds and their catalogs


def enabled_clouds(*, or_raise: bool = False) -> set[str]:
    """Return the names of the enabled clouds, asked on this computer.

    With `or_raise`, raises NoCloudAccessError where none is enabled.
    """
    from sky import check
    from sky.clouds.cloud import CloudCapability

    clouds = check.get_cached_enabled_clouds_or_refresh(CloudCapability.COMPUTE, raise_if_no_cloud_access=or_raise)
    return {str(cloud).lower() for cloud in clouds}


def remembered_clouds() -> tuple[str, ...] | None:
    """Return the clouds that SkyPilot's last check on this computer found enabled, from the file in which they stand.

    Neither imports SkyPilot nor asks its server. None: no check is remembered, or SkyPilot runs on another computer.
    """
    if os.environ.get(ELSEWHERE):
        return None
    path = Path(os.environ.get(RUNTIME_DIR) or "~").expanduser() / STATE_FILE
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=1)) as opened:
            rows = opened.execute("SELECT value FROM config WHERE key LIKE ?", (f"{ENABLED_KEY}%",)).fetchall()
        found = [json.loads(value) for (value,) in rows]
        return tuple(sorted({str(cloud).lower() for clouds in found for cloud in clouds})) if found else None
    except (sqlite3.Error, OSError, ValueError, TypeError):
        return None


def request_enabled_clouds() -> Any:
    """Ask SkyPilot's server for the enabled clouds; returns a request for `sky.get`."""
    from sky.client import sdk

    return sdk.enabled_clouds()


def list_gpus(cloud: str, *, all_regions: bool) -> list[Any]:
    """Return SkyPilot's `InstanceTypeInfo` of each machine with accelerators in a cloud's catalog."""
    from sky import catalog

    listed = catalog.list_accelerators(gpus_only=True, clouds=cloud, all_regions=all_regions)
    return [info for infos in listed.values() for info in infos]


def rents_several(cloud: str) -> bool:
    """Return whether a cloud rents several machines that reach each other."""
    import sky
    from sky.clouds.cloud import CloudImplementationFeatures

    try:
        cloud_named(cloud).check_features_are_supported(sky.Resources(), {CloudImplementationFeatures.MULTI_NODE})
    except sky.exceptions.NotSupportedError:
        return False
    return True


def cloud_named(name: str) -> Any:
    """Return SkyPilot's object of a cloud. Raises ValueError where SkyPilot does not know the name."""
    from sky.utils.registry import CLOUD_REGISTRY

    return CLOUD_REGISTRY.from_str(name)


def name_on(cloud: str, machine: str) -> str:
    """Return SkyPilot's name of a machine on a cloud: cut, with a hash, where it is too long for that cloud."""
    from sky.utils.common_utils import make_cluster_name_on_cloud

    try:
        longest = cloud_named(cloud).max_cluster_name_length()
    except ValueError:
        return machine
    return str(make_cluster_name_on_cloud(machine, max_length=longest))


def cpus_of(resources: Any) -> float | None:
    """Return the CPUs of one machine with `resources`; None where the catalog does not say."""
    cpus, _ = resources.cloud.get_vcpus_mem_from_instance_type(resources.instance_type)
    return None if cpus is None else float(cpus)


def first_choice(config: Mapping[str, Any], without: Iterable[Any]) -> Any:
    """Return SkyPilot's `Resources` of the machine that it would try first for a task. Raises SkyPilot's errors.

    `without`: `Resources` that it may not choose.
    """
    import sky
    from sky.optimizer import Optimizer

    with sky.Dag() as dag:  # a task that is made in this block adds itself to `dag`
        sky.Task.from_yaml_config(dict(config))
    Optimizer.optimize(dag, blocked_resources=list(without), quiet=True)
    return dag.tasks[0].best_resources


def autostop_waits_for_jobs() -> Any:
    """Return the word for `sky.launch` by which running jobs, but no open shells, hold up autostop."""
    from sky.skylet.autostop_lib import AutostopWaitFor

    return AutostopWaitFor.JOBS


# The user's cloud keys


def keys_sent_without(held_back: Iterable[str]) -> dict[str, str]:
    """Return the files with keys that SkyPilot copies to each machine: path there -> path here.

    Without the keys of the clouds `held_back`.
    """
    from sky import check

    mounts = check.get_cloud_credential_file_mounts([cloud_named(one) for one in held_back])
    return cast("dict[str, str]", mounts)


def keys_of(cloud: str) -> dict[str, str]:
    """Return the files of one cloud's own keys: path on the machine -> path here."""
    return cast("dict[str, str]", cloud_named(cloud).get_credential_file_mounts())


# The clients of providers, with the keys that SkyPilot found


def runpod_query(query: str) -> Any:
    """Return RunPod's answer to a GraphQL query."""
    from sky.provision.runpod import utils

    return utils.runpod.runpod.api.graphql.run_graphql_query(query)


def end_runpod_pod(pod: str) -> None:
    """Terminate a pod."""
    from sky.provision.runpod import utils

    utils.remove(pod)


def vast_instances() -> Any:
    """Return Vast's list of instances; where Vast's client gets an error, it returns something else than a list."""
    from sky.adaptors import vast

    return vast.vast().show_instances()


def end_vast_instance(instance: str) -> None:
    """Terminate an instance of Vast."""
    from sky.provision.vast import utils

    utils.remove(instance)


def lambda_instances() -> list[dict[str, Any]]:
    """Return Lambda's list of instances."""
    from sky.provision.lambda_cloud import lambda_utils

    return cast("list[dict[str, Any]]", lambda_utils.LambdaCloudClient().list_instances())


def end_lambda_instance(instance: str) -> None:
    """Terminate an instance of Lambda."""
    from sky.provision.lambda_cloud import lambda_utils

    lambda_utils.LambdaCloudClient().remove_instances([instance])


def ec2_client(region: str) -> Any:
    """Return boto3's EC2 client for a region."""
    from sky.adaptors import aws

    return aws.client("ec2", region_name=region)
