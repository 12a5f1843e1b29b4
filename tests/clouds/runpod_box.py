"""A RunPod account on this computer: the GraphQL operations that SkyPilot asks for, and a machine for each pod.

    python -m tests.clouds.runpod_box --port 5577 --image IMAGE --cache CACHE --folder FOLDER     until its stdin closes

A pod is a container (runpod_machine.sh) whose port 22 is mapped to another one of a loopback address, as RunPod maps
it. An operation is known by the name of its first field, and always answers with all fields; no more of GraphQL is
understood. Written from SkyPilot's and the SDK's code, not from RunPod. At the same address is the door for tests:

    /box/bill                 the pods that are and were: what each costs an hour, from when to when
    /box/set?slow=8           faults: see `faults`; /box/clear ends them
    /box/preempt?id=ID        EXITED: a spot pod that was outbid, or an account without money
    /box/stop?id=ID           EXITED: somebody stops it at the console; its disk bills on
    /box/delete?id=ID         somebody deletes it at the console; /box/end_all deletes all
    /box/reach?port=8333      let pods that are rented from now on reach a server of this computer
"""

from __future__ import annotations

import argparse
import itertools
import json
import random
import re
import secrets
import threading
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from tests.clouds.faults import Faults, NoAnswer, Refused, Throttled
from tests.clouds.leaving import leave_when_parent_does
from tests.clouds.namespaces import Machine, loopback_network

HERE = Path(__file__).parent
Words = dict[str, str]
NO_CAPACITY = (
    "There are no longer any instances available with the requested specifications. Please refresh and try again."
)


@dataclass(frozen=True, slots=True)
class GpuType:
    """A GPU that is for rent: USD an hour for one GPU in the secure cloud, and the least bid."""

    shown: str
    memory_gb: int
    hourly_usd: float
    bid_usd: float


GPU_TYPES = {
    "NVIDIA GeForce RTX 4090": GpuType("RTX 4090", 24, 0.69, 0.35),
    "NVIDIA A100 80GB PCIe": GpuType("A100 PCIe", 80, 1.64, 0.82),
}


@dataclass(slots=True)
class Pod:
    """A pod of the account, or one that was terminated."""

    asked: Words
    spot: bool
    hourly_usd: float
    address: str
    port: int
    machine: Machine
    id: str
    status: str = "RUNNING"
    has_address: bool = False
    began: datetime = field(default_factory=lambda: datetime.now(UTC))
    ended: datetime | None = None

    @property
    def last_change(self) -> str:
        """The last change of the pod, as RunPod writes it: in words, with JavaScript's form of a date."""
        what, moment = ("Rented by User", self.began) if self.ended is None else ("Exited by Runpod", self.ended)
        return f"{what}: {moment.astimezone(UTC):%a %b %d %Y %H:%M:%S} GMT+0000 (Coordinated Universal Time)"

    def end(self, status: str) -> None:
        self.status, self.has_address = status, False
        if self.ended is None:
            self.ended = datetime.now(UTC)
            self.machine.end()

    def shown(self) -> dict[str, Any]:
        """Return the pod as the API shows it. SkyPilot takes its internal address from any port that is not public."""
        ports = [
            {"ip": self.address, "isIpPublic": True, "privatePort": 22, "publicPort": self.port, "type": "tcp"},
            {"ip": "127.0.0.1", "isIpPublic": False, "privatePort": 8265, "publicPort": 60000, "type": "http"},
        ]
        asked, gpu = self.asked, GPU_TYPES[self.asked["gpuTypeId"]]
        words = ("name", "imageName", "dockerArgs", "ports", "volumeMountPath")
        return {key: asked.get(key) for key in words} | {
            "id": self.id,
            "desiredStatus": self.status,
            "costPerHr": self.hourly_usd,
            "uptimeSeconds": int((datetime.now(UTC) - self.began).total_seconds()),
            "gpuCount": int(asked.get("gpuCount", 1)),
            "vcpuCount": int(asked.get("minVcpuCount", 1)),
            "memoryInGb": int(asked.get("minMemoryInGb", 8)),
            "containerDiskInGb": int(asked.get("containerDiskInGb", 10)),
            "containerRegistryAuthId": "",
            "env": [],
            "dockerId": None,
            "port": None,
            "volumeInGb": 0,
            "lastStatusChange": self.last_change,
            "machineId": f"m-{self.id}",
            "podType": "INTERRUPTABLE" if self.spot else "RESERVED",
            "runtime": {"ports": ports} if self.has_address else None,
            "machine": {"gpuDisplayName": gpu.shown, "podHostId": f"{self.id}-1"},
        }

    def billed(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "name": self.asked.get("name", ""),
            "region": "secure",
            "type": self.asked["gpuTypeId"],
            "spot": self.spot,
            "status": self.status,
            "address": f"{self.address}:{self.port}",
            "pid": self.machine.pid,
            "hourly_usd": self.hourly_usd,
            "from": self.began.isoformat(),
            "to": self.ended and self.ended.isoformat(),
        }


