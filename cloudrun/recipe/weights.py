"""Find pretrained weights in a folder, for machines without internet. Imports no torch."""

from __future__ import annotations

import json
import zipfile
import zlib
from pathlib import Path

from cloudrun.errors import CloudrunError

_LARGEST_HEADER = 100_000_000  # bytes: the format's own limit
_WEIGHT_SUFFIXES = (".pth", ".safetensors")


class NoWeights(CloudrunError):
    """`pretrained` names a folder without the weights of a backbone."""


def weight_file(name: str, folder: Path) -> Path:
    """Return `<timm name>.pth` or `.safetensors` in `folder`, with or without the tag.

    Raises NoWeights where there is none, or where the file is something else by its first bytes.
    """
    stems = dict.fromkeys((name, name.partition(".")[0]))
    for path in (folder / f"{stem}{suffix}" for stem in stems for suffix in _WEIGHT_SUFFIXES):
        if path.is_file():
            _refuse_no_weights(path)
            return path
    if folder.is_file():
        raise NoWeights(f"`pretrained`: {folder} is a file, and not a folder", hint=f"name its folder, {folder.parent}")
    if not folder.is_dir():
        raise NoWeights(f"`pretrained`: there is no folder {folder}", hint="name a folder, or true, or false")
    names = sorted(path.name for path in folder.iterdir() if path.suffix in _WEIGHT_SUFFIXES)
    raise NoWeights(
        f"{folder} has no weights for `{name}`; it has {', '.join(names) or 'no weights at all'}",
        hint=f"put {name}.pth or {name}.safetensors there, or choose other `backbones`",
    )


def _is_safetensors(path: Path, size: int) -> bool:
    """Whether the header is JSON, and its tensors fill the file, one behind the other.

    Source: the format's description at https://github.com/huggingface/safetensors.
    """
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if length > min(size - 8, _LARGEST_HEADER):
            return False
        header = file.read(length)
    try:
        tensors = {key: one for key, one in json.loads(header).items() if key != "__metadata__"}
        places = sorted(tuple(one["data_offsets"]) for one in tensors.values())
        ends = [0, *(int(end) for _, end in places)]
        return [int(begin) for begin, _ in places] == ends[:-1] and ends[-1] == size - 8 - length
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return False


def _is_whole_zip(path: Path) -> bool:
    """Whether the list at the end of a zip is there, and each member has its checksum."""
    try:
        with zipfile.ZipFile(path) as opened:
            return opened.testzip() is None
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, NotImplementedError, RuntimeError, ValueError):
        return False


def _refuse_no_weights(path: Path) -> None:
    """A pointer of git-lfs, a web page or a part of a file in place of weights."""
    size = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(512)
    text = start.lstrip().lower()
    if start.startswith(b"version https://git-lfs"):
        what, hint = "a pointer of git-lfs, not the file itself", "`git lfs pull` in its folder fetches it"
    elif text.startswith((b"<!doctype", b"<html", b"<?xml")):
        what, hint = "a web page that was saved", "download the file itself, not the page about it"
    elif not size:
        what, hint = "empty", "download it again"
    elif path.suffix == ".safetensors" and not _is_safetensors(path, size):
        what, hint = "not a valid safetensors file, or cut short", "download it again, and compare its size"
    elif path.suffix == ".pth" and not start.startswith((b"PK\x03\x04", b"\x80")):
        what, hint = "not a file that torch saved", "download it again"
    elif path.suffix == ".pth" and start.startswith(b"PK") and not _is_whole_zip(path):
        what, hint = "damaged, or cut short", "download it again, and compare its size"
    else:
        return
    raise NoWeights(f"{path} is {what} ({size} bytes)", hint=hint)
