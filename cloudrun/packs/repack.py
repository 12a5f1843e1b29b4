"""Rewrite packs that are mostly waste: what is still needed goes into new packs, and the refs to new manifests.

The old packs are then garbage like any other: `collect` marks and deletes them. A ref that somebody else swings
meanwhile is left as it is.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from cloudrun.errors import StoreError
from cloudrun.packs.archive import Archive, Memory
from cloudrun.packs.flow import PACK_BYTES
from cloudrun.packs.layout import PACKS, manifest_key, pack_key, pack_of
from cloudrun.packs.manifest import Extent, Manifest
from cloudrun.packs.refs import ChangedMeanwhile, all_refs, read_manifest, swing
from cloudrun.stores import Objects

WASTE = 0.5


@dataclass(frozen=True, slots=True)
class Repacked:
    """How many packs were rewritten, and how many bytes of them were kept."""

    packs: int
    kept_bytes: int


def repack(store: Objects, *, waste: float = WASTE) -> Repacked:
    """Rewrite each pack of which more than the share `waste` is not needed.

    Raises StoreError where needed content cannot be read whole; nothing is lost then.
    """
    refs = all_refs(store)
    manifests = {name: read_manifest(store, one.ref.manifest) for name, one in refs.items() if one.ref is not None}
    needed: dict[str, dict[str, tuple[str, Extent]]] = {}  # pack -> sha256 -> (a path, where)
    for content in manifests.values():
        for one in content.files:
            for part in one.extents:
                needed.setdefault(part.pack, {})[part.sha256] = (one.path, part)
    sizes = {pack_of(one.key): one.size_bytes for one in store.listed(PACKS)}
    wasteful = {
        pack
        for pack, parts in needed.items()
        if pack in sizes and sum(part.length for _, part in parts.values()) < (1 - waste) * sizes[pack]
    }
    if not wasteful:
        return Repacked(0, 0)
    kept = [one for pack in sorted(wasteful) for one in needed[pack].values()]
    moved = {one.sha256: one for one in _write(store, kept)}
    for name, content in manifests.items():
        if not content.packs() & wasteful:
            continue
        version = refs[name]
        assert version.ref is not None
        manifest, encoded = _moved(content, moved, wasteful).encode()
        store.create(manifest_key(manifest), encoded)
        try:
            swing(store, name, replace(version.ref, manifest=manifest, was=version.ref.manifest), version)
        except ChangedMeanwhile:
            continue
    return Repacked(len(wasteful), sum(part.length for _, part in kept))


def _write(store: Objects, kept: Iterable[tuple[str, Extent]]) -> Iterator[Extent]:
    memory = Memory()
    archive = Archive(memory.take())
    for path, part in kept:
        content = b"".join(bytes(piece) for piece in store.read_range(pack_key(part.pack), part.offset, part.length))
        if hashlib.sha256(content).hexdigest() != part.sha256:
            raise StoreError(
                f"{path} is damaged in pack {part.pack[:12]}",
                hint="`cloudrun data verify STORE --remove`, then push the data set again",
            )
        if not archive.is_empty and not archive.has_room(path, len(content), PACK_BYTES):
            yield from _stored(store, archive, memory)
            archive = Archive(memory.take())
        archive.add(path, content, part.sha256)
    if not archive.is_empty:
        yield from _stored(store, archive, memory)


def _stored(store: Objects, archive: Archive, memory: Memory) -> tuple[Extent, ...]:
    pack = archive.finish()
    store.create(pack_key(pack.id), pack.content, sha256=pack.id)
    memory.give_back(pack)
    return pack.extents


def _moved(content: Manifest, moved: dict[str, Extent], wasteful: set[str]) -> Manifest:
    return Manifest(
        tuple(
            replace(one, extents=tuple(moved[part.sha256] if part.pack in wasteful else part for part in one.extents))
            for one in content.files
        )
    )
