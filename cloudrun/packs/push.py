"""Push a folder into a store: first new content in packs, then the manifest, last the ref."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from cloudrun.errors import StoreError
from cloudrun.packs.gc import packs_there
from cloudrun.packs.index import FileIndex, Seen
from cloudrun.packs.layout import manifest_key
from cloudrun.packs.manifest import Extent, tree_of
from cloudrun.packs.refs import Ref, all_refs, new_ref, read_manifest, read_ref, swing
from cloudrun.packs.scan import Found, split_known, walk
from cloudrun.packs.sending import Pushed, Sending
from cloudrun.stores import Objects, OnFiles

_ROUNDS = 3  # in each, packs that a garbage collection has marked or removed meanwhile are sent anew


def push(  # noqa: PLR0913 - from where, to where, and how
    folder: Path,
    store: Objects,
    name: str,
    index: FileIndex,
    *,
    store_name: str,
    on_files: OnFiles,
    dry_run: bool = False,
) -> Pushed:
    """Make the data set `name` equal to `folder`. `store_name` is the name of this store in `index`.

    Raises StoreError where a file cannot be read or the store refuses, ChangedMeanwhile where somebody else has pushed
    the data set meanwhile. A push that is killed at any instant changes nothing visible; the next push goes on there.
    """
    root = str(folder.resolve())
    with ThreadPoolExecutor(2) as pool:  # the store is asked while the disk is read
        asked = pool.submit(read_ref, store, name)
        listed = pool.submit(packs_there, store)
        found = walk(folder)
        same, fresh = split_known(found, index.files(root))
        before, (there, doomed) = asked.result(), listed.result()
    ref = before.ref
    size_bytes = sum(one.size for one in found)
    if (
        ref is not None
        and not fresh
        and ref.tree == _tree(found, same)
        and _is_whole(store, index, store_name, ref, there)
    ):
        return Pushed(ref.manifest, len(found), size_bytes, 0, 0)
    usable = there - doomed
    with Sending(folder, store, index, store_name, on_files, dry_run=dry_run) as sending:
        for _ in range(_ROUNDS):
            sending.know(_known_extents(store, index, store_name, usable))
            sending.send(found, same)
            if dry_run:
                return sending.pushed(None)
            content = sending.manifest()
            manifest, encoded = content.encode()
            stored = sending.beside(lambda: store.create(manifest_key(manifest), encoded))  # noqa: B023
            built_upon = content.packs() - sending.own_packs
            there, doomed = packs_there(store) if built_upon else (set(), set())
            usable = there - doomed
            sending.settle()
            stored.result()
            if built_upon <= usable:
                break
        else:
            raise StoreError(
                "packs vanish from the store while they are sent",
                hint="is somebody deleting below `data/`? then try again",
            )
    index.note_manifest(store_name, manifest, content.packs())
    if ref is None or ref.manifest != manifest:
        swing(store, name, new_ref(manifest, content, before), before)
    sending.remember(root, gone=set(index.files(root)) - {one.path for one in found})
    return sending.pushed(manifest)


def _is_whole(store: Objects, index: FileIndex, store_name: str, ref: Ref, there: set[str]) -> bool:
    """Return whether every pack of the data set that `ref` points to is still in the store."""
    packs = index.packs_of(store_name, ref.manifest)
    if packs is None:
        packs = read_manifest(store, ref.manifest).packs()
        index.note_manifest(store_name, ref.manifest, packs)
    return packs <= there


def _tree(found: Sequence[Found], same: dict[str, Seen]) -> str:
    return tree_of((one.path, one.size, same[one.path].sha256) for one in found)


def _known_extents(store: Objects, index: FileIndex, store_name: str, usable: set[str]) -> dict[str, Extent]:
    """Return sha256 -> where that content lies in the store. The index knows what this computer has sent.

    Only where there are packs of other computers are the manifests read.
    """
    noted = index.sent(store_name)
    known = {one.sha256: one for one in noted if one.pack in usable}
    index.forget_sent(store_name, {one.pack for one in noted} - usable)
    if usable <= {one.pack for one in known.values()}:
        return known
    learnt: dict[str, Extent] = {}
    for version in all_refs(store).values():
        assert version.ref is not None
        for one in read_manifest(store, version.ref.manifest).files:
            learnt.update({extent.sha256: extent for extent in one.extents if extent.pack in usable})
    index.note_sent(store_name, [one for one in learnt.values() if one.sha256 not in known])
    return learnt | known
