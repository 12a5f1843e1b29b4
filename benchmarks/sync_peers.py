"""Write each tool's commands to bring a folder or a file to the store and back, at its best documented settings."""

from __future__ import annotations

import getpass
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.support.relay import Relay
from tests.support.seaweedfs import BUCKET, free_ports

OBSTORE = '''\
"""obstore as its documentation has it: many requests at once, from asyncio."""
import asyncio, os, sys
from pathlib import Path
import obstore
from obstore.store import S3Store

what, endpoint, prefix, place = sys.argv[1:]
place = Path(place)
store = S3Store("results", endpoint=endpoint, region="us-east-1", client_options={"allow_http": True})
AT_ONCE = 64


async def up():
    gate = asyncio.Semaphore(AT_ONCE)

    async def one(path):
        async with gate:
            await obstore.put_async(store, f"{prefix}/{path.relative_to(place).as_posix()}", path.read_bytes())

    await asyncio.gather(*[one(path) for path in place.rglob("*") if path.is_file()])


async def down():
    gate = asyncio.Semaphore(AT_ONCE)

    async def one(key):
        async with gate:
            content = await (await obstore.get_async(store, key)).bytes_async()
            path = place / key.removeprefix(prefix + "/")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)

    keys = [one["path"] for batch in obstore.list(store, prefix + "/") for one in batch]
    await asyncio.gather(*[one(key) for key in keys])


def up_file():
    with place.open("rb") as file:
        obstore.put(store, prefix, file, use_multipart=True, chunk_size=8 * 1024 * 1024, max_concurrency=8)


def down_file():
    with place.open("wb") as file:
        for piece in obstore.get(store, prefix).stream(min_chunk_size=1 << 20):
            file.write(piece)


if what in ("up", "down"):
    asyncio.run({"up": up, "down": down}[what]())
else:
    {"up-file": up_file, "down-file": down_file}[what]()
os._exit(0)  # its threads now and then abort on the way out
'''


@dataclass(frozen=True)
class Line:
    """A way to a port; `relay` is None where no relay counts the bytes."""

    name: str
    port: int
    relay: Relay | None

    @property
    def up_bytes(self) -> int:
        return self.relay.up_bytes if self.relay else 0

    @property
    def down_bytes(self) -> int:
        return self.relay.down_bytes if self.relay else 0


@dataclass(frozen=True)
class Tool:
    """A tool's command lines: `up(folder, name)`, `down(name, folder, old name of the folder)`; the same for a file."""

    name: str
    up: Callable[[Path, str], list[str]]
    down: Callable[[str, Path, str], list[str]]
    up_file: Callable[[Path, str], list[str]] | None = None
    down_file: Callable[[str, Path], list[str]] | None = None
    syncs: bool = True  # the tool compares, and sends only what has changed


WANTED: tuple[str, ...] = ("",)  # beginnings of names


def tools(peers: Path, line: Line) -> list[Tool]:
    """Return the wanted tools, which reach the store over `line`; `peers` is their folder of programs."""
    endpoint = f"http://127.0.0.1:{line.port}"
    made = [_cloudrun(endpoint), *(make(peers, endpoint) for make in (_aws, _s5cmd, _rclone, _obstore))]
    return [one for one in made if one.name.startswith(WANTED)]


def _cloudrun(endpoint: str) -> Tool:
    program = [str(Path(sys.executable).parent / "cloudrun"), "data"]
    of_file = "import sys; from pathlib import Path; from cloudrun.stores.s3 import S3Store; "
    of_file += "store = S3Store('s3://results/run', sys.argv[1], journal=Path(sys.argv[3]).parent / 'uploads.json'); "
    at = ["--endpoint", endpoint]
    return Tool(
        "cloudrun",
        lambda folder, name: [*program, "push", str(folder), f"s3://{BUCKET}/{name}", "--name", "set", *at],
        lambda name, folder, _: [*program, "pull", f"s3://{BUCKET}/{name}", "set", str(folder), *at],
        lambda path, key: [
            sys.executable,
            "-c",
            of_file + "store.upload(Path(sys.argv[3]), sys.argv[2])",
            endpoint,
            key,
            str(path),
        ],
        lambda key, path: [
            sys.executable,
            "-c",
            of_file + "store.get(sys.argv[2], Path(sys.argv[3]))",
            endpoint,
            key,
            str(path),
        ],
    )


