"""Bring a run's files home: temporary name, verified hash, one rename. A file that was cut off goes on from there."""

from __future__ import annotations

import hashlib
import os
import shutil
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from cloudrun.errors import StoreError
from cloudrun.files import atomic
from cloudrun.remote.ssh import MachineUnreachable
from cloudrun.stores import Entry, Store
from cloudrun.text.units import size

OnFile = Callable[[Entry], None]

_TRIES = 3
# Where this many files in a row fail, the files are not the cause.
_FAILED_IN_A_ROW = 3
_LONGEST_NAME = 255
_ENDINGS = 40  # bytes that are added to a name at most while its file comes
_LOOK_EVERY_S = 0.5


@dataclass(frozen=True, slots=True)
class Progress:
    """The bytes and files that a `pull` has brought so far, and those in all."""

    bytes_done: int
    bytes_total: int
    files_done: int
    files_total: int

    @property
    def files(self) -> tuple[int, int]:
        """(files so far, files in all)."""
        return self.files_done, self.files_total


OnProgress = Callable[[Progress], None]
"""Called from a thread of its own, twice a second while bytes come, and once at the end."""


def pull(  # noqa: PLR0913 - from where, to where, and who hears of it
    store: Store,
    entries: Sequence[Entry],
    name_of: Callable[[str], str],
    folder: Path,
    on_file: OnFile,
    *,
    on_progress: OnProgress = lambda _: None,
    on_damage: OnFile = lambda _: None,
) -> int:
    """Copy `entries` to `folder/name_of(key)`; return how many had to be copied.

    A file that is equal already is left alone. A cut leaves `NAME.HASH.partial`, from which the next call goes
    on if the file is still the same. A file that changes while it is copied (a checkpoint being replaced) is listed
    and copied anew. A file that arrives damaged is reported to `on_damage`, and copied anew from its first byte.
    Raises StoreError where there is no room, or a file does not arrive whole; the other files are still fetched, until
    three in a row fail. Raises MachineUnreachable at once.
    """
    wanted = missing(entries, name_of, folder)
    _refuse_without_room(folder, wanted)
    failed: list[tuple[Entry, StoreError]] = []
    in_a_row = 0
    with _told(wanted, on_progress) as under_way:
        for entry, target in wanted:
            under_way.now = entry, target
            try:
                make_way(target, folder)
                _pull_one(store, entry, target, on_damage)
            except MachineUnreachable:
                raise
            except StoreError as err:
                failed.append((entry, err))
                in_a_row += 1
                if in_a_row == _FAILED_IN_A_ROW:
                    break
            else:
                in_a_row = 0
                under_way.done.append(entry)
                under_way.now = None
                on_file(entry)
    if failed:
        raise _the_first_of(failed)
    return len(wanted)


def make_way(target: Path, folder: Path) -> None:
    """Move aside a file where `target` below `folder` needs a folder, and a folder where `target` will be a file.

    They are left by an earlier fetch: on the machine, a file has become a folder since, or a folder a file.
    """
    for path in reversed(target.relative_to(folder).parents[:-1]):
        if not (folder / path).is_dir() and os.path.lexists(folder / path):
            _set_aside(folder / path)
    if target.is_dir():
        _set_aside(target)


def _set_aside(path: Path) -> None:
    number = 1
    while os.path.lexists(aside := path.with_name(f"{path.name[:200]}.earlier-{number}")):
        number += 1
    path.rename(aside)


def _the_first_of(failed: Sequence[tuple[Entry, StoreError]]) -> StoreError:
    first, err = failed[0]
    if len(failed) == 1:
        return err
    return StoreError(f"{len(failed)} files did not come, {first.key} first: {err.message}", hint=err.hint)


def missing(entries: Sequence[Entry], name_of: Callable[[str], str], folder: Path) -> list[tuple[Entry, Path]]:
    """Return the entries that `folder` does not hold unchanged, with the path of each.

    Raises StoreError for a name that leads out of `folder`.
    """
    wanted = []
    for entry in entries:
        target = folder / name_of(entry.key)
        if not target.resolve().is_relative_to(folder.resolve()):
            raise StoreError(f"{entry.key} would be written outside {folder}", hint="this is not a run of cloudrun's")
        if not (target.is_file() and target.stat().st_size == entry.size_bytes and sha256_of(target) == entry.sha256):
            wanted.append((entry, target))
    return wanted


