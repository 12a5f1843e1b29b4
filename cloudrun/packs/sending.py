"""Send the new content of a push: files are read ahead and packed, and packs are sent side by side."""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from cloudrun.packs.archive import Archive, Memory, Pack
from cloudrun.packs.flow import Flow
from cloudrun.packs.index import FileIndex, Seen
from cloudrun.packs.layout import pack_key
from cloudrun.packs.manifest import Extent, FileRecord, Manifest
from cloudrun.packs.scan import Found, is_settled, read_pieces, read_whole
from cloudrun.stores import Objects, OnFiles

CHUNK_BYTES = 8_000_000  # a larger file is stored in pieces of this size
_READERS, _SENDERS = 3, 8
_BATCH_FILES, _BATCH_BYTES = 64, 4_000_000
_LAST_S = 2.0
_LOOK_S = 0.2


@dataclass(frozen=True, slots=True)
class Pushed:
    """What a push has sent; `manifest` is None for a dry run."""

    manifest: str | None
    files: int
    size_bytes: int
    new_files: int  # whose content the store did not have
    sent_bytes: int


@dataclass(frozen=True, slots=True)
class _Read:
    """A file as it was read. `pieces`: (sha256, length in bytes) of each piece that is stored by itself."""

    seen: Seen
    pieces: tuple[tuple[str, int], ...]


