"""Keep the user's cloud keys off machines that do not need them, as far as SkyPilot 0.14 can be told to.

By default SkyPilot copies the credentials of every cloud that it finds on this computer to every machine that it rents.
Its setting `remote_identity: NO_UPLOAD` holds back the credentials of one cloud. The setting goes along with a request,
so that the user's own `~/.sky/config.yaml` stays as it is. Some clouds have no such setting (RunPod, Lambda and smaller
ones), and neither have Cloudflare R2, CoreWeave and Hugging Face: their files are removed from the machine as soon as
it is up.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from shlex import quote
from typing import Any

from cloudrun.backends.skypilot import internals
from cloudrun.backends.skypilot.errors import brief
from cloudrun.catalog.endings import MARKETS_WITH_HOMES
from cloudrun.job.keys import KeysSent
from cloudrun.job.plan import Plan
from cloudrun.remote.ssh import Connection

# The clouds whose settings have `remote_identity` in SkyPilot's `utils/schemas.py`; for others it refuses the setting.
CAN_WITHHOLD = ("aws", "azure", "gcp", "kubernetes", "nebius", "oci", "slurm", "ssh", "vast")
# On these clouds a machine ends itself by a role or a service account that SkyPilot gives it, without the user's key.
_ENDS_BY_ROLE = ("aws", "gcp", "kubernetes", "ssh")
# These two share one kubeconfig, which SkyPilot sends only where it is told to.
_OF_KUBECONFIG = ("kubernetes", "ssh")
# On these clouds the home folder outlives the machine: none of the user's own files may be removed there.
_OUTLIVES_MACHINE = ("slurm", "ssh")


def settings_for(rentable: Collection[str], configured: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return SkyPilot's settings for one request that may rent on the clouds `rentable`.

    `configured`: the user's own settings; for a cloud that may be rented they stay as they are.
    """
    settings: dict[str, dict[str, Any]] = {}
    for cloud in CAN_WITHHOLD:
        may_rent = cloud in rentable
        is_theirs = may_rent and configured.get(cloud, {}).get("remote_identity") is not None
        needs_key = may_rent and cloud not in _ENDS_BY_ROLE
        if not is_theirs and not needs_key:
            settings[cloud] = {"remote_identity": "NO_UPLOAD"}
    for market in MARKETS_WITH_HOMES:
        if configured.get(market, {}).get("datacenter_only") is None:
            settings.setdefault(market, {})["datacenter_only"] = True
    return settings


@contextmanager
def sparing(plan: Plan) -> Iterator[None]:
    """Send requests to SkyPilot in this block with the settings that keep the user's keys here."""
    with internals.overriding(settings_for(_rentable(plan), _configured())):
        yield


def keys_sent(cloud: str) -> KeysSent:
    """Return the keys that a machine on `cloud` gets by the settings that are in force (see `sparing`)."""
    configured = _configured()
    held_back = [one for one in CAN_WITHHOLD if _is_held_back(one, cloud, configured)]
    try:
        mounts = internals.keys_sent_without(held_back)
        own = internals.keys_of(cloud)
    except Exception as err:  # noqa: BLE001 - each cloud's library may fail in its own way
        return KeysSent(unknown=brief(err))
    needed = tuple(sorted(path for path in mounts if path in own))
    return KeysSent(
        needed=needed,
        along=tuple(sorted(path for path in mounts if path not in own)),
        are_removed=cloud not in _OUTLIVES_MACHINE,
        warning=_warning(cloud),
    )


def remove_keys(keys: KeysSent, machine: str, *, nodes: int) -> None:
    """Remove the keys that SkyPilot sent needlessly from each of the `nodes` machines.

    Raises StoreError where a machine cannot be reached.
    """
    if keys.along and keys.are_removed:
        for node in range(nodes):
            Connection(machine, node=node).run(removal(keys.along))


def removal(paths: Collection[str]) -> str:
    """Return a shell command that removes files below the home folder, and none that are elsewhere.

    It also removes the copy from which SkyPilot made each file: SkyPilot sends all files into one folder, under random
    names.
    """
    files = " ".join(f'"$HOME"/{quote(path[2:])}' for path in paths if re.match(r"~/[^/]", path))
    return (
        f'for key in {files}; do [ -f "$key" ] || continue; for copy in "$HOME"/{internals.RUNTIME_FILES[2:]}/*; do'
        ' if cmp -s "$copy" "$key"; then rm -f -- "$copy"; fi; done; rm -f -- "$key"; done'
    )


def _is_held_back(one: str, cloud: str, configured: Mapping[str, Mapping[str, Any]]) -> bool:
    """Return whether SkyPilot holds back the keys of the cloud `one` from a machine on `cloud`.

    As it decides in `backend_utils.write_cluster_config`: the keys of the machine's own cloud are held back by any
    identity but LOCAL_CREDENTIALS, those of another cloud only by NO_UPLOAD.
    """
    identity = configured.get(one, {}).get("remote_identity")
    if one in _OF_KUBECONFIG and cloud in _OF_KUBECONFIG:
        return identity != "LOCAL_CREDENTIALS"
    return identity == "NO_UPLOAD" or (one == cloud and identity not in (None, "LOCAL_CREDENTIALS"))


def _configured() -> dict[str, dict[str, Any]]:
    settings = {cloud: internals.settings_of(cloud) for cloud in CAN_WITHHOLD}
    return {cloud: value for cloud, value in settings.items() if value}


def _rentable(plan: Plan) -> set[str]:
    """Return the clouds on which SkyPilot may rent for `plan`: all enabled ones where the job names none."""
    if plan.spec.infra is not None:
        head = plan.spec.infra.split("/")[0]
        return {"kubernetes" if head == "k8s" else head}
    if not internals.is_server_local():  # that server alone knows the enabled clouds
        return set(CAN_WITHHOLD)
    return internals.enabled_clouds()


def _warning(cloud: str) -> str:
    folder = Path.home() / ".nebius"
    if cloud == "nebius" and (folder / "NEBIUS_IAM_TOKEN.txt").exists() and not (folder / "credentials.json").exists():
        return (
            "the token in ~/.nebius/NEBIUS_IAM_TOKEN.txt is good for 12 hours, after which the machine cannot end"
            " itself: use a service account's ~/.nebius/credentials.json"
        )
    return ""
