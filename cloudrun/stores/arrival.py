"""Check whether a folder arrived as it was sent, by the hash of each file, computed at both ends in the same way.

The machine runs this very file, from its standard input: the standard library alone, Python 3.8 or newer.
"""

from __future__ import annotations

import hashlib
import os
import sys
from concurrent.futures import ThreadPoolExecutor

# The folder, beside a file, in which rsync keeps the part of the file that has come, until the file is whole.
PARTIAL_DIR = ".cloudrun-partial"
_PIECE_BYTES = 1024 * 1024
_SAME = b"same"


class NotSendable(Exception):
    """Something in the folder that cannot be sent as a file; the message says what and where."""


def list_files(folder: str) -> dict[str, int]:
    """Return path below `folder` -> size in bytes, of every file in it; links are followed, as the trainer does.

    Raises NotSendable for what is neither a file nor a folder, and for a link that leads nowhere or to a folder above
    it.
    """
    found: dict[str, int] = {}
    _look(folder, "", found, ())
    return found


def hashes_of(folder: str, names: list[str]) -> dict[str, str]:
    """Return path below `folder` -> sha256, of these files."""
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:  # hashlib works outside the GIL
        return dict(zip(names, pool.map(lambda name: _sha256(os.path.join(folder, name)), names)))  # noqa: B905, PTH118


def digest_of(hashes: dict[str, str]) -> str:
    """Return one hash of all files, equal where all names and contents are equal."""
    return hashlib.sha256(_as_bytes(hashes)).hexdigest()


def differing(expected: dict[str, str], answer: bytes) -> list[str]:
    """Return the paths that are missing, different or too many on the machine, from the `answer` that it printed."""
    if answer == _SAME:
        return []
    words = answer.split(b"\0")
    there = {os.fsdecode(name): hash_.decode() for name, hash_ in zip(words[::2], words[1::2])}  # noqa: B905
    return sorted(name for name in expected.keys() | there.keys() if expected.get(name) != there.get(name))


def _look(folder: str, below: str, found: dict[str, int], parents: tuple[tuple[int, int], ...]) -> None:
    here = os.stat(folder)  # noqa: PTH116
    place = (here.st_dev, here.st_ino)
    if place in parents:
        raise NotSendable(f"{folder} is a link to a folder that it lies in")
    with os.scandir(folder) as items:
        for item in items:
            name = f"{below}{item.name}"
            if item.is_dir():
                _look(item.path, f"{name}/", found, (*parents, place))
            elif item.is_file():
                found[name] = item.stat().st_size
            elif item.is_symlink():
                raise NotSendable(f"{item.path} is a link that leads nowhere")
            else:
                raise NotSendable(f"{item.path} is neither a file nor a folder")


def _sha256(path: str) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as file:  # noqa: PTH123
        while True:
            piece = file.read(_PIECE_BYTES)
            if not piece:
                return digest.hexdigest()
            digest.update(piece)


def _as_bytes(hashes: dict[str, str]) -> bytes:
    return b"\0".join(os.fsencode(name) + b"\0" + hashes[name].encode() for name in sorted(hashes))


def _answer(folder: str, expected: str) -> bytes:
    """Return `same` where the hash of all files is as expected, else the hash of each file, which is sent only then."""
    names = [name for name in list_files(folder) if f"/{PARTIAL_DIR}/" not in f"/{name}"]
    hashes = hashes_of(folder, names)
    return _SAME if digest_of(hashes) == expected else _as_bytes(hashes)


if __name__ == "__main__":
    sys.stdout.buffer.write(_answer(*sys.argv[1:]))
