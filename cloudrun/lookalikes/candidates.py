"""Pairs of images worth a closer look: those that share several rare patches.

Each patch becomes a few short codes, by which side of random planes it lies on (locality-sensitive
hashing, Charikar 2002); equal codes are found by sorting. So the work grows with the number of images,
not with that of pairs.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from cloudrun.lookalikes.keypoints import MIRRORED, PATCH_SCALE, Floats, Keypoints

_TABLES = 6
_LEAST_VOTES = 3
_COMMON = 60  # a code that more patches share says nothing
_CHUNK = 1 << 16  # patches at once
_SAMPLE = 50_000  # patches from which planes and medians are taken

Codes = NDArray[np.int64]


def candidate_pairs(images: Sequence[Keypoints]) -> list[tuple[int, int]]:
    """Pairs (i, j), i < j, of `images` with equal codes for at least three patches, mirrored ones included."""
    count = len(images)
    patches = np.concatenate([image.patches for image in images]) if images else np.zeros((0, len(MIRRORED)), np.int8)
    if len(patches) < 2:
        return []
    owners = np.repeat(np.arange(count), [len(image.places) for image in images])
    bits = min(28, max(20, round(math.log2(len(patches))) + 7))
    axes = _whitened_axes(patches, kept=max(24, bits + 2))
    dice = np.random.default_rng(0)
    votes = np.zeros(0, np.int64)
    for _ in range(_TABLES):
        turn, _ = np.linalg.qr(dice.normal(size=(axes.shape[1], axes.shape[1])))
        planes = (axes @ turn[:, :bits]).astype(np.float32)
        votes = np.concatenate([votes, *_votes(patches, owners, planes, count)])
    pairs, votes_each = np.unique(votes, return_counts=True)
    kept = pairs[votes_each >= _LEAST_VOTES]
    return list(zip((kept // count).tolist(), (kept % count).tolist(), strict=True))


def _votes(patches: NDArray[np.int8], owners: NDArray[np.intp], planes: Floats, count: int) -> list[Codes]:
    """i * count + j for each two patches of images i < j that have one code."""
    spread = _float(patches[:: max(1, len(patches) // _SAMPLE)]) @ planes
    middle = np.median(spread, axis=0)
    codes = _codes(patches, planes, middle)
    order = np.argsort(codes, kind="stable")
    in_order, owners_in_order = codes[order], owners[order]
    votes = []
    # A mirrored patch times the planes is the patch times the planes with their rows in the mirrored order.
    for asked in (codes, _codes(patches, planes[MIRRORED], middle)):
        first = np.searchsorted(in_order, asked, "left")
        found = np.searchsorted(in_order, asked, "right") - first
        rare = np.nonzero((found > 0) & (found <= _COMMON))[0]
        times = found[rare]
        asking = np.repeat(owners[rare], times)
        within = np.arange(times.sum()) - np.repeat(np.cumsum(times) - times, times)
        answering = owners_in_order[np.repeat(first[rare], times) + within]
        is_once = asking < answering
        votes.append(asking[is_once].astype(np.int64) * count + answering[is_once])
    return votes


def _codes(patches: NDArray[np.int8], planes: Floats, middle: Floats) -> Codes:
    weights = 1 << np.arange(planes.shape[1], dtype=np.int64)
    return np.concatenate(
        [
            (_float(patches[start : start + _CHUNK]) @ planes > middle) @ weights
            for start in range(0, len(patches), _CHUNK)
        ]
    )


def _whitened_axes(patches: NDArray[np.int8], *, kept: int) -> Floats:
    """(PATCH * PATCH, kept): principal axes, each divided by its spread, so that every code is as likely."""
    some = _float(patches[:: max(1, len(patches) // _SAMPLE)])
    variances, axes = np.linalg.eigh(some.T @ some / len(some))
    largest = np.argsort(variances)[::-1][:kept]
    return np.asarray(axes[:, largest] / np.sqrt(variances[largest] + 1e-9), dtype=np.float32)


def _float(patches: NDArray[np.int8]) -> Floats:
    return patches.astype(np.float32) / PATCH_SCALE
