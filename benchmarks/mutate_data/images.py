"""Mutated images of twelve formats, and whole images with mutated EXIF."""

from __future__ import annotations

import functools
import io
import struct
import warnings
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.mutate_data.damage import damaged
from benchmarks.mutate_data.verdicts import Disagreement, Outcome, agree
from cloudrun.imagedata.pixels import UnreadableImage, inspect, read_image
from cloudrun.recipe.inputs import Colouring, Inputs
from trainer.data.augment import Square, evaluation_transform
from trainer.data.augment_params import Ranges
from trainer.data.epoch_order import Key
from trainer.data.loader import ImageFiles

SIDE = 32
_RANGES = Ranges(0.3, 180.0, 0.2)
_INPUTS = Inputs((Colouring(),), "bicubic")
_TURNED: dict[int, Callable[[Any], Any]] = {
    1: lambda pixels: pixels,
    2: lambda pixels: pixels[:, ::-1],
    3: lambda pixels: pixels[::-1, ::-1],
    4: lambda pixels: pixels[::-1],
    5: lambda pixels: pixels.transpose(1, 0, 2),
    6: lambda pixels: np.rot90(pixels, -1),
    7: lambda pixels: pixels[::-1, ::-1].transpose(1, 0, 2),
    8: lambda pixels: np.rot90(pixels, 1),
}


def try_image(dice: Random, folder: Path) -> Outcome:
    """Mutate an image, perhaps under another format's suffix, and give it to both readers."""
    samples = _samples()
    suffix, content = dice.choice(samples)
    named = suffix if dice.random() < 0.9 else dice.choice(samples)[0]
    path = folder / f"image{named}"
    path.write_bytes(damaged(content, dice, other=dice.choice(samples)[1]))
    return compare(path)


def try_exif(dice: Random, folder: Path) -> Outcome:
    """Give a whole image random EXIF, whose orientation comes first. Raises Disagreement where it is turned wrongly."""
    orientation = dice.randrange(1, 9)
    exif = b"Exif\0\0" + _exif(dice, orientation)
    suffix, name = dice.choice(((".jpg", "JPEG"), (".png", "PNG"), (".webp", "WEBP")))
    is_whole = dice.random() < 0.6
    if not is_whole:
        exif = exif[:6] + damaged(exif[6:], dice)
    path = folder / f"photo{suffix}"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's, of the odd entries
        _picture().save(path, name, exif=exif, **({} if name == "JPEG" else {"lossless": True}))
        with Image.open(path) as plain:
            wanted = _TURNED[orientation](np.array(plain.convert("RGB")))
    outcome = compare(path)
    if outcome is Outcome.REFUSED:
        raise Disagreement(f"{path.name} is refused for its EXIF alone: {inspect(path, decode=True).problem}")
    if is_whole:
        decoded = read_image(path)
        if not np.array_equal(np.array(decoded.image), wanted):
            raise Disagreement(f"orientation {orientation} is not followed in {path.name}")
        if (decoded.width, decoded.height) != decoded.image.size:
            raise Disagreement(f"{path.name} is {decoded.image.size}, said to be {decoded.width} x {decoded.height}")
    return outcome


def compare(path: Path) -> Outcome:
    """Read one image as `check` does and as the trainer does."""
    seen = inspect(path, decode=True)
    quick = inspect(path, decode=False)
    if quick.problem is not None and seen.problem is None:
        raise Disagreement(f"the header alone is refused, the whole image is not: {quick.problem}")
    _thumbnail(path)
    trained = _as_trained(path)
    scored = _as_scored(path)
    if (trained is None) != (scored is None):
        raise Disagreement(f"it trains and is not scored, or the other way round: {trained or scored}")
    return agree(seen.problem, trained, path.name)


def _thumbnail(path: Path) -> None:
    """Read it as the search for near-duplicates does."""
    try:
        read_image(path, at_least=SIDE, mode="L")
    except UnreadableImage:
        return


def _as_trained(path: Path) -> str | None:
    files = ImageFiles([(path, 0)], Square(SIDE), seed=0, at_least=SIDE, ranges=_RANGES, cache=None)
    sample = files[Key(0, 0)]
    if sample.pixels is not None and sample.pixels.values.shape != (3, SIDE, SIDE):
        raise Disagreement(f"the trainer's square is {sample.pixels.values.shape}")
    return sample.broken[0].reason if sample.pixels is None else None


