"""Pairs of images worth a closer look: those that share several rare patches.

Each patch becomes a few short codes, by which side of random planes it lies on (locality-sensitive
hashing, Charikar 2002); equal codes are found by sorting. So the work grows with the number of images,
not with that of pairs.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from cloudrun.dataset.near_duplicates.keypoints import MIRRORED, PATCH_SCALE, Floats, Keypoints

_TABLES = 6
_LEAST_VOTES = 3
_RARITY = 8  # bits of a code beyond those that number the patches: chance gives one patch in 2**8 a twin
_COMMON = 60  # a code that more patches share says nothing
_CHUNK = 1 << 16  # patches at once
_SAMPLE = 50_000  # patches from which planes and medians are taken

Codes = NDArray[np.int64]


class Candidate(NamedTuple):
    """Images `one` < `other`, by index, that share patches: as they are, or `is_mirrored` in one of them."""

    one: int
    other: int
    is_mirrored: bool


def candidate_pairs(images: Sequence[Keypoints]) -> list[Candidate]:
    """Pairs of `images` with equal codes for at least three patches."""
    count = len(images)
    patches = np.concatenate([image.patches for image in images]) if images else np.zeros((0, len(MIRRORED)), np.int8)
    if len(patches) < 2:
        return []
    owners = np.repeat(np.arange(count), [len(image.places) for image in images])
    bits = min(30, max(20, round(math.log2(len(patches))) + _RARITY))
    axes = _whitened_axes(patches, kept=max(24, bits + 2))
    dice = np.random.default_rng(0)
    votes = np.zeros(0, np.int64)
    for _ in range(_TABLES):
        turn, _ = np.linalg.qr(dice.normal(size=(axes.shape[1], axes.shape[1])))
        planes = (axes @ turn[:, :bits]).astype(np.float32)
        votes = np.concatenate([votes, *_votes(patches, owners, planes, count)])
    keys, votes_each = np.unique(votes, return_counts=True)
    keys = keys[votes_each >= _LEAST_VOTES]
    pairs, mirrored = keys // 2, (keys % 2).astype(bool)
    return [
        Candidate(*found)
        for found in zip((pairs // count).tolist(), (pairs % count).tolist(), mirrored.tolist(), strict=True)
    ]


def _votes(patches: NDArray[np.int8], owners: NDArray[np.intp], planes: Floats, count: int) -> list[Codes]:
    """A vote for each two patches of images i < j that have one code: 2 * (i * count + j), and 1 where mirrored."""
    spread = _float(patches[:: max(1, len(patches) // _SAMPLE)]) @ planes
    middle = np.median(spread, axis=0)
    codes = _codes(patches, planes, middle)
    order = np.argsort(codes, kind="stable")
    known, known_owners = codes[order], owners[order]
    # A mirrored patch times the planes is the patch times the planes with their rows in the mirrored order.
    mirrored = _codes(patches, planes[MIRRORED], middle)
    mirrored_order = np.argsort(mirrored, kind="stable")
    votes = []
    for is_mirrored, asked, askers in (
        (0, known, known_owners),
        (1, mirrored[mirrored_order], owners[mirrored_order]),
    ):
        first = np.searchsorted(known, asked, "left")  # in order: ten times as fast as in any order
        found = np.searchsorted(known, asked, "right") - first
        rare = np.nonzero((found > 0) & (found <= _COMMON))[0]
        times = found[rare]
        asking = np.repeat(askers[rare], times)
        within = np.arange(times.sum()) - np.repeat(np.cumsum(times) - times, times)
        answering = known_owners[np.repeat(first[rare], times) + within]
        is_once = asking < answering
        votes.append(2 * (asking[is_once].astype(np.int64) * count + answering[is_once]) + is_mirrored)
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
