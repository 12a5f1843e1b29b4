"""A file -> an RGB image, upright: the one reader, for the check on the laptop and for the trainer.

Whatever a decoder raises becomes UnreadableImage here, with the name of the file.
"""

from __future__ import annotations

import importlib
import math
import os
import stat
import struct
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, Literal, NamedTuple

from PIL import ExifTags, Image, UnidentifiedImageError

from cloudrun.imagedata.unused import printable
from cloudrun.imagedata.walk import FolderProblem, reads_heic

_LYING = (5, 6, 7, 8)  # EXIF orientations that exchange width and height
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
LIMIT = "CLOUDRUN_MAX_MEGAPIXELS"
"""Variable of the environment, here and of the job, with the largest image that is decoded, in megapixels."""
_USUAL_LIMIT = 179.0  # megapixels: Pillow's own, of which a larger image may be an attack
_IS_16_BIT = ("I;16", "I;16B", "I;16L", "I;16N")

# The size is judged below, in words that name the way out. Pillow would judge again, with a limit of its own.
Image.MAX_IMAGE_PIXELS = None
if reads_heic():
    importlib.import_module("pillow_heif").register_heif_opener()


_READ_AT_ONCE = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
_of_job: list[float] = []  # the limit that the job sets which is checked, if it sets any


def set_limit(megapixels: float | None) -> None:
    """Decode images as a job will that sets the limit in its own environment; None: as this process's says."""
    _of_job[:] = [] if megapixels is None else [megapixels]


class Decoded(NamedTuple):
    """RGB, upright as its EXIF says, and the width and height that the file has."""

    image: Image.Image
    width: int
    height: int


class Inspected(NamedTuple):
    """What is wrong with an image file, or None; and whether it has more than 8 bits a channel."""

    problem: str | None
    is_deep: bool


class UnreadableImage(FolderProblem):
    """`reason`: without the path."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(
            f"{printable(str(path))} cannot be read as an image: {reason}",
            hint="fix it, or move it out of the data folder",
        )
        self.reason = reason


def read_image(path: Path, *, at_least: int | None = None, mode: Literal["RGB", "L"] = "RGB") -> Decoded:
    """Decode an image. A JPEG at least twice as large as `at_least` is decoded at 1/2, 1/4 or 1/8, for less work.

    Grey images of 16 and 32 bits are scaled to 8. `mode`: of the result; L is grey. Raises UnreadableImage.
    """
    try:
        with _quietly(), _opened(path) as file, Image.open(file) as image:
            return _decode(image, at_least, mode)
    except Exception as err:  # noqa: BLE001  decoders raise what they like, also struct.error, KeyError, MemoryError
        raise UnreadableImage(path, _reason(path, err)) from None


def inspect(path: Path, *, decode: bool) -> Inspected:
    """Look whether an image can be read. Without `decode` at its header, and at the end of a JPEG, alone."""
    is_deep = False
    try:
        with _quietly(), _opened(path) as file, Image.open(file) as image:
            is_deep = image.mode in _IS_16_BIT or image.mode in ("I", "F")
            _refuse_large(image.size)
            if decode or (image.format == "JPEG" and not _ends_with(file, b"\xff\xd9")):
                _decode(image, 1, "RGB")  # the whole file, few pixels
    except Exception as err:  # noqa: BLE001
        return Inspected(_reason(path, err), is_deep)
    return Inspected(None, is_deep)


def _decode(image: Image.Image, at_least: int | None, mode: Literal["RGB", "L"]) -> Decoded:
    _refuse_large(image.size)
    width, height = image.size
    turn = _orientation(image)
    if turn in _LYING:
        width, height = height, width
    if at_least is not None:
        image.draft("L" if mode == "L" else None, (at_least, at_least))
    image.load()
    upright = _eight_bits(image)
    if turn in _TURNS:
        upright = upright.transpose(_TURNS[turn])
    return Decoded(upright if upright.mode == mode else upright.convert(mode), width, height)


@contextmanager
def _quietly() -> Iterator[None]:
    """Pillow warns of palettes with transparency and of odd EXIF: the pixels are fine."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _reason(path: Path, err: Exception) -> str:
    if isinstance(err, _Refused):
        return str(err)
    try:
        there = path.stat()
        if not stat.S_ISREG(there.st_mode):
            return "it is no file, but a pipe, a device or a socket"
        if there.st_size == 0:
            return "it is empty"
    except OSError as missing:
        return missing.strerror or str(missing)
    if isinstance(err, UnidentifiedImageError):
        return "unrecognised image format"
    text = " ".join((err.strerror if isinstance(err, OSError) and err.strerror else str(err)).split())
    return printable(text) or type(err).__name__