class Sending:
    """One push under way. Where it ends by an error, the packs that have arrived are noted all the same."""

    def __init__(  # noqa: PLR0913 - from where, to where, and how
        self, folder: Path, store: Objects, index: FileIndex, store_name: str, on_files: OnFiles, *, dry_run: bool
    ) -> None:
        self._folder = folder
        self._store = store
        self._index = index
        self._store_name = store_name
        self._on_files = on_files
        self._dry_run = dry_run
        self._known: dict[str, Extent] = {}
        self._planned: set[str] = set()  # content that is on its way
        self._read: dict[str, _Read] = {}
        self._memory = Memory()
        self._archive = Archive(self._memory.take())
        self._uploads: dict[Future[None], Pack] = {}
        self._flow = Flow()
        self._senders = ThreadPoolExecutor(_SENDERS)
        self.own_packs: set[str] = set()
        self._new_files = self._sent_bytes = 0
        self._done_bytes = self._total_bytes = 0
        self._done_files = self._total_files = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, failed: object, *_: object) -> None:
        self._senders.shutdown(wait=not failed, cancel_futures=bool(failed))
        if failed:  # packs that have arrived are noted, so that they are not sent again
            done = wait(self._uploads, timeout=_LAST_S).done
            self._note([one for one in done if not one.cancelled() and one.exception() is None])

    def know(self, known: dict[str, Extent]) -> None:
        """Set what the store has already: sha256 -> where that content lies."""
        self._known = known
        self._planned = set()

    def send(self, found: Sequence[Found], same: dict[str, Seen]) -> None:
        """Read the files that have to be read, and send content that the store does not have."""
        todo = [one for one in found if not self._is_stored(one, same)]
        self._total_bytes = sum(one.size for one in todo)
        self._total_files = len(todo)
        self._done_bytes = self._done_files = 0
        if self._total_bytes:
            self._on_files(0, self._total_bytes, (0, self._total_files))
        for path in {one.path for one in found} - {one.path for one in todo}:
            if path not in self._read:
                self._read[path] = _Read(same[path], ((same[path].sha256, same[path].size),))
        for read, content in self._in_order([one for one in todo if one.size <= CHUNK_BYTES]):
            self._add(read, content)
        for one in todo:
            if one.size > CHUNK_BYTES:
                self._add_large(one)
        self._start()

    def beside(self, work: Callable[[], object]) -> Future[object]:
        """Start `work` while the last packs are on their way."""
        return self._senders.submit(work)

    def settle(self) -> None:
        """Wait until every pack has arrived."""
        while self._uploads:
            self._take(wait(self._uploads, return_when=FIRST_COMPLETED).done)
        if self._total_bytes:
            self._on_files(self._total_bytes, self._total_bytes, (self._total_files, self._total_files))

    def manifest(self) -> Manifest:
        """Return the manifest of all files, by the packs that have been sent or are on their way."""
        records = []
        for path in sorted(self._read):
            one = self._read[path]
            extents = tuple(self._known[sha256] for sha256, length in one.pieces if length)
            records.append(FileRecord(path, one.seen.size, one.seen.sha256, extents))
        return Manifest(tuple(records))

    def remember(self, root: str, gone: set[str]) -> None:
        """Write the hashes of the folder `root` to the index, but not those of files that may still change unseen."""
        settled = [one.seen for one in self._read.values() if is_settled(one.seen.mtime_ns)]
        self._index.remember(root, settled, gone)

    def pushed(self, manifest: str | None) -> Pushed:
        """Return what this push has sent; `manifest` is None for a dry run."""
        size_bytes = sum(one.seen.size for one in self._read.values())
        return Pushed(manifest, len(self._read), size_bytes, self._new_files, self._sent_bytes)

    def _is_stored(self, one: Found, same: dict[str, Seen]) -> bool:
        """Return whether the store has all of the file's content, as far as can be told without reading the file."""
        if one.path in self._read:
            return all(sha256 in self._known for sha256, length in self._read[one.path].pieces if length)
        seen = same.get(one.path)
        return seen is not None and seen.size <= CHUNK_BYTES and (seen.sha256 in self._known or not seen.size)

    def _in_order(self, todo: Sequence[Found]) -> Iterator[tuple[_Read, bytes]]:
        """Yield files of one piece, which a few threads read ahead.

        They read in batches: to hand a file to a thread takes longer than to read a small file.
        """
        pending: deque[Future[list[tuple[_Read, bytes]]]] = deque()
        with ThreadPoolExecutor(_READERS) as readers:
            try:
                for batch in _batches(todo):
                    pending.append(readers.submit(self._read_batch, batch))
                    if len(pending) > _READERS:
                        yield from pending.popleft().result()
                while pending:
                    yield from pending.popleft().result()
            finally:
                for one in pending:
                    one.cancel()

    def _read_batch(self, batch: Sequence[Found]) -> list[tuple[_Read, bytes]]:
        return [self._read_one(one) for one in batch]

    def _read_one(self, one: Found) -> tuple[_Read, bytes]:
        content, stat = read_whole(self._folder / one.path)
        sha256 = hashlib.sha256(content).hexdigest()
        seen = Seen(one.path, len(content), stat.st_mtime_ns, stat.st_ino, sha256)
        return _Read(seen, ((sha256, len(content)),)), content

    def _add(self, read: _Read, content: bytes) -> None:
        path = read.seen.path
        self._read[path] = read
        if self._is_new(read.seen.sha256, len(content)):
            self._new_files += 1
            self._pack(path, content, read.seen.sha256)
        else:
            self._note_known(len(content), files=1)

    def _add_large(self, one: Found) -> None:
        """Send a file that does not fit a pack in pieces, of which one at a time is held in memory."""
        path = self._folder / one.path
        stat = path.stat()
        whole, pieces, is_new = hashlib.sha256(), [], False
        for number, content in enumerate(read_pieces(path, CHUNK_BYTES)):
            whole.update(content)
            sha256 = hashlib.sha256(content).hexdigest()
            pieces.append((sha256, len(content)))
            if self._is_new(sha256, len(content)):
                is_new = True
                self._pack(f"{one.path}.part{number:04}", content, sha256)
            else:
                self._note_known(len(content), files=0)
        self._new_files += is_new
        size = sum(length for _, length in pieces)
        self._read[one.path] = _Read(
            Seen(one.path, size, stat.st_mtime_ns, stat.st_ino, whole.hexdigest()), tuple(pieces)
        )

    def _is_new(self, sha256: str, length: int) -> bool:
        if not length or sha256 in self._known or sha256 in self._planned:
            return False
        self._planned.add(sha256)
        return True

    def _pack(self, label: str, content: bytes, sha256: str) -> None:
        if self._dry_run:
            self._sent_bytes += len(content)
            return
        if not (self._archive.is_empty or self._archive.has_room(label, len(content), self._flow.pack_bytes)):
            self._start()
        self._archive.add(label, content, sha256)

    def _start(self) -> None:
        """Send the pack that is under construction, and begin the next one."""
        if self._archive.is_empty:
            return
        pack = self._archive.finish()
        is_started = False
        while not is_started:
            is_started = self._flow.start(len(pack.content), wait_s=_LOOK_S)
            self._take([one for one in self._uploads if one.done()])
        self._archive = Archive(self._memory.take())
        self._known.update({extent.sha256: extent for extent in pack.extents})
        self.own_packs.add(pack.id)
        self._uploads[self._senders.submit(self._upload, pack)] = pack

    def _upload(self, pack: Pack) -> None:
        arrived = False
        try:
            self._store.create(pack_key(pack.id), pack.content, sha256=pack.id)
            arrived = True
        finally:
            self._flow.end(len(pack.content), arrived=arrived)

    def _take(self, ended: Iterable[Future[None]]) -> None:
        """Note the packs that have arrived, so that a kill from here on does not send them again."""
        ended = list(ended)
        self._note([one for one in ended if one.exception() is None])
        for one in ended:
            one.result()

    def _note(self, arrived: Iterable[Future[None]]) -> None:
        for one in arrived:
            pack = self._uploads.pop(one)
            self._index.note_sent(self._store_name, pack.extents)
            self._sent_bytes += len(pack.content)
            self._note_done(sum(extent.length for extent in pack.extents), files=len(pack.extents))
            self._memory.give_back(pack)

    def _note_known(self, count: int, *, files: int) -> None:
        """Take bytes and files off the total: they were read, and need not be sent after all."""
        self._total_bytes -= count
        self._total_files -= files

    def _note_done(self, count: int, *, files: int) -> None:
        self._done_bytes = min(self._done_bytes + count, self._total_bytes - 1)
        self._done_files = min(self._done_files + files, self._total_files)
        self._on_files(self._done_bytes, self._total_bytes, (self._done_files, self._total_files))


def _batches(todo: Sequence[Found]) -> Iterator[list[Found]]:
    batch: list[Found] = []
    size = 0
    for one in todo:
        if batch and (len(batch) >= _BATCH_FILES or size + one.size > _BATCH_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(one)
        size += one.size
    if batch:
        yield batch
