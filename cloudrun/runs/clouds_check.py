"""Say before a launch whether a cloud is enabled, without a question to SkyPilot or to a cloud."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from cloudrun.backends.skypilot.internals import remembered_clouds
from cloudrun.catalog.infras import cloud_of, is_own_cluster
from cloudrun.job.spec import JobSpec

_ASK = "`cloudrun doctor` asks"


@dataclass(frozen=True, slots=True)
class CloudsKnown:
    """The clouds that SkyPilot's last check here found enabled; None: none is remembered. `wanted`: by the job."""

    enabled: tuple[str, ...] | None
    wanted: str | None

    @property
    def is_missing(self) -> bool:
        """Return whether by that check the job has no cloud to rent from."""
        return self.enabled is not None and (not self.enabled or self.wanted not in (None, *self.enabled))

    def text(self) -> str:
        if self.enabled is None:
            return f"whether a cloud is enabled is not known, since SkyPilot's check did not run here yet: {_ASK}"
        if not self.enabled:
            return f"no cloud is enabled, by SkyPilot's last check here: {_ASK} anew, and tells what each lacks"
        names = ", ".join(self.enabled)
        if self.is_missing:
            return f"`{self.wanted}` is not enabled, by SkyPilot's last check here ({names} enabled): {_ASK} anew"
        return f"enabled by SkyPilot's last check here: {names}"

    def as_plain(self) -> dict[str, Any]:
        enabled = None if self.enabled is None else list(self.enabled)
        return {"enabled": enabled, "wanted": self.wanted, "is_missing": self.is_missing}


def clouds_known(spec: JobSpec) -> CloudsKnown | None:
    """Return what is remembered of the clouds; None where the job rents nothing, or has a cluster of the user's own."""
    if not spec.capabilities.rents or is_own_cluster(spec.infra):
        return None
    return CloudsKnown(remembered_clouds(), None if spec.infra is None else cloud_of(spec.infra))
