"""Bring a run's files home: temporary name, verified hash, one rename. What was cut off goes on where it was."""

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
# So many files in a row that do not come are no fault of theirs.
_FAILED_IN_A_ROW = 3
_LONGEST_NAME = 255
_ENDINGS = 40  # bytes of what is added to a name while its file comes
_LOOK_EVERY_S = 0.5


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a `pull` is."""

    bytes_done: int
    bytes_total: int
    files_done: int
    files_total: int

    @property
    def files(self) -> tuple[int, int]:
        return self.files_done, self.files_total


OnProgress = Callable[[Progress], None]
"""Called from a thread of its own, twice a second while bytes come, and once at the end."""


def pull(
    store: Store,
    entries: Sequence[Entry],
    name_of: Callable[[str], str],
    folder: Path,
    on_file: OnFile,
    *,
    on_progress: OnProgress = lambda _: None,
    on_damage: OnFile = lambda _: None,
) -> int:
    """Copy `entries` to `folder/name_of(key)`; returns how many had to be copied.

    A file that is equal already is left alone. A cut leaves `NAME.HASH.partial`, from which the next call goes
    on if the file is still the same. One that changes while it is copied (a checkpoint being replaced) is listed
    and copied anew; one that arrives damaged goes to `on_damage`, and is copied anew from its first byte.
    Raises StoreError when there is no room, or a file does not arrive whole; the others are fetched all the same.
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
    """Move aside what is not a folder where `target` below `folder` needs one, or is a folder where it will be a file.

    Of an earlier fetch: on the machine, a file has become a folder since, or a folder a file.
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
    """Those of `entries` that `folder` does not hold as they are, with the path of each."""
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
    """Go on after a cut for as long as each try brings more."""
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
    """Named for the version that it is the start of: two versions of a checkpoint are never mixed."""
    return target.with_name(f"{_stem(target)}.{entry.sha256[:16]}{atomic.PARTIAL}")


def _stem(target: Path) -> str:
    """What the temporary names of `target` begin with: its name, or where they would be too long, a hash of it."""
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
    """On the disk first: once a file has its name here, its machine may be ended."""
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
    """Bytes that are there. A store that fills ranges in any order makes the file as long as it will be."""
    try:
        found = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return 0
    return min(found.st_size, found.st_blocks * 512)


@dataclass
class _UnderWay:
    """What has come, and what comes now."""

    done: list[Entry]
    now: tuple[Entry, Path] | None = None


@contextmanager
def _told(wanted: Sequence[tuple[Entry, Path]], on_progress: OnProgress) -> Iterator[_UnderWay]:
    """Tells how far it is, by the sizes of the files that grow. Yields what the caller keeps up to date."""
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
