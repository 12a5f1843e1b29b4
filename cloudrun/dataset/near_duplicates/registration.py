"""Lay one image onto another by their keypoints: which places agree, and how well the pixels do.

Similarity maps from each two matches, the one that most others agree with kept (Fischler & Bolles
1981, "RANSAC", here without chance: all pairs are tried), then an affine map through those by least
squares. The pixels are compared without their coarse brightness, so that light does not decide.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from cloudrun.dataset.near_duplicates.keypoints import MIRRORED, PATCH_SCALE, Floats, Keypoints, blur, sample

_ALIKE = 0.75  # correlation of two patches that may show the same corner
_APART = 12.0  # pixels between two matches that give a map
_NEAR = 2.5  # pixels by which a similarity map may miss a match
_NEARER = 2.0  # the same for an affine map
_LEAST_PIXELS = 400
_ROWS = 32
_SAME = 4.0  # pixels within which two keypoints are one corner

Affine = NDArray[np.float64]


class Agreement(NamedTuple):
    """`matches` of keypoints agree with `affine` (3, 2): (x, y, 1) in one thumbnail -> (x, y) in the other."""

    matches: int
    affine: Affine


def agreement(one: Keypoints, other: Keypoints, *, is_mirrored: bool, least: int) -> Agreement | None:
    """The affine map that most keypoints agree with; None where fewer than `least` do."""
    if min(len(one.places), len(other.places)) < least:
        return None
    source, target = _matches(one, other, is_mirrored=is_mirrored)
    if len(source) < least:
        return None
    best = _similarity(source.conj() if is_mirrored else source, target)
    if best.sum() < least:
        return None
    points = np.stack([source.real, source.imag, np.ones(len(source))], 1)
    goal = np.stack([target.real, target.imag], 1)
    affine: Affine = np.zeros((3, 2))
    for _ in range(3):
        affine = np.linalg.lstsq(points[best], goal[best], rcond=None)[0]
        best = np.hypot(*(points @ affine - goal).T) < _NEARER
        if best.sum() < least:
            return None
    corners = np.unique(np.rint(source[best] / _SAME))  # one that is seen at both scales counts once
    return Agreement(len(corners), affine) if len(corners) >= least else None


class Likeness(NamedTuple):
    """`correlation` (-1 to 1) of the details over what both show; `shared`: which part of the smaller that is."""

    correlation: float
    shared: float


def likeness(one: Floats, other: Floats, affine: Affine) -> Likeness:
    """How well thumbnail `one` fits onto `other` under `affine`; correlation 0 where they hardly overlap."""
    height, width = one.shape
    ys, xs = np.mgrid[4 : height - 4, 4 : width - 4].reshape(2, -1)
    there = np.stack([xs, ys, np.ones(len(xs))], 1) @ affine
    inside = (there >= 4).all(1) & (there[:, 0] < other.shape[1] - 5) & (there[:, 1] < other.shape[0] - 5)
    part = inside.mean()
    part_of_other = part * abs(np.linalg.det(affine[:2])) * one.size / other.size
    shared = float(max(part, min(1.0, part_of_other)))
    if inside.sum() < _LEAST_PIXELS:
        return Likeness(0.0, shared)
    mine = _details(one)[ys[inside], xs[inside]]
    theirs = sample(_details(other), *there[inside].astype(np.float32).T)
    mine, theirs = mine - mine.mean(), theirs - theirs.mean()
    return Likeness(float(mine @ theirs / (np.linalg.norm(mine) * np.linalg.norm(theirs) + 1e-6)), shared)


def _matches(
    one: Keypoints, other: Keypoints, *, is_mirrored: bool
) -> tuple[NDArray[np.complex64], NDArray[np.complex64]]:
    """Places in both of keypoints that are each other's most alike."""
    theirs = (other.patches[:, MIRRORED] if is_mirrored else other.patches).astype(np.float32).T
    mine_patches = one.patches.astype(np.float32)
    # In pieces that OpenBLAS multiplies in one thread: handing so little to several takes ten times as long.
    alike = np.concatenate([mine_patches[row : row + _ROWS] @ theirs for row in range(0, len(mine_patches), _ROWS)])
    nearest, back = alike.argmax(1), alike.argmax(0)
    mine = np.arange(len(one.places))
    is_match = (back[nearest] == mine) & (alike[mine, nearest] > _ALIKE * PATCH_SCALE**2)
    return one.places[is_match], other.places[nearest[is_match]]


def _similarity(source: NDArray[np.complex64], target: NDArray[np.complex64]) -> NDArray[np.bool_]:
    """Which matches agree with the best map z -> turn * z + shift that two of them give."""
    first, second = np.triu_indices(len(source), 1)
    apart = source[first] - source[second]
    is_far = np.abs(apart) > _APART
    first, second, apart = first[is_far], second[is_far], apart[is_far]
    turn = (target[first] - target[second]) / apart
    is_sane = (np.abs(turn) > 0.55) & (np.abs(turn) < 1.8)
    turn, first = turn[is_sane], first[is_sane]
    if not len(turn):
        return np.zeros(len(source), bool)
    shift = target[first] - turn * source[first]
    agree = np.abs(turn[:, None] * source + shift[:, None] - target) < _NEAR
    return np.asarray(agree[agree.sum(1).argmax()])


def _details(thumbnail: Floats) -> Floats:
    """What is finer than about a tenth of the image, without the noise of single pixels."""
    smooth = blur(thumbnail)
    return smooth - blur(blur(blur(smooth)))
