"""All lookalikes among many images."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from cloudrun.dataset.near_duplicates.candidates import candidate_pairs
from cloudrun.dataset.near_duplicates.keypoints import Floats, Keypoints, find_keypoints, read_thumbnail
from cloudrun.dataset.near_duplicates.registration import agreement, likeness
from cloudrun.imagedata.pixels import UnreadableImage

# Of corners that agree. Unrelated photographs have 5 at most; drawn leaves, and the same bar code behind two
# plants, up to 15, but there the pixels do not correlate as a copy's do.
_LEAST_MATCHES = 12
_SCENE_MATCHES = 16
# Of pixels that correlate. Copies of 125 potato leaves reach 0.93; another photograph of the same leaf 0.87
# at most.
_COPY = 0.9
_SCENE = 0.35
_LEAST_SHARED = 0.5  # of a copy; parts of one photograph that overlap less count as scenes
_CHUNK = 256
_WHOLE = 1.8  # of the time that finding the keypoints takes


@dataclass(frozen=True, slots=True)
class NearDuplicates:
    """Indices into the files that were compared.

    `copies`: groups of two and more that are one photograph, or hardly different. `scenes`: pairs that show the
    same thing in other photographs, or in small parts of one. `plain`: images with too few details to be told.
    """

    copies: tuple[tuple[int, ...], ...]
    scenes: tuple[tuple[int, int], ...]
    plain: int


class TooSlow(Exception):
    """It was not gone on with; `expected_s` is how long it would have taken."""

    def __init__(self, expected_s: float) -> None:
        super().__init__(f"{expected_s:.0f} s")
        self.expected_s = expected_s


def find_near_duplicates(files: Sequence[Path], goes_on: Callable[[float], bool] = lambda _: True) -> NearDuplicates:
    """Compare `files` by what they show, about 300 a second. A file that cannot be read is like no other.

    `goes_on` is told how many seconds it will take, after the first few hundred of more than twice as
    many images. Raises TooSlow where it says no.
    """
    images = _keypoints_of(files, goes_on)
    thumbnail = lru_cache(maxsize=1024)(read_thumbnail)
    copies: list[tuple[int, int]] = []
    scenes: list[tuple[int, int]] = []
    for i, j, is_mirrored in candidate_pairs(images):
        found = agreement(images[i], images[j], is_mirrored=is_mirrored, least=_LEAST_MATCHES)
        if found is None:
            continue
        alike = likeness(thumbnail(files[i]), thumbnail(files[j]), found.affine)
        if alike.correlation >= _COPY and alike.shared >= _LEAST_SHARED:
            copies.append((i, j))
        elif alike.correlation >= _SCENE and found.matches >= _SCENE_MATCHES:
            scenes.append((i, j))
    groups = connected(copies)
    of_image = {index: place for place, group in enumerate(groups) for index in group}
    apart = [(i, j) for i, j in scenes if i not in of_image or of_image[i] != of_image.get(j)]
    return NearDuplicates(tuple(groups), tuple(apart), sum(1 for image in images if len(image.places) < _LEAST_MATCHES))


def connected(pairs: Iterable[tuple[int, int]]) -> list[tuple[int, ...]]:
    """Groups of what is connected by `pairs`, each sorted, in the order of their first members."""
    group_of: dict[int, list[int]] = {}
    for i, j in pairs:
        one, other = group_of.setdefault(i, [i]), group_of.setdefault(j, [j])
        if one is not other:
            one.extend(other)
            for member in other:
                group_of[member] = one
    return sorted(tuple(sorted(group)) for group in {id(group): group for group in group_of.values()}.values())


def _keypoints_of(files: Sequence[Path], goes_on: Callable[[float], bool]) -> list[Keypoints]:
    """Files are decoded in threads, a chunk ahead; the arithmetic holds the GIL, and is faster in one."""
    images: list[Keypoints] = []
    began = time.monotonic()
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        ahead = pool.map(_thumbnail_or_blank, files[:_CHUNK])
        for start in range(_CHUNK, len(files) + _CHUNK, _CHUNK):
            now, ahead = ahead, pool.map(_thumbnail_or_blank, files[start : start + _CHUNK])
            images.extend(map(find_keypoints, now))
            if start == 2 * _CHUNK < len(files):
                expected_s = _WHOLE * (time.monotonic() - began) * len(files) / start
                if not goes_on(expected_s):
                    pool.shutdown(cancel_futures=True)
                    raise TooSlow(expected_s)
    return images


def _thumbnail_or_blank(path: Path) -> Floats:
    try:
        return read_thumbnail(path)
    except UnreadableImage:
        return np.zeros((1, 1), np.float32)
