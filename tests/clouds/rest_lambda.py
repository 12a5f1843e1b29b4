"""Stand in for Lambda's REST interface, as far as SkyPilot's client uses it: see `rest_provider`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.clouds.rest_provider import KEY, Asked


class Lambda:
    """The instances of an account: one of cloudrun's, one of somebody else's, and one without a name."""

    HOST = "cloud.lambdalabs.com"

    def __init__(self) -> None:
        self._names: dict[str, str | None] = {
            "0920582c7ff041399e34823a0be62549": "cloudrun-leaves-1127-abcde-12345678-head",
            "0920582c7ff041399e34823a0be62550": "somebody-elses",
            "0920582c7ff041399e34823a0be62551": None,
        }
        self._throttled = 1

    def write_key(self, home: Path, key: str) -> None:
        (home / ".lambda_cloud").mkdir(exist_ok=True)
        (home / ".lambda_cloud/lambda_keys").write_text(f"api_key = {key}\n")

    def answer(self, asked: Asked) -> tuple[int, Any]:
        if asked.bearer != KEY:
            return 401, {"error": {"code": "global/invalid-api-key", "message": "API key was invalid"}}
        if self._throttled:
            self._throttled -= 1
            return 429, {"error": {"code": "global/rate-limited", "message": "too many requests"}}
        if (asked.method, asked.path) == ("GET", "/api/v1/instances"):
            return 200, {"data": [self._shown(identity) for identity in self._names]}
        if (asked.method, asked.path) == ("POST", "/api/v1/instance-operations/terminate"):
            ended = [self._shown(identity) for identity in asked.body["instance_ids"]]
            for identity in asked.body["instance_ids"]:
                del self._names[identity]
            return 200, {"data": {"terminated_instances": ended}}
        return 404, {"error": {"code": "global/object-does-not-exist", "message": asked.path}}

    def _shown(self, identity: str) -> dict[str, Any]:
        shown = {"id": identity, "status": "active", "ip": "127.0.0.9", "region": {"name": "us-east-1"}}
        name = self._names[identity]
        return shown | ({"name": name} if name else {})

    def look(self, home: Path) -> dict[str, Any]:
        from cloudrun.backends.skypilot.listing import CannotList, end_machine, list_machines

        seen = list_machines("lambda")
        for machine in seen:
            end_machine(machine)
        left = list_machines("lambda")
        self.write_key(home, "another")
        refused = ""
        try:
            list_machines("lambda")
        except CannotList as err:
            refused = str(err)
        named = [[machine.name, machine.run_id, machine.handle] for machine in seen]
        return {"seen": named, "left": [machine.name for machine in left], "refused": refused}
