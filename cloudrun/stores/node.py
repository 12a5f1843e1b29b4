"""A run's folder on the rented machine's own disk, over SkyPilot's SSH."""

from __future__ import annotations

import logging
import os
import re
import subprocess
import tempfile
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from shlex import quote

from cloudrun.errors import StoreError
from cloudrun.files import atomic
from cloudrun.remote.python import FIND_PYTHON
from cloudrun.remote.ssh import Connection, ends_with_this, rsync_failed
from cloudrun.stores import Entry, OnBytes, arrival
from cloudrun.stores.background import started, waited
from cloudrun.stores.ranges import forget_ranges

log = logging.getLogger(__name__)

_ABSENT = 44  # exit code of our own scripts for "no such file"
_LIST = r"""cd {folder} 2>/dev/null || exit 0
[ -e {prefix} ] || exit 0
list() {{
  find "$@" -type f ! -name '*.tmp' ! -name '*.partial' -exec sh -c '
    for f; do printf "%s %s %s\0" "$(stat -L -c %s "$f")" "$(sha256sum < "$f" | cut -d " " -f 1)" "$f"; done' _ {{}} +
}}
list -L {prefix} || list {prefix}
"""  # a folder that links to itself cannot be followed
# Prints whatever is neither a file nor a folder, such as links that lead nowhere, and files that cannot be read.
_LEFT_OUT = r"""cd {folder} 2>/dev/null || exit 0
[ -e {prefix} ] || exit 0
find -L {prefix} ! -type f ! -type d -printf '%y %p\0' 2>/dev/null
find -L {prefix} -type f ! -readable -printf 'r %p\0' 2>/dev/null
exit 0
"""
_WHY = {"r": "it cannot be read", "l": "a link that leads nowhere", "L": "a link that leads to itself"}
_PARTIAL = f"--partial-dir={arrival.PARTIAL_DIR}"
# Enough for a terabyte from a disk that reads 150 MB/s. Progress is shown meanwhile.
_HASHING_S = 7200.0
# Names that neither rsync nor a shell takes for a pattern or a command.
_PLAIN = re.compile(r"[\w./ =+,@%-]+")


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
        found = {}
        for row in output.split(b"\0")[:-1]:
            size, _, named = os.fsdecode(row).partition(" ")
            sha256, _, key = named.partition(" ")
            if re.fullmatch(r"\d+", size) and re.fullmatch(r"[0-9a-f]{64}", sha256):
                found[key] = Entry(key, int(size), sha256)
        return [found[key] for key in sorted(found)]

    def left_out(self, prefix: str) -> list[str]:
        script = _LEFT_OUT.format(folder=quote(self._folder), prefix=quote(prefix))
        code, output = self._connection.run(script, timeout_s=600)
        if code != 0:
            raise StoreError(f"cannot list {prefix} on `{self._machine}`", hint="run the same command again")
        found = set()
        for row in output.split(b"\0")[:-1]:
            kind, _, key = os.fsdecode(row).partition(" ")
            found.add(f"{key} ({_WHY.get(kind, 'neither a file nor a folder')})")
        return sorted(found)

    def is_there(self) -> bool:
        code, _ = self._connection.run(f"[ -d {quote(self._folder)} ] || exit {_ABSENT}")
        return code != _ABSENT

    def read(self, key: str, *, offset: int = 0, limit: int | None = None) -> bytes | None:
        path = quote(f"{self._folder}/{key}")
        # To read a pipe would wait for ever: so only a regular file is read.
        part = "" if limit is None else f" | head -c {limit}"
        code, output = self._connection.run(f"[ -f {path} ] || exit {_ABSENT}; tail -c +{offset + 1} {path}{part}")
        if code == _ABSENT:
            return None
        if code != 0:
            raise StoreError(f"cannot read {key} on `{self._machine}`", hint="run the same command again")
        return output

    def size(self, key: str) -> int | None:
        path = quote(f"{self._folder}/{key}")
        code, output = self._connection.run(f"[ -f {path} ] || exit {_ABSENT}; stat -L -c %s {path}")
        if code == _ABSENT:
            return None
        if code != 0 or not output.strip().isdigit():
            raise StoreError(f"cannot read {key} on `{self._machine}`", hint="run the same command again")
        return int(output)

    def get(self, key: str, target: Path) -> None:
        forget_ranges(target)
        if _PLAIN.fullmatch(key) is None:
            self._get_by_list(key, target)
            return
        # In place, so that what has come survives a kill of either end; a start that differs is sent anew.
        self._connection.rsync("-L", "--append-verify", self._connection.at(f"{self._folder}/{key}"), str(target))

    def _get_by_list(self, key: str, target: Path) -> None:
        """Fetch a file whose name rsync or a shell would take for something else; from its beginning each time."""
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=".fetch-") as folder:
            listed = Path(folder) / "list"
            listed.write_bytes(os.fsencode(key) + b"\0")
            words = ["-L", "--from0", f"--files-from={listed}"]
            self._connection.rsync(*words, self._connection.at(f"{self._folder}/"), f"{folder}/come/")
            atomic.settle(Path(folder) / "come" / key, target)

    def put(self, key: str, content: bytes) -> None:
        path = quote(f"{self._folder}/{key}")
        code, _ = self._connection.run(f"cat > {path}.tmp && mv {path}.tmp {path}", content=content)
        if code != 0:
            raise StoreError(f"cannot write {key} on `{self._machine}`", hint="is its disk full?")

    def remove(self, keys: Sequence[str]) -> None:
        paths = " ".join(quote(f"{self._folder}/{key}") for key in keys)
        self._connection.run(f"rm -f {paths}")

    def push(self, source: Path, prefix: str, on_bytes: OnBytes) -> None:
        """Copy a folder below `prefix`, compare each file's sha256 at both ends, and send again what differs.

        Raises StoreError also where something cannot be sent, or a file still differs after it was sent twice.
        """
        try:
            sizes = arrival.list_files(str(source))
        except arrival.NotSendable as err:
            raise StoreError(f"cannot send {source}: {err}", hint="fix or remove it") from err
        hashing = started(lambda: arrival.hashes_of(str(source), list(sizes)))  # while the files are sent
        total = sum(sizes.values())
        target = f"{self._folder}/{prefix}"
        on_bytes(0, total)
        self._connection.run(f"mkdir -p {quote(target)}")
        self._send(["--delete", f"{source}/", self._connection.at(f"{target}/")], total, on_bytes)

        def almost() -> None:
            on_bytes(max(total - 1, 0), total)

        wrong = self._differing(target, waited(hashing, almost), almost)
        if wrong:
            log.warning("%s: not on `%s` as here (sha256): sending again", _some(wrong), self._machine)
            self._send_again(source, [name for name in wrong if name in sizes], target)
            hashes = waited(started(lambda: arrival.hashes_of(str(source), list(sizes))), almost)
            wrong = self._differing(target, hashes, almost)
        if wrong:
            raise StoreError(
                f"the data on `{self._machine}` are not what was sent: {_some(wrong)} (sha256 differs, sent twice)",
                hint="did files change while they were sent? run the same command again",
            )
        on_bytes(total, total)

    def _send(self, words: list[str], total: int, on_bytes: OnBytes) -> None:
        # No -z: photographs do not compress. -L: a link's target is what the trainer reads.
        command = self._connection.rsync_command("-L", _PARTIAL, "--info=progress2", *words)
        with subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            preexec_fn=ends_with_this,
        ) as process:
            try:
                said = _follow_progress(process, total, on_bytes)
            except BaseException:
                process.terminate()
                raise
        if process.returncode != 0:
            raise rsync_failed(self._machine, process.returncode, said)

    def _send_again(self, source: Path, names: list[str], target: str) -> None:
        """Send these files whole, whatever their sizes and times on the machine are."""
        with tempfile.NamedTemporaryFile() as listed:
            listed.write(b"\0".join(os.fsencode(name) for name in names))
            listed.flush()
            again = ["-L", "--ignore-times", "--whole-file", "--from0", f"--files-from={listed.name}"]
            self._connection.rsync(*again, f"{source}/", self._connection.at(f"{target}/"))

    def _differing(self, target: str, hashes: dict[str, str], meanwhile: Callable[[], None]) -> list[str]:
        script = f'{FIND_PYTHON}"$python" - {quote(target)} {arrival.digest_of(hashes)}'
        program = Path(arrival.__file__).read_bytes()
        asking = started(lambda: self._connection.run(script, content=program, timeout_s=_HASHING_S))
        code, output = waited(asking, meanwhile)
        if code != 0:
            raise StoreError(
                f"cannot check the data on `{self._machine}`: its Python ended with {code}",
                hint="run the same command again",
            )
        return arrival.differing(hashes, output)


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _follow_progress(process: subprocess.Popen[bytes], total: int, on_bytes: OnBytes) -> bytes:
    """Read rsync's `--info=progress2` (a line redrawn by carriage returns); return what rsync wrote to stderr."""
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
