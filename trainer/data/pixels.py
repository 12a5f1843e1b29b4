"""Pixels of an image as the cache and the loader hold them. `cloudrun.imagedata.pixels` reads files."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class Pixels(NamedTuple):
    """uint8 (3, H, W), and the width and height of the file."""

    values: NDArray[np.uint8]
    width: int
    height: int
