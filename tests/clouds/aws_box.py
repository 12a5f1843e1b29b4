"""An AWS account on this computer: moto behind SkyPilot's own AWS provisioner, and a machine for each instance.

    python -m tests.clouds.aws_box --port 5566 --image IMAGE --cache CACHE --folder FOLDER       until its stdin closes

Every instance that moto says is running gets a machine (aws_machine.sh) at its public address, which is a loopback
address. Stopped or terminated: the machine is killed. A machine that powers itself off is stopped or terminated in
moto, as the instance's shutdown behaviour says. At the same address as the API is the door for tests:

    /box/bill                 the instances that are and were, with the times that bills are made of
    /box/set?slow=8           faults: see `faults`; /box/clear ends them
    /box/preempt?id=ID        terminate it as AWS takes a spot instance back, with nobody being asked
    /box/stop?id=ID           stop it, as somebody at the console does
    /box/end_all              terminate all
    /box/reach?port=8333      let instances that are rented from now on reach a server of this computer
"""

from __future__ import annotations

import argparse
import io
import itertools
import json
import os
import re
import socket
import threading
import time
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, parse_qsl

import moto.ec2.models.elastic_network_interfaces as interfaces
import moto.ec2.utils
from moto.ec2.models import ec2_backends
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import run_simple

from tests.clouds.faults import Faults, NoAnswer, Refused, Throttled
from tests.clouds.leaving import leave_when_parent_does
from tests.clouds.namespaces import Machine, loopback_network

HERE = Path(__file__).parent
Environ = dict[str, Any]
StartResponse = Callable[..., Any]
_LOOK_EVERY_S = 0.25
_ERROR = """\
<?xml version="1.0" encoding="UTF-8"?>
<Response><Errors><Error><Code>{code}</Code><Message>{message}</Message></Error></Errors><RequestID>box</RequestID></Response>
"""


class Region:
    """The machines of all regions, which are started and ended as moto's instances are."""

    def __init__(self, *, port: int, image: Path, cache: Path, folder: Path, faults: Faults) -> None:
        self.api = ("127.0.0.1", port)
        self.reachable = [self.api]
        self._image, self._cache, self._folder, self._faults = image, cache, folder, faults
        self._machines: dict[str, Machine] = {}
        self._ended: dict[str, datetime] = {}

    def follow_for_ever(self) -> None:
        while True:
            time.sleep(_LOOK_EVERY_S)
            for region, instance in _instances():
                self._follow(region, instance)

    def bill(self) -> list[dict[str, Any]]:
        return [self._line(region, instance) for region, instance in _instances()]

    def _line(self, region: str, instance: Any) -> dict[str, Any]:
        tags = {tag["key"]: tag["value"] for tag in instance.get_tags()}
        ended = self._ended.get(instance.id)
        return {
            "id": instance.id,
            "name": tags.get("ray-cluster-name", ""),
            "region": region,
            "type": instance.instance_type,
            "spot": instance.lifecycle == "spot",
            "status": instance._state.name,
            "address": f"{instance.public_ip}:22",
            "pid": self._machines[instance.id].pid if instance.id in self._machines else None,
            "from": instance.launch_time.replace(tzinfo=UTC).isoformat(),
            "to": ended and ended.isoformat(),
        }

    def _follow(self, region: str, instance: Any) -> None:
        state, machine = instance._state.name, self._machines.get(instance.id)
        if state == "running" and (machine is None or instance.id in self._ended):  # rented, or started again
            self._ended.pop(instance.id, None)
            self._machines[instance.id] = self._boot(instance)
        elif state == "running" and machine is not None and not machine.is_up:
            behaviour = instance.instance_initiated_shutdown_behavior or "stop"
            backend = ec2_backends[_account(instance)][region]
            (backend.terminate_instances if behaviour == "terminate" else backend.stop_instances)([instance.id])
            self._close(instance.id, machine)
        elif state in ("stopped", "shutting-down", "terminated") and instance.id not in self._ended:
            self._close(instance.id, machine)

    def _close(self, instance_id: str, machine: Machine | None) -> None:
        """End the machine of an instance; an instance that was terminated at once never got a machine."""
        self._ended[instance_id] = datetime.now(UTC)
        if machine is not None:
            machine.end()

    def _boot(self, instance: Any) -> Machine:
        said = instance.user_data[0] if isinstance(instance.user_data, list) else instance.user_data
        text = said if isinstance(said, str) else said.decode()
        user, key = re.search(r"- name: (\S+)", text), re.search(r"ssh-\S+ \S+", text)
        assert user, text
        assert key, text
        file = self._folder / f"{instance.id}.pub"
        file.write_text(f"{key[0]}\n")
        machine = Machine(
            [
                *(str(HERE / "aws_machine.sh"), str(self._folder / instance.id), str(self._image), str(self._cache)),
                *(instance.id, instance.private_ip, str(file), user[1], "http://{}:{}".format(*self.api)),
            ],
            self._folder / f"{instance.id}.log",
        )
        for address in self.reachable:
            machine.bring_in(address)
        if self._faults.gets_ready:
            machine.bring_out(22, (instance.public_ip, 22))
        return machine


