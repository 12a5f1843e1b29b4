"""A folder on disk -> its image files, and what else lies there by reason."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from operator import attrgetter
from pathlib import Path

from cloudrun.errors import CloudrunError
from cloudrun.imagedata.unused import CIRCLE, HIDDEN, LITTER, Tally, no_image, printable
from cloudrun.imagedata.vocabulary import (
    HEIC_SUFFIXES,
    IMAGE_SUFFIXES,
    is_litter_file,
    is_litter_folder,
    suffix_of,
)

Parts = tuple[str, ...]

_MAGIC_BYTES = 16
_USUAL = (".jpg", ".png", ".jpeg", ".JPG")


class FolderProblem(CloudrunError):
    """The data folder does not have one of the layouts that can be trained on."""


@dataclass(frozen=True, slots=True)
class Found:
    """Images under a folder, sorted by path, and folders in which no image lies, at any depth."""

    images: list[Path]
    empty: list[Parts]
    tally: Tally = field(compare=False)


def walk(folder: Path) -> Found:
    """Find the images anywhere under `folder`. Follows links, but not in a circle.

    A file is an image by its suffix, or by its first bytes where it has no suffix. Raises FolderProblem where the
    name of an image is not UTF-8: neither a CSV file nor a prediction could name it.
    """
    tally = Tally()
    images: list[Path] = []
    seen: dict[Parts, bool] = {}  # folder -> whether an image lies in it
    for parent, dirnames, names in os.walk(folder, followlinks=True, onerror=_refuse_closed):
        inner = () if parent == str(folder) else Path(parent).relative_to(folder).parts
        _prune(folder, parent, dirnames, tally)
        found = [Path(parent, name) for name in names if _is_image(folder, inner, parent, name, tally)]
        images.extend(found)
        seen.setdefault(inner, False)
        if found:
            for depth in range(len(inner) + 1):
                seen[inner[:depth]] = True
    by_parts = sorted(images, key=attrgetter("parts"))  # the order of paths, without comparing them in Python
    return Found(by_parts, sorted(parts for parts, has_images in seen.items() if parts and not has_images), tally)


def reason_to_skip(name: str) -> str | None:
    """Return why a file of that name is no image, None where it may be one. A name without suffix says nothing."""
    if is_litter_file(name):
        return HIDDEN
    suffix = suffix_of(name)
    if not suffix or suffix in IMAGE_SUFFIXES or (suffix in HEIC_SUFFIXES and reads_heic()):
        return None
    return no_image(suffix)


def reads_heic() -> bool:
    """Tell whether Pillow's plug-in for photographs of an iPhone is installed."""
    from importlib.util import find_spec

    return find_spec("pillow_heif") is not None


def _is_image(folder: Path, inner: Parts, parent: str, name: str, tally: Tally) -> bool:
    if name[name.rfind(".") :] in _USUAL and name.isascii() and parent.isascii() and name[0] not in ".~":
        return True  # nearly all of them: the rest takes ten times as long
    reason = reason_to_skip(name)
    if reason is None and not suffix_of(name) and not _begins_as_image(Path(parent, name)):
        reason = no_image("")
    if reason is not None:
        tally.add(reason, ["/".join((*inner, name))])
        return False
    whole = f"{parent}/{name}"
    if not _is_text(whole[len(str(folder)) :]):
        raise FolderProblem(
            f"the name {printable(whole)} is not UTF-8{_meant(whole)}",
            hint="rename it; `convmv -r -f gbk -t utf8 FOLDER` shows what a whole folder would be renamed to",
        )
    return True


def _prune(folder: Path, parent: str, dirnames: list[str], tally: Tally) -> None:
    """Remove from `dirnames` what is not to be entered, and count the files in it."""
    kept = []
    for name in sorted(dirnames):
        path = Path(parent, name)
        if is_litter_folder(name):
            inside = [Path(deep, one) for deep, _, names in os.walk(path) for one in names]
            tally.add(LITTER, sorted(os.path.relpath(one, folder) for one in inside))
        elif path.is_symlink() and _is_circle(folder, parent, path):
            tally.add(CIRCLE, [os.path.relpath(path, folder)])
        else:
            kept.append(name)
    dirnames[:] = kept


def _refuse_closed(err: OSError) -> None:
    """Refuse a folder that cannot be looked into: its images would be left out without a word."""
    raise FolderProblem(
        f"the folder {printable(str(err.filename))} cannot be read: {err.strerror}",
        hint="allow it, as with `chmod -R u+rX FOLDER`, or move it out of the data folder",
    )


def _is_circle(folder: Path, parent: str, link: Path) -> bool:
    target = os.path.realpath(link)
    if f"{os.path.realpath(folder)}/".startswith(f"{target.rstrip('/')}/"):
        return True
    above = Path(parent)
    while above != folder:
        if os.path.realpath(above) == target:
            return True
        above = above.parent
    return False


def _is_text(name: str) -> bool:
    if name.isascii():
        return True
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _meant(name: str) -> str:
    """Return what the bytes may mean in the code page of a Chinese, Japanese or Western system."""
    for codec in ("gb2312", "shift_jis", "cp1252"):
        try:
            meant = os.fsencode(name).decode(codec).rpartition("/")[2]
            return f" (perhaps {meant})"
        except UnicodeDecodeError:
            continue
    return ""


def _begins_as_image(path: Path) -> bool:
    try:
        if not path.is_file():  # a pipe would wait for somebody who writes into it
            return False
        with path.open("rb") as file:
            start = file.read(_MAGIC_BYTES)
    except OSError:
        return False
    return (
        start.startswith(
            (b"\xff\xd8\xff", b"\x89PNG\r\n", b"GIF8", b"II*\0", b"MM\0*", b"\0\0\0\x0cjP  ", b"\xff\x4f\xff\x51")
        )
        or (start[:4] == b"RIFF" and start[8:12] == b"WEBP")
        or (start[:2] == b"BM" and start[6:10] == b"\0\0\0\0")
        or (start[4:8] == b"ftyp" and start[8:12] in (b"avif", b"avis"))
    )
