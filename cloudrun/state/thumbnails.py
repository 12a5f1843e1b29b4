"""Small pictures of a run's images, as they came home in `thumbnails.jsonl` and `augmented.jsonl`: an object a line.

Only what is a JPEG by its first bytes is taken, up to a bound for all together, so that a page can hold them.
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from cloudrun.files.untrusted import Unreadable, parse_object, read_limited
from cloudrun.protocol.outputs import AUGMENTED, THUMBNAILS

_LARGEST_FILE_BYTES = 8_000_000
_LARGEST_PICTURE_BYTES = 60_000
_LARGEST_TOTAL_BYTES = 2_000_000
_MOST = 1000  # lines of a file
_MOST_FOLDS = 20
_LONGEST_NAME = 1000
_JPEG = b"\xff\xd8\xff"

Kind = Literal["mistake", "sample", "gradcam", "augmented"]
_KINDS: tuple[Kind, ...] = get_args(Kind)
_FIRST: tuple[Kind, ...] = ("mistake", "gradcam", "augmented", "sample")  # where all are more than a page may hold


@dataclass(frozen=True, slots=True)
class Thumbnail:
    """A small JPEG of the image that lies at `image` in the data folder; a sample has the class `label`.

    `gradcam`: what spoke for the class `label`; `augmented`: a training image of `label` as the model saw it.
    """

    image: str
    kind: Kind
    label: str
    jpeg: bytes

    @property
    def uri(self) -> str:
        """The picture as a `data:` address."""
        return f"data:image/jpeg;base64,{base64.b64encode(self.jpeg).decode('ascii')}"


def thumbnails_at(folder: Path) -> tuple[tuple[Thumbnail, ...], str]:
    """The thumbnails in `folder` and in those of its folds, mistakes first; and what is wrong with their files."""
    lines: list[bytes] = []
    unread = []
    for path in _files(folder):
        try:
            lines += (read_limited(path, _LARGEST_FILE_BYTES) or b"").splitlines()[:_MOST]
        except Unreadable as err:
            unread.append(f"{path} cannot be read: {err}")
    parsed = list(map(_thumbnail, lines))
    found: list[Thumbnail] = []
    total = 0
    for one in sorted((one for one in parsed if one is not None), key=lambda one: _FIRST.index(one.kind)):
        total += len(one.jpeg)
        if total <= _LARGEST_TOTAL_BYTES:
            found.append(one)
    wrong = parsed.count(None)
    if wrong:
        unread.append(f"{folder / THUMBNAILS}: {wrong} line(s) are left out: no small JPEG")
    return tuple(found), "; ".join(unread)


def _thumbnail(line: bytes) -> Thumbnail | None:
    try:
        row = parse_object(line)
        image, kind, label, encoded = (row.get(key) for key in ("image", "kind", "label", "jpeg"))
        if not isinstance(image, str) or not isinstance(label, str) or not isinstance(encoded, str):
            return None
        jpeg = base64.b64decode(encoded, validate=True)
    except (Unreadable, binascii.Error, ValueError):
        return None
    if len(image) > _LONGEST_NAME or len(jpeg) > _LARGEST_PICTURE_BYTES or not jpeg.startswith(_JPEG):
        return None
    known = next((one for one in _KINDS if one == kind), None)
    return None if known is None else Thumbnail(image, known, label, jpeg)


def _files(folder: Path) -> list[Path]:
    """The files of a run, and those of its folds: each judges other images, and all see the same augmentation."""
    judged = sorted(folder.glob(f"fold-*/{THUMBNAILS}"))[:_MOST_FOLDS]
    return [folder / THUMBNAILS, folder / AUGMENTED, *judged, *sorted(folder.glob(f"fold-*/{AUGMENTED}"))[:1]]
