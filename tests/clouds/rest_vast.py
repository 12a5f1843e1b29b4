"""Stand in for Vast's REST interface, with the requests and fields that Vast's own client uses: see `rest_provider`."""

from __future__ import annotations

import operator
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.clouds.faults import Faults, Refused, Throttled
from tests.clouds.rest_provider import KEY, Asked

_STARTED = 1795521480.0
_COMPARED: dict[str, Callable[[Any, Any], bool]] = {
    "eq": operator.eq,
    "gte": operator.ge,
    "in": lambda value, values: value in values,
}


def _instance(number: int, label: str | None, status: str | None, hourly_usd: float) -> dict[str, Any]:
    return {
        "id": number, "label": label, "actual_status": status, "dph_total": hourly_usd, "start_date": _STARTED,
        "gpu_name": "RTX 4090", "num_gpus": 1, "ssh_host": "ssh4.vast.ai", "ssh_port": 30022, "extra_env": [],
        "public_ipaddr": "127.0.0.9\n", "machine_id": 15, "disk_space": 100.0,
    }  # fmt: skip


def _offer(number: int, hourly_usd: float, **changes: Any) -> dict[str, Any]:
    return {
        "id": number, "gpu_name": "RTX 4090", "gpu_ram": 24564, "num_gpus": 1, "rentable": True, "rented": False,
        "inet_down": 800.0, "disk_space": 300.0, "dph_total": hourly_usd, "min_bid": hourly_usd / 2, **changes,
    }  # fmt: skip


