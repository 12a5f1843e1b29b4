"""Bring a run's files home: temporary name, verified hash, one rename."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path

from cloudrun.errors import StoreError
from cloudrun.stores import Entry, Store

OnFile = Callable[[Entry], None]

_TRIES = 3


def pull(store: Store, entries: Sequence[Entry], name_of: Callable[[str], str], folder: Path, on_file: OnFile) -> int:
    """Copy `entries` to `folder/name_of(key)`; returns how many had to be copied.

    A file that is equal already is left alone. One that changes while it is copied (a checkpoint
    being replaced) is listed and copied anew. Raises StoreError when a file does not arrive whole.
    """
    copied = 0
    for entry in entries:
        target = folder / name_of(entry.key)
        if not target.resolve().is_relative_to(folder.resolve()):
            raise StoreError(f"{entry.key} would be written outside {folder}", hint="this is not a run of cloudrun's")
        if target.is_file() and target.stat().st_size == entry.size_bytes and sha256_of(target) == entry.sha256:
            continue
        _pull_one(store, entry, target)
        copied += 1
        on_file(entry)
    return copied


def sha256_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _pull_one(store: Store, entry: Entry, target: Path) -> None:
    partial = target.with_name(target.name + ".partial")
    target.parent.mkdir(parents=True, exist_ok=True)
    for _ in range(_TRIES):
        store.get(entry.key, partial)
        if sha256_of(partial) == entry.sha256:
            partial.replace(target)
            return
        partial.unlink()
        fresh = [one for one in store.entries(entry.key.rpartition("/")[0]) if one.key == entry.key]
        if not fresh:
            raise StoreError(f"{entry.key} went away while it was fetched", hint="run the same command again")
        entry = fresh[0]
    raise StoreError(f"{entry.key} arrived damaged {_TRIES} times (sha256 differs)", hint="run the same command again")
