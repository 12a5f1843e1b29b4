"""Clouds on this computer, for tests: an account, machines that are rented in it, and a laptop that is set up for it.

    python -m tests.clouds.box aws --base /tmp/box-dev     # or runpod; says which file to source; Ctrl-C ends all of it

SkyPilot is the real one, unchanged: only the provider's answers come from this computer, by the address that its own
SDK reads out of the environment. Everything is private to `base`, but for the image of the machines (`bake.sh`), which
is kept in /var/tmp.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import random
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from dataclasses import dataclass, field
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from tests.clouds import accounts
from tests.sky.slurm_cluster import MARK, SYSTEM_PATH, processes_of

HERE = Path(__file__).resolve().parent
CHECKOUT = HERE.parents[1]
IMAGES = Path("/var/tmp/cloudrun-boxes")
PROGRAMS = {
    "sshd": "openssh-server", "ssh": "openssh-client", "sudo": "sudo", "rsync": "rsync", "ip": "iproute2",
    "curl": "curl", "patch": "patch", "unshare": "util-linux", "setpriv": "util-linux", "python3": "python3-venv",
}  # fmt: skip
CERTIFICATES = "/etc/ssl/certs/ca-certificates.crt"


class BoxUnavailable(Exception):
    """This computer cannot hold a box; the message says why."""


@dataclass(frozen=True, slots=True)
class Rented:
    """A machine that is or was rented, as its provider bills it."""

    id: str
    name: str
    status: str
    pid: int | None
    began: datetime
    ended: datetime | None
    where: str
    hourly_usd: float | None = None

    @property
    def is_up(self) -> bool:
        return self.ended is None

    def seconds(self) -> float:
        """Return for how many seconds the machine was up, or has been up."""
        end = self.ended or datetime.now(self.began.tzinfo)
        return (end - self.began).total_seconds()


@dataclass(slots=True)
class Box:
    """A running box: a provider's account on this computer, and a laptop that is set up for it."""

    cloud: str
    base: Path
    port: int
    api_port: int
    process: subprocess.Popen[bytes] = field(repr=False)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def env(self) -> dict[str, str]:
        """The environment of the laptop: for `cloudrun`, `sky`, and the provider's own SDK."""
        return _environment(self.cloud, self.base, self.port, self.api_port)

    def bill(self) -> list[Rented]:
        """Return the machines that were rented since the box began, the oldest first."""
        return sorted((_rented(line) for line in self._ask("bill")), key=lambda one: one.began)

    def up(self) -> list[str]:
        """Return the names of the machines that bill at this moment."""
        return [one.name for one in self.bill() if one.is_up]

    def machine_of(self, run_id: str) -> Rented:
        """Return the newest machine of a run."""
        return [one for one in self.bill() if run_id in one.name][-1]

    def faults(self, **words: object) -> None:
        """Make the provider do wrong, in the words of `faults`; without words, make it do everything right again."""
        if words:
            self._ask("set", **words)
        else:
            self._ask("clear")

    def take_away(self, machine: Rented) -> None:
        """Take a machine back as a provider takes a spot machine: AWS terminates it, RunPod stops it (EXITED)."""
        self._ask("preempt", id=machine.id)

    def switch_off(self, machine: Rented) -> None:
        """Stop a machine as somebody does at the provider's console."""
        self._ask("stop", id=machine.id)

    def on_machine(self, machine: Rented, *command: str) -> subprocess.CompletedProcess[str]:
        """Run a command among a machine's processes, as root, without the network of this computer."""
        assert machine.pid is not None
        children = Path(f"/proc/{machine.pid}/task/{machine.pid}/children").read_text().split()
        enter = ["nsenter", "--all", "--target", children[0], f"--root=/proc/{children[0]}/root", "--wdns=/"]
        return subprocess.run(
            [*enter, "env", "-i", f"PATH={SYSTEM_PATH}", "HOME=/root", *command],
            capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip

    def reach(self, port: int) -> None:
        """Let machines that are rented from now on reach a server that listens on this computer's loopback."""
        self._ask("reach", port=port)

    def fill_memory(self, machine: Rented) -> None:
        """Have 97 % of a machine's memory in use by its kernel's figures, which Ray reads; no page is really taken."""
        script = "echo $(($(cat memory.max) / 100 * 97)) > memory.current"
        done = self.on_machine(machine, "sh", "-c", f"cd /sys/fs/cgroup && {script}")
        assert done.returncode == 0, done

    def end_machines(self) -> None:
        """Give everything back by the provider's own hand, whatever SkyPilot and the ledger think."""
        self.faults()
        self._ask("end_all")

    def stop(self) -> None:
        """End every process of the box and remove its folder."""
        assert self.process.stdin is not None
        with contextlib.suppress(OSError):
            self.process.stdin.close()  # see `leaving`
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(120)
        if left := processes_of(self.base):
            raise RuntimeError(f"still running for {self.base}: {left}")

    def _ask(self, question: str, **words: object) -> list[dict[str, Any]]:
        query = urllib.parse.urlencode(words)
        with urllib.request.urlopen(f"{self.url}/box/{question}?{query}", timeout=30) as answer:
            lines: list[dict[str, Any]] = json.load(answer)
        return lines


def start(cloud: str, base: Path) -> Box:
    """Start a box with SkyPilot's API server below `base`, an empty folder; the first box of all makes the image."""
    refuse_what_is_missing()
    image = bake()
    (base / "machines").mkdir(parents=True)
    port, api_port = _free_ports(2)
    accounts.write_laptop(cloud, base / "client", f"http://127.0.0.1:{port}")
    with (base / "box.log").open("wb") as log:
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", f"tests.clouds.{cloud}_box", "--port", str(port), "--image", str(image)),
                *("--cache", str(_uv_cache()), "--folder", str(base / "machines")),
            ],
            env={**os.environ, MARK: str(base)}, cwd=CHECKOUT, stdin=subprocess.PIPE, stdout=log, stderr=log,
            start_new_session=True,  # Ctrl-C is for the parent, which then has this process end the box
        )  # fmt: skip
    box = Box(cloud, base, port, api_port, process)
    try:
        _wait_for_answer(box)
        accounts.prepare(cloud, box.url)
        for words in (["api", "start"], ["check", cloud]):
            _call(*words, env=box.env)
        exports = "".join(f"export {name}={shlex.quote(value)}\n" for name, value in box.env.items())
        (base / "env.sh").write_text(exports)
    except BaseException:
        box.stop()
        raise
    return box