def _aws(peers: Path, endpoint: str) -> Tool:
    program = [str(peers / "aws"), "--endpoint-url", endpoint, "s3"]
    return Tool(
        "aws s3 sync",
        lambda folder, name: [*program, "sync", "--no-progress", str(folder), f"s3://{BUCKET}/aws/{name}"],
        lambda name, folder, _: [*program, "sync", "--no-progress", f"s3://{BUCKET}/aws/{name}", str(folder)],
        lambda path, key: [*program, "cp", "--no-progress", str(path), f"s3://{BUCKET}/aws/{key}"],
        lambda key, path: [*program, "cp", "--no-progress", f"s3://{BUCKET}/aws/{key}", str(path)],
    )


def _s5cmd(peers: Path, endpoint: str) -> Tool:
    program = [str(peers / "s5cmd"), "--endpoint-url", endpoint]
    return Tool(
        "s5cmd sync",
        lambda folder, name: [*program, "sync", f"{folder}/*", f"s3://{BUCKET}/s5/{name}/"],
        lambda name, folder, _: [*program, "sync", f"s3://{BUCKET}/s5/{name}/*", f"{folder}/"],
        lambda path, key: [*program, "cp", str(path), f"s3://{BUCKET}/s5/{key}"],
        lambda key, path: [*program, "cp", f"s3://{BUCKET}/s5/{key}", str(path)],
    )


def _rclone(peers: Path, endpoint: str) -> Tool:
    remote = f":s3,provider=SeaweedFS,env_auth=true,region=us-east-1,endpoint='{endpoint}':{BUCKET}/rclone"
    program = [str(peers / "rclone"), "--config", "/dev/null", "--s3-no-check-bucket"]
    many = ["--transfers", "32", "--checkers", "32"]
    return Tool(
        "rclone copy",
        lambda folder, name: [*program, "copy", *many, str(folder), f"{remote}/{name}"],
        lambda name, folder, _: [*program, "copy", *many, f"{remote}/{name}", str(folder)],
        lambda path, key: [*program, "copyto", str(path), f"{remote}/{key}"],
        lambda key, path: [*program, "copyto", f"{remote}/{key}", str(path)],
    )


def _obstore(peers: Path, endpoint: str) -> Tool:
    program = [str(peers / "python"), str(peers.parent / "obstore_sync.py")]
    return Tool(
        "obstore, 64 at once",
        lambda folder, name: [*program, "up", endpoint, f"obstore/{name}", str(folder)],
        lambda name, folder, _: [*program, "down", endpoint, f"obstore/{name}", str(folder)],
        lambda path, key: [*program, "up-file", endpoint, f"obstore/{key}", str(path)],
        lambda key, path: [*program, "down-file", endpoint, f"obstore/{key}", str(path)],
        syncs=False,
    )


@contextmanager
def ssh_server(folder: Path) -> Iterator[tuple[int, Callable[[int], Path]]]:
    """Run an sshd on loopback. Yields its port, and a function that writes a home folder for reaching it at a port.

    The home folder has the SSH entry `cloudrun-bench`.
    """
    sshd = shutil.which("sshd", path=f"{os.environ['PATH']}:/usr/sbin")
    assert sshd is not None, "needs sshd (apt install openssh-server)"
    folder.mkdir()
    for name in ("host_key", "user_key"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / name], check=True)
    (port,) = free_ports(1)
    (folder / "sshd_config").write_text(
        f"Port {port}\nListenAddress 127.0.0.1\nHostKey {folder}/host_key\nPidFile none\nUsePAM no\nStrictModes no\n"
        f"AuthorizedKeysFile {folder}/user_key.pub\nPasswordAuthentication no\n"
    )
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)

    def write_entry(reached_at: int) -> Path:
        entries = folder / ".sky" / "generated" / "ssh"
        entries.mkdir(parents=True)
        (entries / "cloudrun-bench").write_text(
            f"Host cloudrun-bench\n  HostName 127.0.0.1\n  Port {reached_at}\n  User {getpass.getuser()}\n"
            f"  IdentityFile {folder}/user_key\n  IdentitiesOnly yes\n  StrictHostKeyChecking no\n"
            "  UserKnownHostsFile /dev/null\n  LogLevel ERROR\n"
        )
        return folder

    server = subprocess.Popen([sshd, "-D", "-f", folder / "sshd_config", "-E", folder / "sshd.log"])
    try:
        for _ in range(200):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.05)
        yield port, write_entry
    finally:
        server.terminate()
        server.wait()
