"""Find the files of a run's folder that the bucket does not have yet, and send them."""

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

# The worker appends to these files or replaces them whole: they can be sent at any instant.
_WORKERS_OWN = (STATUS, LOG_INDEX, LOG)
_LONGEST_KEY = 800  # bytes; S3 allows 1024, of which the prefix needs some
# Longer than a tick of the clock by which files are dated: a younger file may change without a change of its date.
_QUIET_S = 0.2

_Mark = tuple[int, int, int]


class ChangedFiles:
    """Sends a run's changed files. A new object asks the bucket what it has, so that a restart sends nothing twice."""

    def __init__(self, run_dir: Path, store: S3Store, say: Callable[[str], None]) -> None:
        self._dir = run_dir
        self._store = store
        self._say = say
        self._sent: dict[str, tuple[_Mark, Entry | None]] = {}
        self._there: dict[str, Entry] | None = None
        self._left_out: set[str] = set()

    def send_changed(self) -> list[str]:
        """Send new and changed files. Returns the names of files that are being written to, for the next time.

        Raises StoreError at the first file that the bucket does not take.
        """
        if self._there is None:
            if not (self._dir / RESULT).exists():
                self._store.remove([RESULT])  # an earlier attempt's
            self._there = {entry.key: entry for entry in self._store.entries(OUT)}
        for name in _WORKERS_OWN:
            self._send_as_it_stands(name)
        return [path.name for path in self._outputs() if not self._send_whole(path)]

    def send_result(self) -> None:
        """Send `result.json`, last of all. Raises StoreError where the bucket has lost a file that was sent."""
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
        """Return the job's files, small ones first: so none of them waits for a checkpoint of gigabytes."""
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
            content = read_regular(self._dir / name)  # not by `open`, which would wait for ever at a pipe of that name
        except OSError:
            return
        if content is None:
            return
        self._store.put(name, content)
        self._sent[name] = (mark, None)

    def _send_whole(self, path: Path) -> bool:
        """Send a file, unless the bucket has it or it cannot be sent; return False where it is being written to."""
        key = path.relative_to(self._dir).as_posix()
        try:
            key.encode()
        except UnicodeEncodeError:
            self._leave_out(key, "its name is not UTF-8")
            return True
        if len(key.encode()) > _LONGEST_KEY:  # S3 would refuse a longer key again and again
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
