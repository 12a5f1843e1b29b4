"""A run's folder on the rented machine's own disk, over SkyPilot's SSH."""

from __future__ import annotations

import re
import subprocess
import threading
from collections.abc import Sequence
from pathlib import Path
from shlex import quote

from cloudrun.errors import StoreError
from cloudrun.ssh import Connection, rsync_failed
from cloudrun.stores import Entry, OnBytes

_ABSENT = 44  # exit code of our own scripts for "no such file"
_LIST = r"""cd {folder} 2>/dev/null || exit 0
[ -e {prefix} ] || exit 0
find {prefix} -type f ! -name '*.tmp' ! -name '*.partial' -exec sh -c '
  for f; do printf "%s %s %s\n" "$(stat -c %s "$f")" "$(sha256sum < "$f" | cut -d " " -f 1)" "$f"; done' _ {{}} +
"""
_COUNT = """find . -type f -printf '%s\\n' | awk '{ n += 1; s += $1 } END { printf "%d %.0f", n, s }'"""


class NodeStore:
    """Implements `Store` on a machine. `folder` is absolute there."""

    def __init__(self, machine: str, folder: str) -> None:
        self._connection = Connection(machine)
        self._machine = machine
        self._folder = "/" + folder.lstrip("/")

    def entries(self, prefix: str) -> list[Entry]:
        script = _LIST.format(folder=quote(self._folder), prefix=quote(prefix))
        code, output = self._connection.run(script, timeout_s=600)
        if code != 0:
            raise StoreError(f"cannot list {prefix} on `{self._machine}`", hint="run the same command again")
        found = []
        for line in output.decode().splitlines():
            size, sha256, key = line.split(" ", 2)
            if re.fullmatch(r"\d+", size) and re.fullmatch(r"[0-9a-f]{64}", sha256):
                found.append(Entry(key, int(size), sha256))
        return sorted(found, key=lambda entry: entry.key)

    def read(self, key: str, *, offset: int = 0) -> bytes | None:
        path = quote(f"{self._folder}/{key}")
        code, output = self._connection.run(f"[ -e {path} ] || exit {_ABSENT}; tail -c +{offset + 1} {path}")
        if code == _ABSENT:
            return None
        if code != 0:
            raise StoreError(f"cannot read {key} on `{self._machine}`", hint="run the same command again")
        return output

    def get(self, key: str, target: Path) -> None:
        # In place, so that what has come survives a kill of either end; a start that differs is sent anew.
        self._connection.rsync("--append-verify", f"{self._machine}:{self._folder}/{key}", str(target))

    def put(self, key: str, content: bytes) -> None:
        path = quote(f"{self._folder}/{key}")
        code, _ = self._connection.run(f"cat > {path}.tmp && mv {path}.tmp {path}", content=content)
        if code != 0:
            raise StoreError(f"cannot write {key} on `{self._machine}`", hint="is its disk full?")

    def remove(self, keys: Sequence[str]) -> None:
        paths = " ".join(quote(f"{self._folder}/{key}") for key in keys)
        self._connection.run(f"rm -f {paths}")

    def push(self, source: Path, prefix: str, on_bytes: OnBytes) -> None:
        files = [path for path in source.rglob("*") if path.is_file()]
        total = sum(path.stat().st_size for path in files)
        target = f"{self._folder}/{prefix}"
        on_bytes(0, total)
        self._connection.run(f"mkdir -p {quote(target)}")
        # No -z: photographs do not compress. -L: a link's target is what the trainer reads.
        command = self._connection.rsync_command("-L", "--info=progress2", f"{source}/", f"{self._machine}:{target}/")
        with subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        ) as process:
            try:
                said = _follow_progress(process, total, on_bytes)
            except BaseException:
                process.terminate()
                raise
        if process.returncode != 0:
            raise rsync_failed(self._machine, process.returncode, said)
        self._check_arrival(target, len(files), total)
        on_bytes(total, total)

    def _check_arrival(self, target: str, count: int, total: int) -> None:
        _, output = self._connection.run(f"cd {quote(target)} && {_COUNT}", timeout_s=600)
        there = output.decode().split()
        if there != [str(count), str(total)]:
            raise StoreError(
                f"the data on `{self._machine}` are not what was sent: {' files, '.join(there)} bytes"
                f" instead of {count} files, {total} bytes",
                hint="did files change while they were sent? run the same command again",
            )


def _follow_progress(process: subprocess.Popen[bytes], total: int, on_bytes: OnBytes) -> bytes:
    """Read `--info=progress2` (a line redrawn by carriage returns); returns what rsync said on stderr."""
    said: list[bytes] = []
    assert process.stdout is not None
    assert process.stderr is not None
    listener = threading.Thread(target=lambda err=process.stderr: said.append(err.read()), daemon=True)
    listener.start()
    line = b""
    while byte := process.stdout.read(1):
        if byte not in b"\r\n":
            line += byte
            continue
        number = line.split()[:1]
        if number and number[0].replace(b",", b"").isdigit():
            on_bytes(min(int(number[0].replace(b",", b"")), max(total - 1, 0)), total)
        line = b""
    process.wait()
    listener.join()
    return b"".join(said)