def sha256_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _pull_one(store: Store, entry: Entry, target: Path, on_damage: OnFile) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    for _ in range(_TRIES):
        partial = _partial(target, entry)
        _drop_other_versions(target, partial)
        _get(store, entry.key, partial)
        if sha256_of(partial) == entry.sha256:
            _settle(partial, target)
            return
        partial.unlink()
        fresh = [one for one in store.entries(entry.key.rpartition("/")[0]) if one.key == entry.key]
        if not fresh:
            raise StoreError(f"{entry.key} went away while it was fetched", hint="run the same command again")
        if fresh[0] == entry:
            on_damage(entry)
        entry = fresh[0]
    raise StoreError(f"{entry.key} arrived damaged {_TRIES} times (sha256 differs)", hint="run the same command again")


def _get(store: Store, key: str, partial: Path) -> None:
    """Fetch a file; go on after a cut for as long as each try brings more."""
    while True:
        before = _come(partial)
        try:
            store.get(key, partial)
        except StoreError:
            if _come(partial) <= before:
                raise
        else:
            return


def _partial(target: Path, entry: Entry) -> Path:
    """Return the temporary path, which has the version's hash: two versions of a checkpoint are never mixed."""
    return target.with_name(f"{_stem(target)}.{entry.sha256[:16]}{atomic.PARTIAL}")


def _stem(target: Path) -> str:
    """Return how `target`'s temporary names begin: with its name or, where that is too long, its start and a hash."""
    name = os.fsencode(target.name)
    if len(name) + _ENDINGS <= _LONGEST_NAME:
        return target.name
    return f"{target.name[:32]}-{hashlib.sha256(name).hexdigest()[:16]}"


def _drop_other_versions(target: Path, partial: Path) -> None:
    stem = _stem(target)
    for path in target.parent.iterdir():
        is_part = path.name.startswith(f"{stem}.") and atomic.PARTIAL in path.suffixes[-2:]
        if is_part and not path.name.startswith(partial.name):  # a store may keep notes beside it
            path.unlink()


def _settle(partial: Path, target: Path) -> None:
    """Flush the file to the disk, then rename it: once a file has its name here, its machine may be ended."""
    atomic.settle(partial, target, durable=True)


def _refuse_without_room(folder: Path, wanted: Sequence[tuple[Entry, Path]]) -> None:
    needed = sum(entry.size_bytes - min(_come(_partial(path, entry)), entry.size_bytes) for entry, path in wanted)
    there = next(path for path in (folder, *folder.absolute().parents) if path.is_dir())
    free = shutil.disk_usage(there).free
    if needed > free:
        raise StoreError(
            f"the disk of {folder} is full: {size(needed)} are to come, and {size(free)} are free",
            hint="free some space, or name another folder: `cloudrun fetch --to DIR`",
        )


def _come(path: Path) -> int:
    """Return the bytes that have come; 0 where there is no file.

    A store that fills ranges in any order gives the file its final length at once: so the disk's blocks count, too.
    """
    try:
        found = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return 0
    return min(found.st_size, found.st_blocks * 512)


@dataclass
class _UnderWay:
    """The files that have come, and the file that comes now."""

    done: list[Entry]
    now: tuple[Entry, Path] | None = None


@contextmanager
def _told(wanted: Sequence[tuple[Entry, Path]], on_progress: OnProgress) -> Iterator[_UnderWay]:
    """Call `on_progress` while files come, by the sizes of the files that grow.

    Yields the record of what has come, which the caller keeps up to date.
    """
    under_way = _UnderWay([])
    total = sum(entry.size_bytes for entry, _ in wanted)
    over = threading.Event()

    def look() -> None:
        come, now = sum(entry.size_bytes for entry in under_way.done), under_way.now
        if now is not None:
            entry, path = now
            come += min(_come(_partial(path, entry)), entry.size_bytes)
        on_progress(Progress(min(come, total), total, len(under_way.done), len(wanted)))

    def watch() -> None:
        while not over.wait(_LOOK_EVERY_S):
            look()

    watcher = threading.Thread(target=watch, name="progress", daemon=True)
    if wanted:
        look()
        watcher.start()
    try:
        yield under_way
    finally:
        over.set()
        if wanted:
            watcher.join()
            look()