class Door:
    """Passes requests to moto's application, with the faults that were asked for; answers `/box/` itself."""

    def __init__(self, application: Any, region: Region, faults: Faults) -> None:
        self._application, self._region, self._faults = application, region, faults

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        if environ["PATH_INFO"].startswith("/box/"):
            asked = dict(parse_qsl(environ["QUERY_STRING"]))
            return _json(start_response, self._answer(environ["PATH_INFO"].removeprefix("/box/"), asked))
        operation = _operation(environ)
        try:
            with self._faults.around(operation):
                if operation == "RunInstances" and not self._faults.has_capacity(_region(environ)):
                    message = f"no capacity in {_region(environ)} for what was asked for"
                    return _error(start_response, "500 Internal Server Error", "InsufficientInstanceCapacity", message)
                return list(self._application(environ, start_response))
        except Throttled:
            return _error(start_response, "503 Unavailable", "RequestLimitExceeded", "Request limit exceeded.")
        except Refused:
            return _error(start_response, "400 Bad Request", "OperationNotPermitted", f"{operation} was refused")
        except NoAnswer:
            environ["werkzeug.socket"].shutdown(socket.SHUT_RDWR)
            start_response("500 Internal Server Error", [])
            return []

    def _answer(self, question: str, asked: dict[str, str]) -> Any:
        match question:
            case "set":
                self._faults.set(asked)
            case "clear":
                self._faults.clear()
            case "reach":
                self._region.reachable.append(("127.0.0.1", int(asked["port"])))
            case "preempt" | "stop" | "end_all":
                for region, instance in _instances():
                    if asked.get("id", instance.id) == instance.id and instance._state.name != "terminated":
                        backend = ec2_backends[_account(instance)][region]
                        (backend.stop_instances if question == "stop" else backend.terminate_instances)([instance.id])
            case _:
                pass
        return self._region.bill()


def _instances() -> list[tuple[str, Any]]:
    """Return (region, instance) of each instance; these are moto's own objects, which know more than its answers."""
    return [
        (region, instance)
        for regions in list(ec2_backends.values())
        for region, backend in list(regions.items())
        for reservation in list(backend.reservations.values())
        for instance in list(reservation.instances)
    ]


def _account(instance: Any) -> str:
    return str(instance.owner_id)


def _operation(environ: Environ) -> str:
    """Return the `Action` of a request to EC2, IAM or STS, else the method; the body can be read again."""
    body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
    environ["wsgi.input"] = io.BytesIO(body)
    fields = parse_qs(body.decode("ascii", "replace")) if b"Action=" in body else {}
    return str(fields.get("Action", [environ["REQUEST_METHOD"]])[0])


def _region(environ: Environ) -> str:
    """Return the region for which a request was signed."""
    signed = re.search(r"Credential=[^/]+/\d+/([^/]+)/", environ.get("HTTP_AUTHORIZATION", ""))
    return signed[1] if signed else ""


def _error(start_response: StartResponse, status: str, code: str, message: str) -> list[bytes]:
    start_response(status, [("Content-Type", "text/xml")])
    return [_ERROR.format(code=code, message=message).encode()]


def _json(start_response: StartResponse, value: Any) -> list[bytes]:
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps(value, indent=1).encode() + b"\n"]


def _addresses_on_the_loopback(network: str) -> None:
    numbers = itertools.count(2)

    def next_address() -> str:
        return f"{network}.{next(numbers)}"

    moto.ec2.utils.random_public_ip = next_address
    interfaces.random_public_ip = next_address  # type: ignore[attr-defined]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, required=True)
    for name in ("image", "cache", "folder"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    options = parser.parse_args()
    os.environ["MOTO_IAM_LOAD_MANAGED_POLICIES"] = "true"
    _addresses_on_the_loopback(loopback_network(options.port))
    faults = Faults()
    region = Region(port=options.port, image=options.image, cache=options.cache, folder=options.folder, faults=faults)
    door = Door(DomainDispatcherApplication(create_backend_app), region, faults)
    threading.Thread(target=region.follow_for_ever, daemon=True).start()
    threading.Thread(
        target=run_simple, args=("127.0.0.1", options.port, door), kwargs={"threaded": True}, daemon=True
    ).start()
    leave_when_parent_does()


if __name__ == "__main__":
    main()