class Vast:
    """An account with machines of cloudrun's and of somebody else's, and the market's offers."""

    HOST = "console.vast.ai"

    def __init__(self) -> None:
        self.faults = Faults()
        self._instances = {
            one["id"]: one
            for one in (
                _instance(8801, "cloudrun-leaves-1127-abcde-12345678-head", "running", 0.46),
                _instance(8802, "cloudrun-older-1126-vwxyz-12345678-head", "exited", 0.3),
                _instance(8803, "cloudrun-newer-1127-klmno-12345678-head", None, 0.3),  # it has no status yet
                _instance(8804, "somebody-elses", "running", 0.3),
                _instance(8805, None, "running", 0.3),
            )
        }
        self._offers = [
            _offer(1, 0.20, inet_down=20.0),  # a slow line
            _offer(2, 0.25, rentable=False),
            _offer(3, 0.30, gpu_name="RTX 3090"),
            _offer(4, 0.42),
            _offer(5, 0.44),
        ]

    def write_key(self, home: Path, key: str) -> None:
        file = home / ".config/vastai/vast_api_key"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"{key}\n")

    def answer(self, asked: Asked) -> tuple[int, Any]:
        operation = f"{asked.method} {asked.path.split('/')[3]}"
        try:
            with self.faults.around(operation):
                return self._answer(operation, asked)
        except Throttled:
            return 429, {"success": False, "msg": "API requests too frequent"}
        except Refused:
            return 500, {"success": False, "msg": "server error"}

    def _answer(self, operation: str, asked: Asked) -> tuple[int, Any]:
        if operation == "POST bundles":  # the market is public
            return self._search(asked.body)
        if operation == "GET gpu_names":  # asked when Vast's client is imported
            return 200, {"gpu_names": sorted({offer["gpu_name"] for offer in self._offers})}
        if KEY not in (asked.query.get("api_key"), asked.bearer):
            return 401, {"success": False, "error": "auth_error", "msg": "Invalid user key"}
        if operation == "GET instances" and asked.query.get("owner") == "me":
            return 200, {"instances": list(self._instances.values())}
        if operation == "DELETE instances":
            ended = self._instances.pop(int(asked.path.split("/")[4]), None)
            return (200, {"success": True}) if ended else (404, {"success": False, "msg": "no_such_instance"})
        return 404, {"success": False, "msg": asked.path}

    def _search(self, wanted: dict[str, Any]) -> tuple[int, Any]:
        from vastai.vast import offers_fields

        tests = {name: test for name, test in wanted.items() if name not in ("order", "type", "allocated_storage")}
        unknown = set(tests) - set(offers_fields)
        if unknown or wanted["type"] not in ("on-demand", "bid"):
            return 400, {"success": False, "msg": f"no such field: {unknown}"}
        found = [
            offer
            for offer in self._offers
            if all(_COMPARED[how](offer[name], value) for name, test in tests.items() for how, value in test.items())
        ]
        for name, direction in reversed(wanted["order"]):
            found.sort(key=operator.itemgetter(name), reverse=direction == "desc")
        return 200, {"offers": found}

    def look(self, home: Path) -> dict[str, Any]:
        from sky.adaptors import vast

        from cloudrun.backends.skypilot.listing import end_machine, list_machines

        machines = list_machines("vast")
        saw: dict[str, Any] = {
            "seen": [[one.name, one.run_id, one.handle, one.hourly_usd, one.stopped] for one in machines],
            "up_since": sorted({one.up_since.timestamp() for one in machines if one.up_since is not None}),
            **self._prices(),
        }
        self.faults.set({"throttle": "2"})
        saw["throttled twice"] = _listed()
        self.faults.set({"throttle": "99"})
        saw["throttled"] = _listed()
        self.faults.clear()
        self.faults.set({"away": "yes"})
        saw["away"] = _listed()
        end_machine(machines[0])
        self.faults.clear()
        saw["left after an end that nobody heard"] = _listed()
        self.faults.set({"lose": "DELETE instances"})
        end_machine(machines[0])
        self.faults.clear()
        saw["left after an end whose answer was lost"] = _listed()
        for machine in machines[1:]:
            end_machine(machine)
        saw["left"] = _listed()
        saw["proven gone"] = _is_proven_gone(home)
        self.faults.set({"away": "yes"})
        saw["proven gone while away"] = _is_proven_gone(home)
        self.faults.clear()
        saw["not ours"] = sorted(self._instances)
        vast.vast().api_key = "another"
        saw["wrong key"] = _listed()
        return saw

    def _prices(self) -> dict[str, Any]:
        """Return the price of a new machine now, and the price at which the machine that is up is billed."""
        from cloudrun.backends.live_price import live_price
        from cloudrun.backends.skypilot.listing import machines_of
        from cloudrun.backends.skypilot.records import billed_quote
        from cloudrun.billing.agreed import is_too_dear
        from tests.support.runs import a_runpod_quote

        agreed = a_runpod_quote("RTX4090:1", 0.4, infra="vast", disk_hourly_usd=0.0)
        live = live_price(agreed)
        billed = billed_quote(agreed, machines_of("cloudrun-leaves-1127-abcde", "vast"))
        return {
            "live": [live.hourly_usd, live.why],
            "billed": [billed.hourly_usd, billed.source, is_too_dear(agreed, billed)],
        }


class _ForgetfulSky:
    """Stands for SkyPilot's server after it looked for a machine while Vast was away: it took the machine for gone."""

    def api_status(self, *, cluster_name: str) -> list[Any]:
        return []

    def cost_report(self, *, days: int | None) -> list[dict[str, str]]:
        return [{"name": "cloudrun-leaves-1127-abcde"}]

    def get(self, answer: Any) -> Any:
        return answer


def _is_proven_gone(home: Path) -> bool:
    """Return whether cloudrun takes a machine for gone that such a server no longer has."""
    from cloudrun.backends.skypilot.backend import SkyBackend
    from tests.support.runs import a_runpod_quote, a_skypilot_run

    backend = SkyBackend(home / "cloudrun")
    quote = a_runpod_quote("RTX4090:1", 0.4, infra="vast")
    run = a_skypilot_run(run_id="leaves-1127-abcde", quote=quote, rented_by=backend.identity())
    return backend._is_surely_gone(_ForgetfulSky(), run)


def _listed() -> list[str] | str:
    """Return the handles of cloudrun's machines; or the message on why there is no list."""
    from cloudrun.backends.skypilot.listing import CannotList, list_machines

    try:
        return [machine.handle for machine in list_machines("vast")]
    except CannotList as err:
        return str(err)
