"""Fetch a data set from a store by ranges of packs; check each file by its hash, then rename it to its name."""

from __future__ import annotations

import errno
import hashlib
import os
import threading
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from cloudrun.errors import StoreError
from cloudrun.files import atomic
from cloudrun.packs.layout import pack_key
from cloudrun.packs.manifest import FileRecord, Manifest
from cloudrun.packs.scan import walk
from cloudrun.retry import doubled, tries
from cloudrun.stores import Objects, OnFiles

PARTIAL = ".cloudrun-partial"
_RANGE_BYTES = 4_000_000
_GAP_BYTES = 64_000  # a smaller gap between two stretches is read along: a second request would take longer
_THREADS = 10
_PAUSES_S = doubled(0.5, 3)


@dataclass(frozen=True, slots=True)
class Pulled:
    """Counts of a pull. `files` is of the whole data set; `removed` of files that are not in the data set."""

    files: int
    size_bytes: int
    new_files: int
    fetched_bytes: int
    removed: int


@dataclass(frozen=True, slots=True)
class _Stretch:
    """A piece of a file: `offset` is its place in the pack, `at` its place in the file, in bytes."""

    record: FileRecord
    at: int
    offset: int
    length: int
    sha256: str


@dataclass(slots=True)
class _Range:
    """The stretches that one request asks for: of one pack, in order."""

    pack: str
    stretches: list[_Stretch] = field(default_factory=list)

    @property
    def begin(self) -> int:
        return self.stretches[0].offset

    @property
    def end(self) -> int:
        return self.stretches[-1].offset + self.stretches[-1].length


def pull(manifest: Manifest, store: Objects, folder: Path, on_files: OnFiles, *, exact: bool = False) -> Pulled:
    """Make `folder` hold the data set; `exact` removes all other files from it.

    A file that is there and equal is left alone, whoever wrote it; so a pull that was killed goes on where it was.
    Raises StoreError, which names the file, where a file does not arrive whole after several tries.
    """
    folder.mkdir(parents=True, exist_ok=True)
    there = {one.path: one.size for one in walk(folder)}
    wanted = {one.path for one in manifest.files}
    _refuse_links_out(folder, wanted | there.keys() if exact else wanted)
    removed = _remove(folder, [path for path in there if path.endswith(PARTIAL) and not _is_piece(path, wanted)])
    if exact:
        removed += _remove(folder, [path for path in there if path not in wanted and not path.endswith(PARTIAL)])
    missing = _missing(manifest, folder, there)
    for parent in {(folder / one.path).parent for one in missing}:
        parent.mkdir(parents=True, exist_ok=True)
    pulling = _Pulling(store, folder, on_files, sum(one.size_bytes for one in missing), len(missing))
    pulling.run(missing)
    return Pulled(len(manifest.files), manifest.size_bytes, len(missing), pulling.fetched_bytes, removed)


def _refuse_links_out(folder: Path, paths: Iterable[str]) -> None:
    """Nothing is written or removed through a link that leads out of the folder. Raises StoreError naming it."""
    real = folder.resolve()
    for parent in sorted({path.rpartition("/")[0] for path in paths}):
        try:
            leads_to = (folder / parent).resolve()
        except (OSError, RuntimeError):  # a loop of links: the file below it cannot be written, and says so
            continue
        if not leads_to.is_relative_to(real):
            raise StoreError(
                f"{folder / parent} leads out of the folder, to {leads_to}",
                hint="remove that link, or choose another folder: what is there would be changed",
            )


def _is_piece(path: str, wanted: set[str]) -> bool:
    return path.removesuffix(PARTIAL) in wanted


def _remove(folder: Path, paths: Sequence[str]) -> int:
    for path in paths:
        (folder / path).unlink(missing_ok=True)
    return len(paths)


def _missing(manifest: Manifest, folder: Path, there: dict[str, int]) -> list[FileRecord]:
    """Return the files that the folder does not hold. Those that are there are read: name and size prove nothing."""
    like = [one for one in manifest.files if there.get(one.path) == one.size_bytes]
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        equal = pool.map(lambda one: _holds(folder / one.path, one.sha256), like, chunksize=64)
        whole = {one.path for one, is_equal in zip(like, equal, strict=True) if is_equal}
    return [one for one in manifest.files if one.path not in whole]


def _holds(path: Path, sha256: str) -> bool:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest() == sha256
    except OSError:
        return False