def _as_scored(path: Path) -> str | None:
    files = ImageFiles([(path, 0)], evaluation_transform(SIDE, _INPUTS), seed=0, at_least=None, ranges=None, cache=None)
    sample = files[Key(0, 0)]
    if sample.pixels is not None and sample.pixels.values.shape != (3, SIDE, SIDE):
        raise Disagreement(f"the evaluated square is {sample.pixels.values.shape}")
    return sample.broken[0].reason if sample.pixels is None else None


@functools.cache
def _picture() -> Image.Image:
    """Return 24 x 16 pixels that differ from all their turned and mirrored copies."""
    values = np.zeros((16, 24, 3), np.uint8)
    values[:8, :8] = (250, 20, 20)
    values[8:, :8] = (20, 250, 20)
    values[:8, 16:] = (20, 20, 250)
    return Image.fromarray(values)


@functools.cache
def _samples() -> list[tuple[str, bytes]]:
    """Return whole images of twelve formats, each in some of its forms, as (suffix, content)."""
    picture = _picture().resize((48, 32))
    forms: list[tuple[str, str, str, dict[str, Any]]] = [
        (".jpg", "JPEG", "RGB", {"quality": 90}),
        (".jpg", "JPEG", "RGB", {"progressive": True, "exif": b"Exif\0\0" + _exif(Random(1), 6)}),
        (".jpeg", "JPEG", "L", {}),
        (".jpe", "JPEG", "CMYK", {}),
        (".png", "PNG", "RGB", {}),
        (".png", "PNG", "P", {"transparency": 0}),
        (".png", "PNG", "I;16", {}),
        (".png", "PNG", "LA", {}),
        (".png", "PNG", "1", {}),
        (".apng", "PNG", "RGB", {"save_all": True, "append_images": [picture.rotate(90)]}),
        (".gif", "GIF", "P", {}),
        (".gif", "GIF", "P", {"save_all": True, "append_images": [picture.convert("P")]}),
        (".bmp", "BMP", "RGB", {}),
        (".dib", "DIB", "P", {}),
        (".tif", "TIFF", "RGB", {"compression": "tiff_lzw"}),
        (".tif", "TIFF", "RGB", {"compression": "jpeg"}),
        (".tiff", "TIFF", "F", {}),
        (".tiff", "TIFF", "I;16", {"compression": "tiff_deflate"}),
        (".webp", "WEBP", "RGB", {}),
        (".webp", "WEBP", "RGBA", {"lossless": True}),
        (".ppm", "PPM", "RGB", {}),
        (".pgm", "PPM", "I", {}),
        (".pbm", "PPM", "1", {}),
        (".tga", "TGA", "RGBA", {"compression": "tga_rle"}),
        (".jp2", "JPEG2000", "RGB", {}),
        (".j2k", "JPEG2000", "L", {}),
        (".avif", "AVIF", "RGB", {"speed": 10}),
        (".mpo", "MPO", "RGB", {"save_all": True, "append_images": [picture]}),
    ]
    return [(suffix, _saved(picture, name, mode, options)) for suffix, name, mode, options in forms]


def _saved(picture: Image.Image, name: str, mode: str, options: dict[str, Any]) -> bytes:
    if mode in ("I", "F", "I;16"):
        picture = Image.fromarray(np.array(picture.convert("L")).astype(np.float32) * 257)
        picture = picture if mode == "F" else picture.convert("I")
    if mode not in ("F", "I"):
        picture = picture.convert(mode)
    file = io.BytesIO()
    picture.save(file, name, **options)
    return file.getvalue()


def _exif(dice: Random, orientation: int) -> bytes:
    """Return a TIFF block whose first entry is the orientation, and whose others are anything."""
    order = dice.choice("<>")
    entries = [struct.pack(f"{order}HHLHH", 0x0112, 3, 1, orientation, 0)]
    for _ in range(dice.randrange(8)):
        tag = dice.choice(
            (0x010F, 0x0110, 0x011A, 0x0132, 0x8769, 0x8825, 0x927C, 0xA005, dice.randrange(0x113, 1 << 16))
        )
        kind, count = dice.randrange(16), dice.choice((0, 1, 2, 7, 1 << 16, (1 << 32) - 1))
        entries.append(struct.pack(f"{order}HHLL", tag, kind, count, dice.choice((0, 8, 26, dice.randrange(1 << 32)))))
    start = {"<": b"II*\0", ">": b"MM\0*"}[order] + struct.pack(f"{order}L", 8)
    directory = struct.pack(f"{order}H", len(entries)) + b"".join(entries)
    return start + directory + struct.pack(f"{order}L", dice.choice((0, 0, 8, 1 << 31))) + dice.randbytes(40)
