"""Decode an image file: no larger than needed, upright, RGB."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from cloudrun.imagedata.folders import FolderProblem

_LYING = (5, 6, 7, 8)  # EXIF orientations that exchange width and height


class Pixels(NamedTuple):
    """uint8 (3, H, W), and the width and height of the file."""

    values: NDArray[np.uint8]
    width: int
    height: int


class Decoded(NamedTuple):
    """RGB image, upright as its EXIF says, and the width and height of the file."""

    image: Image.Image
    width: int
    height: int


class UnreadableImage(FolderProblem):
    """An image file that cannot be decoded. `reason` does not contain the path."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(
            f"{path} cannot be read as an image: {reason}", hint="fix it, or move it out of the data folder"
        )
        self.reason = reason


def read_image(path: Path, *, at_least: int | None = None) -> Decoded:
    """Decode `path`. A JPEG at least twice as large as `at_least` is decoded at 1/2, 1/4 or 1/8, which takes less work.

    Raises UnreadableImage.
    """
    try:
        with warnings.catch_warnings(), Image.open(path) as image:
            warnings.simplefilter("ignore")  # palettes with transparency, odd EXIF: the pixels are fine
            width, height = image.size
            if image.getexif().get(ExifTags.Base.Orientation) in _LYING:
                width, height = height, width
            if at_least is not None:
                image.draft(None, (at_least, at_least))
            ImageOps.exif_transpose(image, in_place=True)
            image.load()
            return Decoded(image if image.mode == "RGB" else image.convert("RGB"), width, height)
    except UnidentifiedImageError:
        raise UnreadableImage(path, "unrecognised image format") from None
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as err:
        raise UnreadableImage(path, str(err)) from None
