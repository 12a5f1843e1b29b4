"""Name the objects of data sets in a store. Pure."""

from __future__ import annotations

import re

from cloudrun.errors import UsageError

DATA = "data/"
PACKS, MANIFESTS, REFS, DOOMED = "data/packs/", "data/manifests/", "data/refs/", "data/doomed/"
_PACK_END, _MANIFEST_END, _JSON_END = ".zip", ".jsonl.gz", ".json"


def pack_key(pack: str) -> str:
    return f"{PACKS}{pack}{_PACK_END}"


def manifest_key(manifest: str) -> str:
    return f"{MANIFESTS}{manifest}{_MANIFEST_END}"


def ref_key(name: str) -> str:
    """Return the key of a data set's ref. Raises UsageError for a name that a data set cannot have."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", name):
        raise UsageError(
            f'"{name}" cannot be the name of a data set', hint="use letters, digits, `-`, `_` and `.`, at most 100"
        )
    return f"{REFS}{name}{_JSON_END}"


def pack_of(key: str) -> str:
    return key.removeprefix(PACKS).removesuffix(_PACK_END)


def manifest_of(key: str) -> str:
    return key.removeprefix(MANIFESTS).removesuffix(_MANIFEST_END)


def name_of(key: str) -> str:
    return key.removeprefix(REFS).removesuffix(_JSON_END)
