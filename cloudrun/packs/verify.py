"""Read every pack of a store and compare it with its name, which is the hash of its bytes."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from cloudrun.errors import StoreError
from cloudrun.packs.layout import PACKS, pack_key, pack_of
from cloudrun.packs.manifest import Manifest
from cloudrun.packs.refs import all_refs, read_manifest
from cloudrun.stores import Listed, Objects, OnBytes

_THREADS = 6


@dataclass(frozen=True, slots=True)
class Damage:
    """A pack that is missing or broken, and the files that need it: data set -> paths."""

    pack: str
    why: str
    files: Mapping[str, tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class Verified:
    """How many packs and bytes were read, and which packs are damaged."""

    packs: int
    size_bytes: int
    damage: tuple[Damage, ...]


def verify(store: Objects, on_bytes: OnBytes, *, remove: bool = False) -> Verified:
    """Return which packs of the store are missing or broken.

    With `remove`, broken packs are deleted, so that the next push sends their content again.
    """
    packs = store.listed(PACKS)
    total = sum(one.size_bytes for one in packs)
    done, lock = 0, threading.Lock()

    def look(one: Listed) -> str | None:
        nonlocal done
        digest = hashlib.sha256()
        try:
            for piece in store.read_range(one.key, 0, one.size_bytes):
                digest.update(piece)
                with lock:
                    done += len(piece)
                    on_bytes(min(done, total - 1), total)
        except StoreError as err:
            return err.message
        return None if digest.hexdigest() == pack_of(one.key) else "its bytes are not what its name says"

    on_bytes(0, total)
    with ThreadPoolExecutor(_THREADS) as pool:
        found = {pack_of(one.key): why for one, why in zip(packs, pool.map(look, packs), strict=True) if why}
    on_bytes(total, total)
    manifests = {name: read_manifest(store, one.ref.manifest) for name, one in all_refs(store).items() if one.ref}
    there = {pack_of(one.key) for one in packs}
    for content in manifests.values():
        found.update(dict.fromkeys(content.packs() - there, "it is missing"))
    if remove:
        store.remove([pack_key(pack) for pack in found if pack in there])
    damage = [Damage(pack, why, _files_of(pack, manifests)) for pack, why in sorted(found.items())]
    return Verified(len(packs), total, tuple(damage))


def _files_of(pack: str, manifests: Mapping[str, Manifest]) -> dict[str, tuple[str, ...]]:
    return {
        name: paths
        for name, content in manifests.items()
        if (paths := tuple(one.path for one in content.files if any(part.pack == pack for part in one.extents)))
    }