class Account:
    """The account's pods, and the public keys that each start command writes. A LookupError becomes an error answer."""

    def __init__(self, *, port: int, image: Path, cache: Path, folder: Path, faults: Faults) -> None:
        self.api = ("127.0.0.1", port)
        self.reachable = [self.api]
        self.faults = faults
        self._image, self._cache, self._folder = image, cache, folder
        self._network, self._numbers = loopback_network(port), itertools.count(2)
        self._keys = ""
        self._pods: dict[str, Pod] = {}
        self._past: list[Pod] = []

    def bill(self) -> list[dict[str, Any]]:
        return [pod.billed() for pod in [*self._past, *self._pods.values()]]

    def myself(self, asked: Words) -> dict[str, Any]:
        pods = [pod.shown() for pod in list(self._pods.values())]
        return {"id": "user_box", "pubKey": self._keys, "networkVolumes": [], "podTemplates": [], "pods": pods}

    def keep_keys(self, asked: Words) -> dict[str, Any]:
        self._keys = asked["pubKey"].replace("\\n", "\n")
        return {"id": "user_box", "pubKey": self._keys}

    def gpu_types(self, asked: Words) -> list[dict[str, Any]]:
        factor = self.faults.price_factor
        return [
            {
                "id": key,
                "displayName": gpu.shown,
                "memoryInGb": gpu.memory_gb,
                "manufacturer": "Nvidia",
                "maxGpuCount": 8,
                "secureCloud": True,
                "communityCloud": False,
                "securePrice": gpu.hourly_usd,
                "secureSpotPrice": gpu.bid_usd,
                "lowestPrice": {
                    "uninterruptablePrice": round(gpu.hourly_usd * factor, 4),
                    "minimumBidPrice": round(gpu.bid_usd * factor, 4),
                },
            }
            for key, gpu in GPU_TYPES.items()
            if asked.get("id", key) == key
        ]

    def rent(self, asked: Words, *, spot: bool = False) -> dict[str, Any]:
        gpu = asked["gpuTypeId"]
        if gpu not in GPU_TYPES or not self.faults.has_capacity(gpu):
            raise LookupError(NO_CAPACITY)
        one = float(asked["bidPerGpu"]) if spot else GPU_TYPES[gpu].hourly_usd
        identity = secrets.token_hex(7)
        start = self._folder / f"{identity}.start"
        start.write_text(asked.get("dockerArgs", "sleep infinity") + "\n")
        machine = Machine(
            [
                *(str(HERE / "runpod_machine.sh"), str(self._folder / identity), str(self._image), str(self._cache)),
                *(identity, str(start), "http://{}:{}".format(*self.api)),
            ],
            self._folder / f"{identity}.log",
        )
        pod = Pod(
            asked=asked,
            spot=spot,
            hourly_usd=round(one * int(asked.get("gpuCount", 1)) * self.faults.price_factor, 4),
            address=f"{self._network}.{next(self._numbers)}",
            port=random.randint(10_000, 60_000),
            machine=machine,
            id=identity,
        )
        self._pods[pod.id] = pod
        threading.Thread(target=self._connect, args=(pod, self.faults.gets_ready), daemon=True).start()
        return pod.shown()

    def _connect(self, pod: Pod, gets_ready: bool) -> None:
        for address in self.reachable:
            pod.machine.bring_in(address)
        if gets_ready:
            pod.machine.bring_out(22, (pod.address, pod.port))
            pod.has_address = pod.ended is None

    def stop(self, asked: Words) -> dict[str, Any]:
        pod = self._pods[asked["podId"]]
        pod.end("EXITED")
        return pod.shown()

    def terminate(self, asked: Words) -> None:
        pod = self._pods.pop(asked["podId"], None)  # of two requests at the same time, one comes too late
        if pod is None:
            raise LookupError("pod not found to terminate")
        pod.end("TERMINATED")
        self._past.append(pod)

    def terminate_all(self) -> None:
        for identity in list(self._pods):
            self.terminate({"podId": identity})

    def answer(self, query: str) -> dict[str, Any]:
        """Answer a GraphQL query, as a document. Raises NoAnswer, Throttled."""
        named = re.search(r"\{\s*(\w+)", query)
        assert named, query
        operation = named[1]
        asked = {key: text or bare for key, text, bare in re.findall(r'(\w+):\s*(?:"([^"]*)"|([\w.]+))', query)}
        try:
            with self.faults.around(operation):
                return {"data": {operation: self._carry_out(operation, asked)}}
        except Refused:
            return {"errors": [{"message": f"Something went wrong ({operation})"}]}
        except LookupError as err:
            return {"errors": [{"message": str(err.args[0])}], "data": {operation: None}}

    def _carry_out(self, operation: str, asked: Words) -> Any:
        match operation:
            case "myself":
                return self.myself(asked)
            case "gpuTypes":
                return self.gpu_types(asked)
            case "podFindAndDeployOnDemand" | "podRentInterruptable":
                return self.rent(asked, spot=operation == "podRentInterruptable")
            case "podStop":
                return self.stop(asked)
            case "podTerminate":
                return self.terminate(asked)
            case "updateUserSettings":
                return self.keep_keys(asked)
            case "saveTemplate" | "saveRegistryAuth":
                return {"id": "of_the_box", "name": asked.get("name"), "imageName": asked.get("imageName")}
            case "deleteTemplate" | "deleteRegistryAuth":
                return None
            case _:
                raise LookupError(f'Cannot query field "{operation}"')


