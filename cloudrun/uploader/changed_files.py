"""What of a run's folder the bucket does not have yet, and sending it."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from cloudrun.errors import StoreError
from cloudrun.files.atomic import TEMPORARY
from cloudrun.files.untrusted import read_regular
from cloudrun.protocol.outputs import OUT_PREFIX
from cloudrun.protocol.run_folder import LOG, LOG_INDEX, OUT, RESULT, STATUS
from cloudrun.stores import Entry
from cloudrun.stores.listing import files_below, left_out_below
from cloudrun.stores.s3 import S3Store
from cloudrun.stores.s3_upload import FileChanged
from cloudrun.text.names import renamed

# Appended to, or replaced whole, by the worker: as they stand, they are right at any instant.
_WORKERS_OWN = (STATUS, LOG_INDEX, LOG)
_LONGEST_KEY = 800  # of the 1024 bytes that S3 allows, some are the prefix's
# Longer than a tick of the clock by which files are dated: a file as young as this may change without a trace.
_QUIET_S = 0.2

_Mark = tuple[int, int, int]


class ChangedFiles:
    """Remembers what it has sent; a new one asks the bucket, so that a restart sends nothing twice."""

    def __init__(self, run_dir: Path, store: S3Store, say: Callable[[str], None]) -> None:
        self._dir = run_dir
        self._store = store
        self._say = say
        self._sent: dict[str, tuple[_Mark, Entry | None]] = {}
        self._there: dict[str, Entry] | None = None
        self._left_out: set[str] = set()

    def send_changed(self) -> list[str]:
        """Send what is new. Returns the files that are being written to: they are for the next time.

        Raises StoreError at the first file that the bucket does not take.
        """
        if self._there is None:
            if not (self._dir / RESULT).exists():
                self._store.remove([RESULT])  # of an attempt before this one
            self._there = {entry.key: entry for entry in self._store.entries(OUT)}
        for name in _WORKERS_OWN:
            self._send_as_it_stands(name)
        return [path.name for path in self._outputs() if not self._send_whole(path)]

    def send_result(self) -> None:
        """The last word. Raises StoreError where the bucket does not have all that it speaks of."""
        there = {entry.key: entry for entry in self._store.entries(OUT)}
        missing = [key for key, (_, entry) in self._sent.items() if entry is not None and there.get(key) != entry]
        if missing:
            for key in missing:
                del self._sent[key]
            raise StoreError(f"the bucket has lost {', '.join(sorted(missing))}", hint="it is sent again")
        for path, why in left_out_below(self._dir / OUT):
            self._leave_out(path.relative_to(self._dir).as_posix(), why)
        for name in _WORKERS_OWN:
            self._send_as_it_stands(name)
        content = read_regular(self._dir / RESULT)
        if content is None:
            raise StoreError(f"{RESULT} is not a file", hint="the worker writes it again")
        self._store.put(RESULT, content)
        if self._store.read(RESULT) != content:
            raise StoreError(f"the bucket gives back another {RESULT}", hint="it is sent again")

    def _outputs(self) -> Iterator[Path]:
        """Small ones first: a checkpoint of gigabytes keeps nobody waiting."""
        sized = []
        for path in files_below(self._dir / OUT):
            if path.name.endswith(TEMPORARY):
                continue
            try:
                sized.append((path.stat().st_size, path))
            except FileNotFoundError:
                continue  # replaced between the listing and the look
        return (path for _, path in sorted(sized))

    def _send_as_it_stands(self, name: str) -> None:
        try:
            mark = _mark((self._dir / name).stat())
            if self._sent.get(name, (None,))[0] == mark:
                return
            content = read_regular(self._dir / name)  # a pipe of that name would be waited for
        except OSError:
            return
        if content is None:
            return
        self._store.put(name, content)
        self._sent[name] = (mark, None)

    def _send_whole(self, path: Path) -> bool:
        """False where the file is being written to."""
        key = path.relative_to(self._dir).as_posix()
        try:
            key.encode()
        except UnicodeEncodeError:
            self._leave_out(key, "its name is not UTF-8")
            return True
        if len(key.encode()) > _LONGEST_KEY:  # S3 has no longer ones: it would be refused again and again
            key = f"{OUT_PREFIX}{renamed(key)}"
        try:
            stat = path.stat()
            if self._sent.get(key, (None,))[0] == _mark(stat):
                return True
            if 0 <= time.time() - stat.st_mtime < _QUIET_S:  # a date in the future says nothing
                return False
            entry = self._already_there(path, key) or self._store.upload(path, key)
            self._sent[key] = (_mark(stat), entry)
        except FileChanged:
            return False
        except FileNotFoundError:
            return True  # the job removed it: nothing to send
        except OSError as err:
            self._leave_out(key, f"it cannot be read: {err.strerror}")
        return True

    def _leave_out(self, key: str, why: str) -> None:
        if key not in self._left_out:
            self._left_out.add(key)
            shown = key.encode(errors="backslashreplace").decode()
            self._say(f"{shown} is left out: {why}")

    def _already_there(self, path: Path, key: str) -> Entry | None:
        assert self._there is not None
        there = self._there.pop(key, None)
        if there is None or there.size_bytes != path.stat().st_size:
            return None
        with path.open("rb") as file:
            same = hashlib.file_digest(file, "sha256").hexdigest() == there.sha256
        return there if same else None


def _mark(stat: os.stat_result) -> _Mark:
    return stat.st_ino, stat.st_size, stat.st_mtime_ns
