"""Decide which samples an epoch has, in which order and batches: a pure function of seed, epoch and number of files."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch

from trainer.data.sampling import drawn_again
from trainer.distributed.ranks import ALONE, Ranks


class Key(NamedTuple):
    """A sample of an epoch. `file`: the place of its file; `time`: how often the epoch had this file before."""

    epoch: int
    file: int
    time: int = 0
    is_plain: bool = False


class EpochBatches:
    """Give the keys of the batches of one epoch: set `epoch`, `start` (a step) and `is_plain`, then iterate.

    With several processes each has its share: of every batch, or without a `seed` a stretch of the files.
    """

    def __init__(
        self,
        count: int,
        batch_size: int,
        *,
        seed: int | None,
        ranks: Ranks = ALONE,
        weights: Sequence[float] | None = None,
    ) -> None:
        """`seed`: None keeps the order of the files, and `batch_size` then counts images of this process alone.

        `weights`: how likely each file is drawn, in relation to the others; None: each comes once an epoch.
        """
        self._seed, self._ranks, self._weights = seed, ranks, weights
        own = stretch(count, ranks) if seed is None else range(count)
        self._indices = own
        self.sizes = even_sizes(len(own), batch_size) if seed is None else equal_sizes(len(own), batch_size)
        self.batch_size = batch_size
        self.epoch, self.start, self.is_plain = 0, 0, False

    def __len__(self) -> int:
        return len(self.sizes)

    def __iter__(self) -> Iterator[list[Key]]:
        order, first, every = [(index, 0) for index in self._indices], 0, 1
        if self._seed is not None:
            rng = torch.Generator().manual_seed(mix(self._seed, self.epoch, -1))
            if self._weights is not None:
                order = drawn_again(self._weights, sum(self.sizes), rng)
            else:
                order = [(index, 0) for index in torch.randperm(len(order), generator=rng).tolist()]
                order += order[: sum(self.sizes) - len(order)]
            first, every = self._ranks.rank, self._ranks.world
        place = 0
        for step, size in enumerate(self.sizes):
            if step >= self.start:
                own = order[place : place + size][first::every]
                yield [Key(self.epoch, index, time, self.is_plain) for index, time in own]
            place += size


def even_sizes(count: int, batch_size: int) -> list[int]:
    """Return the sizes of batches that hold `count` images once, as even as possible, so that no batch is tiny.

    At most `batch_size`, but never 1 (batch norm needs two) unless `count` is 1.
    """
    return spread(count, max(1, min(-(-count // batch_size), count // 2)))


def equal_sizes(count: int, batch_size: int) -> list[int]:
    """Return the sizes of as many batches as `even_sizes` gives, all equal: a few images, others in each epoch, come
    twice.

    A GPU searches algorithms for each size of a batch, and the compiler compiles for each.
    """
    steps = len(even_sizes(count, batch_size))
    return [-(-count // steps)] * steps


def spread(count: int, parts: int) -> list[int]:
    """Return the sizes of `parts` parts, as even as possible."""
    return [count // parts + (part < count % parts) for part in range(parts)]


def stretch(count: int, ranks: Ranks) -> range:
    """Return the indices of this process among `count` files: a range, so that all ranges together cover the files."""
    sizes = spread(count, ranks.world)
    first = sum(sizes[: ranks.rank])
    return range(first, first + sizes[ranks.rank])


def mix(*numbers: int) -> int:
    """Return a 63-bit seed from several numbers."""
    text = ",".join(map(str, numbers)).encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "big") >> 1
