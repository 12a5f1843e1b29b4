"""Delete packs that no data set needs any more: they are marked first, and deleted a day later if still not needed.

This is safe while others push. A push does not use a marked pack, and looks for marks again before it swings its ref.
What a ref points to is never deleted, marked or not. And between a mark and the deletion lies the grace, which is
longer than the moment between that last look and the swing of the ref.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterable
from dataclasses import dataclass

from cloudrun.packs.layout import DATA, DOOMED, MANIFESTS, PACKS, manifest_of, pack_of
from cloudrun.packs.refs import all_refs, read_manifest
from cloudrun.stores import Listed, Objects

GRACE_S = 24 * 3600.0


@dataclass(frozen=True, slots=True)
class Collected:
    """Counts and bytes of packs: in use, marked by this collection, marked and within their grace, and deleted."""

    live_packs: int
    live_bytes: int
    marked: int
    marked_bytes: int
    waiting: int
    deleted: int
    deleted_bytes: int
    unfinished: int  # uploads that never ended, and were cleared away


def packs_there(store: Objects) -> tuple[set[str], set[str]]:
    """Return (every pack in the store, the marked packs, which a push must not use)."""
    # One listing, and marks come first in it: they are removed after the packs that they name.
    listed = store.listed(DATA)
    doomed = {pack for one in listed if one.key.startswith(DOOMED) for pack in _marked_by(store, one)[0]}
    return {pack_of(one.key) for one in listed if one.key.startswith(PACKS)}, doomed


def collect(store: Objects, *, grace_s: float = GRACE_S, dry_run: bool = False) -> Collected:
    """Mark packs and manifests that nothing needs; delete those marked `grace_s` seconds ago and still not needed.

    A push that takes longer than the grace sends again what was deleted meanwhile; nothing is ever lost.
    """
    probe = f"{DOOMED}{secrets.token_hex(8)}.json"  # its date is the present time by the store's own clock
    store.create(probe, _mark((), ()))
    marks = store.listed(DOOMED)
    now = next(one.modified_at for one in marks if one.key == probe)
    packs = {pack_of(one.key): one for one in store.listed(PACKS)}
    manifests = {manifest_of(one.key): one for one in store.listed(MANIFESTS)}
    live_manifests, live_packs = _live(store, manifests, now - grace_s)
    deleted: list[Listed] = []
    waiting: set[str] = set()
    spent: list[str] = []
    for mark in marks:
        if mark.key == probe:
            continue
        old_packs, old_manifests = _marked_by(store, mark)
        if now - mark.modified_at < grace_s:
            waiting |= (old_packs - live_packs) | (old_manifests - live_manifests)
            continue
        spent.append(mark.key)
        deleted += [packs[one] for one in old_packs - live_packs if one in packs]
        deleted += [manifests[one] for one in old_manifests - live_manifests if one in manifests]
    gone = {one.key for one in deleted}
    new_packs = _to_mark(packs, live_packs | waiting, gone, now - grace_s)
    new_manifests = _to_mark(manifests, live_manifests | waiting, gone, now - grace_s)
    store.remove([probe])
    if not dry_run:
        store.remove([one.key for one in deleted])  # before the marks: a kill between them loses nothing
        store.remove(spent)
        if new_packs or new_manifests:
            names = [pack_of(one.key) for one in new_packs], [manifest_of(one.key) for one in new_manifests]
            store.create(f"{DOOMED}{secrets.token_hex(8)}.json", _mark(*names))
    in_use = [packs[one] for one in live_packs if one in packs]
    return Collected(
        live_packs=len(in_use),
        live_bytes=sum(one.size_bytes for one in in_use),
        marked=len(new_packs),
        marked_bytes=sum(one.size_bytes for one in new_packs),
        waiting=len(waiting & set(packs)),
        deleted=len([one for one in deleted if one.key.startswith(PACKS)]),
        deleted_bytes=sum(one.size_bytes for one in deleted),
        unfinished=0 if dry_run else store.clear_unfinished(now - grace_s),
    )


def _live(store: Objects, manifests: dict[str, Listed], young_from: float) -> tuple[set[str], set[str]]:
    """Return the manifests in use and their packs: those that a ref points to, and those newer than `young_from`.

    A push may be about to swing its ref to a young manifest, or a run to pull it.
    """
    named = {version.ref.manifest for version in all_refs(store).values() if version.ref is not None}
    live = named | {one for one, listed in manifests.items() if listed.modified_at > young_from}
    return live, {pack for one in live for pack in read_manifest(store, one).packs()}


def _to_mark(there: dict[str, Listed], kept: set[str], gone: set[str], young_from: float) -> list[Listed]:
    """Return what is to be marked: not a young pack, which may belong to a push that has not swung its ref yet."""
    return [
        one for name, one in there.items() if name not in kept and one.key not in gone and one.modified_at <= young_from
    ]


def _mark(packs: Iterable[str], manifests: Iterable[str]) -> bytes:
    return json.dumps({"packs": sorted(packs), "manifests": sorted(manifests)}).encode()


def _marked_by(store: Objects, mark: Listed) -> tuple[set[str], set[str]]:
    found = store.read_tagged(mark.key)
    if found is None:  # the collection that made this mark has removed it since it was listed
        return set(), set()
    plain = json.loads(found[0])
    return set(plain["packs"]), set(plain["manifests"])
