"""The corners of an image, each with a small patch around it that is turned upright.

A corner is found again when the image was turned, mirrored, moved or zoomed a little, and its patch
looks the same then. Corners by the smaller eigenvalue of the structure tensor (Shi & Tomasi 1994),
orientation by the intensity centroid (Rublee et al. 2011, "ORB").
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cloudrun.imagedata.pixels import read_image

Floats = NDArray[np.float32]

SIDE = 128
"""Pixels of the longer side of the grey thumbnail in which keypoints are looked for."""
PATCH = 8
"""A patch is PATCH x PATCH samples."""
PATCH_SCALE = 254.0
"""A patch has mean 0 and norm 1; it is held as int8 of this many steps."""

# The most corners of an image, at its scale and at a coarser one: what was zoomed or cropped to about 60 % of its side
# looks at the coarser scale as the whole does at the finer.
_SCALES = ((1.0, 64), (0.7, 32))
_STEP = 2.4  # pixels between the samples of a patch
_RADIUS = 9  # pixels of the disc that gives a patch its orientation
_BORDER = _RADIUS + 3
_FAINTEST = 4.0  # corners below this are noise of the compression


class Keypoints(NamedTuple):
    """`places` complex64 (K,): x + iy in pixels of the thumbnail; `patches` int8 (K, PATCH * PATCH)."""

    places: NDArray[np.complex64]
    patches: NDArray[np.int8]


_AROUND = np.mgrid[-_RADIUS : _RADIUS + 1, -_RADIUS : _RADIUS + 1]
_DISC_Y, _DISC_X = (axis[(_AROUND**2).sum(0) <= _RADIUS**2] for axis in _AROUND)
_GRID_V, _GRID_U = (axis.ravel().astype(np.float32) for axis in (np.mgrid[0:PATCH, 0:PATCH] - (PATCH - 1) / 2) * _STEP)
MIRRORED = np.arange(PATCH * PATCH).reshape(PATCH, PATCH)[::-1].ravel()
"""`patches[:, MIRRORED]` are the patches of the mirrored image: its orientations are mirrored, too."""


def read_thumbnail(path: Path) -> Floats:
    """Grey values (H, W) of 0 to 255, upright, the longer side SIDE px. Raises UnreadableImage."""
    grey = read_image(path, at_least=SIDE, mode="L").image
    scale = SIDE / max(grey.size)
    size = tuple(max(2 * _BORDER, round(side * scale)) for side in grey.size)
    how = Image.Resampling.BOX if scale < 0.6 else Image.Resampling.BILINEAR
    return np.asarray(grey.resize((size[0], size[1]), how), dtype=np.float32)


def find_keypoints(thumbnail: Floats) -> Keypoints:
    """Up to 96 corners, the strongest ones; fewer, or none, where there is little to see."""
    found = [_corners(_scaled(thumbnail, scale), scale, most) for scale, most in _SCALES]
    return Keypoints(*(np.concatenate(parts) for parts in zip(*found, strict=True)))


def _scaled(image: Floats, scale: float) -> Floats:
    height, width = (max(2 * _BORDER, round(side * scale)) for side in image.shape)
    if (height, width) == image.shape:
        return image
    return np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR))


def _corners(image: Floats, scale: float, most: int) -> Keypoints:
    """The `most` strongest corners of `image`, which is `scale` times the thumbnail."""
    height, width = image.shape
    smooth = blur(image)
    strength = _corner_strength(smooth)
    inner = np.zeros(strength.shape, bool)
    inner[_BORDER : height - _BORDER, _BORDER : width - _BORDER] = True
    ys, xs = np.nonzero((strength >= _largest_around(strength)) & inner & (strength > _FAINTEST))
    if len(ys) > most:
        strongest = np.argpartition(-strength[ys, xs], most)[:most]
        ys, xs = ys[strongest], xs[strongest]
    places = ((xs + 1j * ys) / scale).astype(np.complex64)
    if not len(ys):
        return Keypoints(places, np.zeros((0, PATCH * PATCH), np.int8))
    disc = smooth[ys[:, None] + _DISC_Y, xs[:, None] + _DISC_X]
    disc -= disc.mean(1, keepdims=True)
    angle = np.arctan2(disc @ _DISC_Y.astype(np.float32), disc @ _DISC_X.astype(np.float32))[:, None]
    cos, sin = np.cos(angle), np.sin(angle)
    patches = sample(
        smooth,
        xs[:, None] + cos * _GRID_U - sin * _GRID_V,
        ys[:, None] + sin * _GRID_U + cos * _GRID_V,
    )
    patches -= patches.mean(1, keepdims=True)
    patches /= np.linalg.norm(patches, axis=1, keepdims=True) + 1e-6
    return Keypoints(places, np.rint(patches.clip(-0.5, 0.5) * PATCH_SCALE).astype(np.int8))


def sample(image: Floats, xs: Floats, ys: Floats) -> Floats:
    """`image` between its pixels (bilinear), in the shape of `xs`; places outside give the edge's value."""
    height, width = image.shape
    xs, ys = xs.clip(0, width - 1.001), ys.clip(0, height - 1.001)
    left, top = xs.astype(np.int32), ys.astype(np.int32)
    right_part, lower_part = xs - left, ys - top
    upper = image[top, left] * (1 - right_part) + image[top, left + 1] * right_part
    lower = image[top + 1, left] * (1 - right_part) + image[top + 1, left + 1] * right_part
    return np.asarray(upper * (1 - lower_part) + lower * lower_part, dtype=np.float32)


def blur(image: Floats) -> Floats:
    """`image` under a binomial filter of 5 x 5."""
    wide = np.pad(image, 2, mode="edge")
    rows = (wide[:, :-4] + wide[:, 4:] + 4 * (wide[:, 1:-3] + wide[:, 3:-1]) + 6 * wide[:, 2:-2]) / 16
    return np.asarray((rows[:-4] + rows[4:] + 4 * (rows[1:-3] + rows[3:-1]) + 6 * rows[2:-2]) / 16, dtype=np.float32)


def _corner_strength(smooth: Floats) -> Floats:
    """The smaller eigenvalue of the structure tensor: 0 on flat ground and along straight edges."""
    across, down = np.zeros_like(smooth), np.zeros_like(smooth)
    across[:, 1:-1] = smooth[:, 2:] - smooth[:, :-2]
    down[1:-1] = smooth[2:] - smooth[:-2]
    xx, yy, xy = blur(across * across), blur(down * down), blur(across * down)
    return np.asarray((xx + yy) / 2 - np.sqrt(((xx - yy) / 2) ** 2 + xy * xy), dtype=np.float32)


def _largest_around(values: Floats) -> Floats:
    """For each pixel the largest value of the 7 x 7 around it."""
    rows = values.copy()
    for shift in (1, 2, 3):
        np.maximum(rows[:, shift:], values[:, :-shift], out=rows[:, shift:])
        np.maximum(rows[:, :-shift], values[:, shift:], out=rows[:, :-shift])
    both = rows.copy()
    for shift in (1, 2, 3):
        np.maximum(both[shift:], rows[:-shift], out=both[shift:])
        np.maximum(both[:-shift], rows[shift:], out=both[:-shift])
    return both