def _handler(account: Account) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            query = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["query"]
            try:
                self._reply(account.answer(query))
            except Throttled:
                self._reply({"errors": [{"message": "Too Many Requests"}]}, status=429)
            except NoAnswer:
                self.close_connection = True

        def do_GET(self) -> None:
            url = urlsplit(self.path)
            asked = dict(parse_qsl(url.query))
            match url.path.removeprefix("/box/"):
                case "set":
                    account.faults.set(asked)
                case "clear":
                    account.faults.clear()
                case "preempt" | "stop":
                    account.stop({"podId": asked["id"]})
                case "delete":
                    account.terminate({"podId": asked["id"]})
                case "end_all":
                    account.terminate_all()
                case "reach":
                    account.reachable.append(("127.0.0.1", int(asked["port"])))
                case _:
                    pass
            self._reply(account.bill())

        do_HEAD = do_GET  # noqa: N815

        def _reply(self, content: Any, *, status: int = 200) -> None:
            body = json.dumps(content, indent=1).encode() + b"\n"
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        def log_message(self, format: str, *words: Any) -> None:  # noqa: A002 - its name in the base class
            print(time.strftime("%H:%M:%S"), format % words, flush=True)

    return Handler


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, required=True)
    for name in ("image", "cache", "folder"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    options = parser.parse_args()
    account = Account(
        port=options.port, image=options.image, cache=options.cache, folder=options.folder, faults=Faults()
    )
    server = ThreadingHTTPServer(account.api, _handler(account))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    leave_when_parent_does()


if __name__ == "__main__":
    main()