def refuse_what_is_missing() -> None:
    """Raise BoxUnavailable where this computer cannot hold machines: Debian or Ubuntu, and root, only."""
    if os.geteuid() != 0:
        raise BoxUnavailable("machines of our own need root: each has a network and a file system of its own")
    missing = sorted({package for name, package in PROGRAMS.items() if not shutil.which(name, path=SYSTEM_PATH)})
    if missing:
        raise BoxUnavailable(f"these packages are missing: `apt-get install {' '.join(missing)}`")
    known = "import sys; sys.exit(not (3, 9) <= sys.version_info < (3, 12))"
    if subprocess.run(["/usr/bin/python3", "-c", known], check=False).returncode != 0:
        raise BoxUnavailable("SkyPilot's Ray needs Python 3.9 to 3.11 as /usr/bin/python3")
    done = subprocess.run(
        ["unshare", "-m", "-n", "-p", "-f", "sh", "-c", "mount -t tmpfs tmpfs /mnt && ip link set lo up"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode != 0:
        raise BoxUnavailable(f"no namespaces can be made here: {done.stderr.strip()}")
    with contextlib.closing(socket.socket()) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.255.255.2", 22))
            probe.listen()
        except OSError as err:
            raise BoxUnavailable(f"port 22 is taken at all addresses of this computer: {err.strerror}") from err


def bake() -> Path:
    """Return the folder of the machines' image, which is made once for SkyPilot's version and our requirements."""
    parts = [HERE / "bake.sh", HERE / "machine.sh", CHECKOUT / "trainer" / "requirements.txt"]
    digest = hashlib.sha256(b"".join(part.read_bytes() for part in parts) + version("skypilot").encode())
    image = IMAGES / digest.hexdigest()[:12]
    if not image.is_dir():
        IMAGES.mkdir(parents=True, exist_ok=True)
        uv = shutil.which("uv") or str(CHECKOUT / ".uv/bin/uv")
        words = [str(image), str(_uv_cache()), uv, str(CHECKOUT), version("skypilot")]
        done = subprocess.run(
            ["flock", f"{image}.lock", "unshare", "-m", str(HERE / "bake.sh"), *words],
            capture_output=True, text=True, check=False, timeout=1800,
        )  # fmt: skip
        if done.returncode != 0:
            raise RuntimeError(f"the machines' image could not be made: {done.stderr.strip()[-2000:]}")
    return image


def _uv_cache() -> Path:
    uv = shutil.which("uv") or str(CHECKOUT / ".uv/bin/uv")
    folder = Path(subprocess.run([uv, "cache", "dir"], capture_output=True, text=True, check=True).stdout.strip())
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _environment(cloud: str, base: Path, port: int, api_port: int) -> dict[str, str]:
    return {
        "HOME": str(base / "client"),
        "PATH": f"{Path(sys.executable).parent}:{SYSTEM_PATH}",
        "LANG": "C.UTF-8",
        "PYTHONPATH": str(HERE.parent / "sky" / "patches"),
        "SSL_CERT_FILE": os.environ.get("SSL_CERT_FILE", CERTIFICATES),
        "SKYPILOT_API_SERVER_LOCAL_PORT": str(api_port),
        "SKYPILOT_DISABLE_USAGE_COLLECTION": "1",
        "SKY_TEST_NET_PROBE": f"http://127.0.0.1:{port}/box/bill",
        MARK: str(base),
        **accounts.environment(cloud, f"http://127.0.0.1:{port}"),
    }


def _rented(line: dict[str, Any]) -> Rented:
    return Rented(
        id=line["id"],
        name=line["name"],
        status=line["status"],
        pid=line["pid"],
        began=datetime.fromisoformat(line["from"]),
        ended=line["to"] and datetime.fromisoformat(line["to"]),
        where=line["region"],
        hourly_usd=line.get("hourly_usd"),
    )


def _wait_for_answer(box: Box) -> None:
    until = time.monotonic() + 60
    while True:
        try:
            box.bill()
            return
        except (urllib.error.URLError, OSError):
            if box.process.poll() is not None or time.monotonic() > until:
                said = (box.base / "box.log").read_text()[-2000:]
                raise RuntimeError(f"the box of {box.cloud} does not answer:\n{said}") from None
            time.sleep(0.2)


def _call(*words: str, env: dict[str, str]) -> None:
    done = subprocess.run([_program("sky"), *words], env=env, capture_output=True, text=True, timeout=300, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"`sky {shlex.join(words)}`: exit {done.returncode}\n{done.stdout}{done.stderr}")


def _program(name: str) -> str:
    return str(Path(sys.executable).parent / name)


def _free_ports(count: int) -> list[int]:
    """Return free ports below the kernel's range for outgoing connections, which could take a port meanwhile."""
    first = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    found: list[int] = []
    while len(found) < count:
        port = random.randrange(15_000, max(first, 16_000))
        if port not in found:
            with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
                found.append(port)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cloud", choices=["aws", "runpod"])
    parser.add_argument("--base", type=Path, required=True)
    options = parser.parse_args()
    try:
        box = start(options.cloud, options.base.absolute())
    except BoxUnavailable as err:
        sys.exit(f"error: {err}")
    print(f"source {box.base}/env.sh    # {box.url}/box/bill", flush=True)
    with contextlib.suppress(KeyboardInterrupt):
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        box.process.wait()
    box.stop()


if __name__ == "__main__":
    main()