class _Refused(Exception):
    """An image that could be decoded, and is not."""


def _opened(path: Path) -> BinaryIO:
    """Open a file to read. A pipe is opened, too, without waiting for somebody who writes into it."""
    return os.fdopen(os.open(path, _READ_AT_ONCE), "rb")


def _refuse_large(size: tuple[int, int]) -> None:
    limit = _of_job[0] if _of_job else _limit_here()
    megapixels = size[0] * size[1] / 1e6
    if megapixels > limit:
        raise _Refused(
            f"it has {size[0]} x {size[1]} pixels, {megapixels:.0f} megapixels, more than the limit of {limit:g};"
            f" `env: {{{LIMIT}: {math.ceil(megapixels)}}}` in the job file allows it, and for `init` `export"
            f" {LIMIT}={math.ceil(megapixels)}`"
        )


def _limit_here() -> float:
    try:
        return float(os.environ.get(LIMIT, "") or _USUAL_LIMIT)
    except ValueError:
        return _USUAL_LIMIT


def _orientation(image: Image.Image) -> int:
    """Which way up the camera was, 1 to 8; 1 where nobody says. Nothing else that is in the EXIF matters."""
    try:
        value = image.getexif().get(ExifTags.Base.Orientation)
    except Exception:  # noqa: BLE001  other tags are broken
        value = _orientation_in(image.info.get("exif"))
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def _orientation_in(exif: object) -> int | None:
    """The orientation from the first directory of EXIF, without a look at anything else."""
    if not isinstance(exif, bytes):
        return None
    tiff = exif[6:] if exif.startswith(b"Exif\0\0") else exif
    order = {b"II": "<", b"MM": ">"}.get(tiff[:2])
    if order is None or len(tiff) < 8:
        return None
    (start,) = struct.unpack_from(f"{order}L", tiff, 4)
    if start + 2 > len(tiff):
        return None
    (count,) = struct.unpack_from(f"{order}H", tiff, start)
    for place in range(start + 2, min(start + 2 + 12 * count, len(tiff) - 11), 12):
        tag, kind, number = struct.unpack_from(f"{order}HHL", tiff, place)
        if tag == ExifTags.Base.Orientation and kind == 3 and number == 1:
            return int(struct.unpack_from(f"{order}H", tiff, place + 8)[0])
    return None


def _eight_bits(image: Image.Image) -> Image.Image:
    """Scale grey values of 16 and 32 bits to 0 .. 255. Pillow would cut off all that is above 255.

    By the range of 16 bits; of whole numbers and fractions by the smallest usual range that holds the image: 1,
    255, 65535, else its own.
    """
    if image.mode in _IS_16_BIT:
        return image.convert("I").point(_by(255 / 65535, 0)).convert("L")
    if image.mode not in ("I", "F"):
        return image
    low, high = image.getextrema()
    if not (isinstance(low, int | float) and isinstance(high, int | float)) or not math.isfinite(low + high):
        raise _Refused("its values are not finite numbers")
    if low < 0 or high > 65535:
        scale, offset = (255 / (high - low), -low * 255 / (high - low)) if high > low else (0.0, 0.0)
    else:
        top = 1 if image.mode == "F" and high <= 1 else 255 if high <= 255 else 65535
        scale, offset = 255 / top, 0.0
    return image.convert("F").point(_by(scale, offset)).convert("L")


def _by(scale: float, offset: float) -> Callable[[Any], Any]:
    """A line, which Pillow calls with an object of its own to find scale and offset."""
    return lambda value: value * scale + offset


def _ends_with(file: BinaryIO, mark: bytes) -> bool:
    """Whether `mark` stands in the last 64 bytes: some cameras pad the end. The file stays where it is."""
    place = file.tell()
    file.seek(-min(64, os.fstat(file.fileno()).st_size), os.SEEK_END)
    found = mark in file.read()
    file.seek(place)
    return found
