"""Read and swing refs: the names of data sets, each of which points to the manifest that is its content now."""

from __future__ import annotations

import getpass
import json
import re
import socket
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from cloudrun.errors import StoreError
from cloudrun.files.untrusted import Unreadable, parse_object
from cloudrun.packs.layout import REFS, manifest_key, name_of, ref_key
from cloudrun.packs.manifest import Manifest, decode
from cloudrun.stores import Objects


@dataclass(frozen=True, slots=True)
class Ref:
    """A data set as it is now. `was` is the manifest before this one; None for the first."""

    manifest: str
    tree: str
    files: int
    size_bytes: int
    pushed_at: str
    pushed_by: str
    was: str | None = None

    def as_json(self) -> bytes:
        return json.dumps(asdict(self), indent=1).encode()


@dataclass(frozen=True, slots=True)
class Version:
    """What a name pointed to when it was read; `ref` and `tag` are None where the name was free."""

    ref: Ref | None
    tag: str | None


class ChangedMeanwhile(StoreError):
    """Somebody else has pushed the same data set in the meantime."""


def read_ref(store: Objects, name: str) -> Version:
    """Return what `name` points to now. Raises StoreError where its ref cannot be understood."""
    found = store.read_tagged(ref_key(name))
    if found is None:
        return Version(None, None)
    try:
        return Version(_ref(parse_object(found[0])), found[1])
    except (Unreadable, TypeError, ValueError):
        raise StoreError(
            f"{ref_key(name)} is damaged, or was written by a later cloudrun",
            hint="upgrade cloudrun; or remove that object, and push the data set again",
        ) from None


def _ref(plain: dict[str, Any]) -> Ref:
    """Raises TypeError or ValueError where it is none."""
    ref = Ref(**plain)
    numbers, texts = (ref.files, ref.size_bytes), (ref.tree, ref.pushed_at, ref.pushed_by)
    ids = [ref.manifest] if ref.was is None else [ref.manifest, ref.was]
    if not all(isinstance(one, str) and re.fullmatch("[0-9a-f]{64}", one) for one in ids):
        raise ValueError("a manifest is named by its hash")
    if not all(type(one) is int and one >= 0 for one in numbers) or not all(isinstance(one, str) for one in texts):
        raise ValueError("numbers and texts of other types")
    return ref


def all_refs(store: Objects) -> dict[str, Version]:
    """Return name -> version, of every data set in the store; `ref` is never None."""
    names = [name_of(one.key) for one in store.listed(REFS)]
    return {name: version for name in names if (version := read_ref(store, name)).ref is not None}


def new_ref(manifest: str, content: Manifest, before: Version) -> Ref:
    """Return a ref to `manifest`, by this user and of now, whose predecessor is `before`."""
    return Ref(
        manifest=manifest,
        tree=content.tree,
        files=len(content.files),
        size_bytes=content.size_bytes,
        pushed_at=datetime.now(UTC).replace(microsecond=0).isoformat().replace("+00:00", "Z"),
        pushed_by=f"{_user()}@{socket.gethostname()}",
        was=before.ref.manifest if before.ref else None,
    )


def swing(store: Objects, name: str, ref: Ref, before: Version) -> None:
    """Point `name` to `ref` by compare-and-swap.

    Raises ChangedMeanwhile, and changes nothing, where `name` no longer points to `before`.
    """
    if store.swap(ref_key(name), ref.as_json(), before.tag):
        return
    now = read_ref(store, name).ref
    who = f"{now.pushed_by} at {now.pushed_at}" if now else "somebody who removed it"
    raise ChangedMeanwhile(
        f"the data set `{name}` was changed meanwhile, by {who}; theirs stands, and nothing of it is lost",
        hint="run the same command again to put this folder's content in its place, or choose another `--name`",
    )


def read_manifest(store: Objects, manifest: str) -> Manifest:
    """Return the manifest with the id `manifest`. Raises StoreError where it is missing or damaged."""
    found = store.read_tagged(manifest_key(manifest))
    if found is None:
        raise StoreError(f"there is no manifest {manifest[:12]} in the store", hint="push the data set again")
    return decode(found[0], manifest)


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "somebody"