class _Pulling:
    """One pull under way."""

    def __init__(self, store: Objects, folder: Path, on_files: OnFiles, total: int, files: int) -> None:
        self._store = store
        self._folder = folder
        self._on_files = on_files
        self._files = files
        self._files_done = 0
        self._total = total
        self._lock = threading.Lock()
        self._done = 0
        self._failed = threading.Event()
        self.fetched_bytes = 0

    def run(self, missing: Sequence[FileRecord]) -> None:
        if self._total:
            self._on_files(0, self._total, (0, self._files))
        stretches = []
        for one in missing:
            if not one.size_bytes:
                with _explained(self._folder / one.path):
                    _write(self._folder / one.path, b"")
            elif len(one.extents) == 1:
                part = one.extents[0]
                stretches.append((part.pack, _Stretch(one, 0, part.offset, part.length, part.sha256)))
            else:
                stretches += self._pieces_missing(one)
        with ThreadPoolExecutor(_THREADS) as pool:
            fetches = [pool.submit(self._fetch, one) for one in _coalesced(stretches)]
            try:
                for fetch in fetches:
                    fetch.result()
            except BaseException:
                self._failed.set()
                pool.shutdown(wait=False, cancel_futures=True)
                raise
        for record in missing:
            if len(record.extents) > 1:
                self._finish(record)
        if self._total:
            self._on_files(self._total, self._total, (self._files, self._files))

    def _pieces_missing(self, record: FileRecord) -> Iterator[tuple[str, _Stretch]]:
        """Yield (pack, stretch) of each piece of a large file that its partial copy does not hold yet."""
        path = self._folder / (record.path + PARTIAL)
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.is_symlink():
            path.unlink()
        at = 0
        with _explained(path), path.open("a+b") as file:
            file.truncate(record.size_bytes)
            for part in record.extents:
                file.seek(at)
                if hashlib.sha256(file.read(part.length)).hexdigest() == part.sha256:
                    self._note_done(part.length, files=0)
                else:
                    yield part.pack, _Stretch(record, at, part.offset, part.length, part.sha256)
                at += part.length

    def _fetch(self, wanted: _Range) -> None:
        """Fetch the stretches of a range. Where it breaks off, go on from there, for as many tries as `_PAUSES_S` has.

        Raises StoreError after the last try.
        """
        left = deque(wanted.stretches)
        for pause_s in tries(_PAUSES_S):
            try:
                damaged = self._fetch_once(wanted.pack, left)
            except StoreError:
                if pause_s is None or self._failed.is_set():
                    raise
                continue
            if not damaged:
                return
            if pause_s is None:
                raise StoreError(
                    f"{damaged[0].record.path} arrives damaged (sha256 differs): pack {wanted.pack[:12]} is broken",
                    hint="`cloudrun data verify STORE --remove`, then push again: only what is broken is sent",
                )
            left = deque(damaged)

    def _fetch_once(self, pack: str, left: deque[_Stretch]) -> list[_Stretch]:
        """Fetch the stretches in `left`, and take each out once its last byte is here; return the damaged ones."""
        damaged = []
        buffer = bytearray()
        start, end = left[0].offset, left[-1].offset + left[-1].length
        for piece in self._store.read_range(pack_key(pack), start, end - start):
            if self._failed.is_set():
                raise StoreError("another part of the transfer failed", hint="run the same command again")
            buffer += piece
            self._count(len(piece))
            while left and left[0].offset + left[0].length <= start + len(buffer):
                one = left[0]
                begin = one.offset - start
                if not self._keep(one, bytes(buffer[begin : begin + one.length])):
                    damaged.append(one)
                left.popleft()
                del buffer[: begin + one.length]
                start = one.offset + one.length
        return damaged

    def _keep(self, one: _Stretch, content: bytes) -> bool:
        """Write the content of a stretch to its file; return False, and write nothing, where its hash is wrong."""
        if hashlib.sha256(content).hexdigest() != one.sha256:
            return False
        with _explained(self._folder / one.record.path):
            if len(one.record.extents) == 1:
                _write(self._folder / one.record.path, content)
            else:
                with (self._folder / (one.record.path + PARTIAL)).open("r+b", buffering=0) as file:
                    os.pwrite(file.fileno(), content, one.at)
        self._note_done(one.length, files=len(one.record.extents) == 1)
        return True

    def _finish(self, record: FileRecord) -> None:
        """Rename a large file whose pieces are all here, once the hash of the whole has proved their order."""
        partial, path = self._folder / (record.path + PARTIAL), self._folder / record.path
        if not _holds(partial, record.sha256):
            raise StoreError(f"{record.path} is not whole (sha256 differs)", hint="run the same command again")
        with _explained(path):
            atomic.settle(partial, path)

    def _count(self, count: int) -> None:
        with self._lock:
            self.fetched_bytes += count

    def _note_done(self, count: int, *, files: int) -> None:
        with self._lock:
            self._done += count
            self._files_done += files
            done = min(self._done, self._total - 1)
            self._on_files(done, self._total, (self._files_done, self._files))


def _write(path: Path, content: bytes) -> None:
    temporary = f"{path}{PARTIAL}"
    number = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o666)
    try:
        written = os.write(number, content)
        while written < len(content):
            written += os.write(number, content[written:])
    finally:
        os.close(number)
    atomic.settle(temporary, path)


def _coalesced(stretches: Sequence[tuple[str, _Stretch]]) -> list[_Range]:
    """Return ranges of about 4 MB, of stretches that lie near one another, in the order of the packs."""
    ranges: list[_Range] = []
    for pack, one in sorted(stretches, key=lambda pair: (pair[0], pair[1].offset)):
        last = ranges[-1] if ranges else None
        if (
            last is None
            or last.pack != pack
            or one.offset - last.end > _GAP_BYTES
            or one.offset + one.length - last.begin > _RANGE_BYTES
        ):
            ranges.append(_Range(pack, [one]))
        elif one.offset >= last.end:
            last.stretches.append(one)
        else:  # the same content for another file: it is fetched again
            ranges.append(_Range(pack, [one]))
    return ranges


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as err:
        with suppress(OSError):
            Path(f"{path}{PARTIAL}").unlink()
        if err.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise StoreError(
                f"cannot write {path}: the disk is full", hint="free some space, then run the same command again"
            ) from err
        raise StoreError(
            f"cannot write {path}: {err.strerror}", hint="fix it, then run the same command again"
        ) from err
