"""Load files as batches. Order and augmentation are pure functions of (seed, epoch, sample), never of the workers.

Pixels are the same whether a file was decoded just now or comes from a cache.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torch.utils.data.dataloader import _MultiProcessingDataLoaderIter

from cloudrun.imagedata.folders import LabelledFile
from cloudrun.imagedata.pixels import UnreadableImage, inspect, read_image
from trainer.data.augment_params import Ranges
from trainer.data.cache import PixelCache
from trainer.data.epoch_order import EpochBatches as EpochBatches
from trainer.data.epoch_order import Key
from trainer.data.epoch_order import equal_sizes as equal_sizes
from trainer.data.epoch_order import even_sizes as even_sizes
from trainer.data.epoch_order import mix as mix
from trainer.data.epoch_order import spread as spread
from trainer.data.epoch_order import stretch as stretch
from trainer.data.pixels import Pixels
from trainer.data.soft_targets import SoftTargets
from trainer.data.strong_params import draw
from trainer.data.unreadable import Unreadable
from trainer.distributed.ranks import ALONE, Ranks
from trainer.errors import TrainerError

# Where shared memory is full, a loader process cannot hand over its batch, and torch would wait for ever.
# Seconds of a wait, and how many waits: a run that is suspended (Ctrl-Z), however long, loses one of them.
WAIT_S, WAITS = 30, 10

Value = TypeVar("Value")
Transform = Callable[[Image.Image], Tensor]
"""Make uint8 (3, S, S) of an RGB image."""


class Batch(NamedTuple):
    """uint8 images (B, 3, S, S) and the indices (B,) of their labels."""

    images: Tensor
    labels: Tensor
    augment_params: Tensor | None = None
    """(B, 9), the fields of an `AugmentParams` in each row, or more with strong augmentation (`strong_params.draw`);
    None: the images are not to be augmented."""
    soft: Tensor | None = None
    """(B, 1 + classes), rows of `SoftTargets`; None: the targets are the labels alone."""


@dataclass(frozen=True, slots=True)
class _Broken:
    """Unreadable image, sent from a worker instead of an exception: torch would garble one with two arguments."""

    path: Path
    reason: str


class _Sample(NamedTuple):
    """`pixels`: None where no image could be read. `broken`: unreadable images that were tried before it."""

    pixels: Pixels | None
    label: int
    augment_params: tuple[float, ...] | None
    broken: tuple[_Broken, ...]
    soft: NDArray[np.float32] | None = None


class ImageFiles(Dataset[_Sample]):
    """Give the pixels of files by `Key`, with augmentation parameters from it and `seed`."""

    def __init__(  # noqa: PLR0913 - all that decides which batches come, each by its name
        self,
        files: Sequence[LabelledFile],
        transform: Transform,
        *,
        seed: int,
        at_least: int | None,
        ranges: Ranges | None,
        cache: PixelCache | None,
        soft: SoftTargets | None = None,
    ) -> None:
        self._soft = soft
        self._files, self._transform, self._at_least = files, transform, at_least
        self._seed, self._ranges, self._cache = seed, ranges, cache
        self._plain = ranges.plain() if ranges else None

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, key: Key) -> _Sample:
        """Return a sample.

        Instead of an unreadable training image comes the next readable one, so that batches keep their size.
        """
        index, ranges = key.file, self._plain if key.is_plain else self._ranges
        ways = len(self._files) if self._ranges else 1
        broken: list[_Broken] = []
        for place in (way % len(self._files) for way in range(index, index + ways)):
            pixels = self._pixels(place)
            if isinstance(pixels, _Broken):
                broken.append(pixels)
                continue
            drawn = None
            if ranges:
                seed = mix(self._seed, key.epoch, index, *([key.time] if key.time else []))
                drawn = draw(ranges, seed, width=pixels.width, height=pixels.height)
            soft = self._soft.row(place) if self._soft else None
            return _Sample(pixels, self._files[place][1], drawn, tuple(broken), soft)
        return _Sample(None, self._files[index][1], None, tuple(broken))

    def _pixels(self, index: int) -> Pixels | _Broken:
        kept = self._cache.get(index) if self._cache else None
        if kept is not None:
            return kept
        path = self._files[index][0]
        try:
            image, width, height = read_image(path, at_least=self._at_least)
        except UnreadableImage as err:
            return _Broken(path, err.reason)
        pixels = Pixels(self._transform(image).numpy(), width, height)
        if self._cache:
            self._cache.put(index, pixels)
        return pixels


class Loader:
    """Give batches of `files`. `workers` processes decode ahead; with 0 this process decodes."""

    def __init__(  # noqa: PLR0913 - all that decides which batches come, each by its name
        self,
        files: Sequence[LabelledFile],
        transform: Transform,
        *,
        batch_size: int,
        seed: int | None,
        workers: int,
        pin_memory: bool = False,
        at_least: int | None = None,
        ranges: Ranges | None = None,
        cache: PixelCache | None = None,
        unreadable: Unreadable | None = None,
        ranks: Ranks = ALONE,
        prefetch: int = 4,
        weights: Sequence[float] | None = None,
        soft: SoftTargets | None = None,
    ) -> None:
        """`seed`: None keeps the order of the files. `ranges`: None: no augmentation. `weights`: see `EpochBatches`.

        `prefetch`: batches that each worker prepares ahead. `at_least`: pixels a side that `transform` needs; None: all
        that the file has. `unreadable`: counts skipped images; None: an unreadable image is an error. `ranks`: the
        processes that share the files.
        """
        self._unreadable = unreadable
        self._batches = EpochBatches(len(files), batch_size, seed=seed, ranks=ranks, weights=weights)
        self._torch_loader: DataLoader[Any] = DataLoader(
            ImageFiles(files, transform, seed=seed or 0, at_least=at_least, ranges=ranges, cache=cache, soft=soft),
            batch_sampler=self._batches,
            num_workers=workers,
            collate_fn=_collate,
            pin_memory=pin_memory,
            persistent_workers=workers > 0,
            prefetch_factor=prefetch if workers else None,
            timeout=WAIT_S if workers else 0,
            worker_init_fn=_leave_signals_to_parent,
            generator=torch.Generator().manual_seed(0),  # without it, torch would draw from the model's RNG
        )

    def __len__(self) -> int:
        """Return the steps of an epoch."""
        return len(self._batches)

    @property
    def sizes(self) -> list[int]:
        """Images in the batch of each step, over all processes that share it."""
        return self._batches.sizes

    def epoch(self, epoch: int, *, start: int = 0, is_plain: bool = False) -> Iterator[Batch]:
        """Yield the batches of an epoch from step `start` on. `is_plain`: with the ranges of the last epochs.

        Raises FolderProblem naming an unreadable image; TrainerError where a loader process has died, or no batch
        arrives for minutes.
        """
        self._batches.epoch, self._batches.start, self._batches.is_plain = epoch, start, is_plain
        try:
            yield from self._read(_waited_for(self._begin()))
        except (RuntimeError, OSError, EOFError) as err:
            if not any(_has_ended(worker) for worker in self._processes()):
                raise
            raise TrainerError(
                f"a process that loads images has died: {' '.join(str(err).split())}",
                hint="lower `workers` if memory was short; the same command continues from the last checkpoint",
            ) from err

    def _begin(self) -> Iterator[Any]:
        with _signals_held():  # the processes are forked here, the first time
            try:
                batches = iter(self._torch_loader)  # later it waits until each process has acknowledged the new epoch
            except RuntimeError as err:
                if not _is_wait_over(err):
                    raise
                for process in self._processes():  # which processes have acknowledged is not known
                    process.kill()
                self.close()
                batches = iter(self._torch_loader)
            if threading.current_thread() is threading.main_thread():
                # torch's handler would raise anywhere in this process when a worker dies; the next batch finds it, too.
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        return batches

    def _read(self, batches: Iterator[tuple[Batch | None, list[_Broken]]]) -> Iterator[Batch]:
        for batch, broken in batches:
            for image in broken:
                if self._unreadable is None:
                    raise UnreadableImage(image.path, image.reason)
                self._unreadable.note(image.path, image.reason)
            if batch is not None:
                yield batch

    def _processes(self) -> list[BaseProcess]:
        iterator = self._torch_loader._iterator  # noqa: SLF001  torch has no public way to its processes
        return list(iterator._workers) if isinstance(iterator, _MultiProcessingDataLoaderIter) else []  # noqa: SLF001

    def close(self) -> None:
        """End the loader processes. Python's exit would only send them SIGTERM, which they ignore, and wait.

        To drop the last reference would do as well, but a traceback may hold a reference.
        """
        processes, iterator = self._processes(), self._torch_loader._iterator  # noqa: SLF001
        self._torch_loader._iterator = None  # noqa: SLF001
        if isinstance(iterator, _MultiProcessingDataLoaderIter):
            iterator._shutdown_workers()  # noqa: SLF001
        for process in processes:
            process.kill()


def _waited_for(batches: Iterator[Value]) -> Iterator[Value]:
    """Yield the batches. torch ends a wait with an error, after which its iterator can be asked again."""
    waits = 0
    while True:
        try:
            batch = next(batches)
        except StopIteration:
            return
        except RuntimeError as err:
            if not _is_wait_over(err):
                raise
            waits += 1
            if waits == WAITS:
                raise TrainerError(
                    f"no batch came from the processes that load images in {WAITS * WAIT_S} s",
                    hint="check that shared memory (/dev/shm) is not full and the disk answers; a traceback may be "
                    "above; the same command continues from the last checkpoint",
                ) from err
        else:
            waits = 0
            yield batch


def _is_wait_over(err: RuntimeError) -> bool:
    return "timed out after" in str(err)


def check_headers(files: Sequence[LabelledFile], unreadable: Unreadable | None = None, *, ranks: Ranks = ALONE) -> None:
    """Open every file without decoding it, to find at the start what would end the run later.

    Each process opens its share, and all get the result. Raises FolderProblem at the first unreadable image, or, where
    `unreadable` counts them, when there are too many.
    """
    own = stretch(len(files), ranks)
    paths = [path for path, _ in files[own.start : own.stop]]

    def problem(path: Path) -> str | None:
        return inspect(path, decode=False).problem

    with ThreadPoolExecutor(8) as pool:
        reasons = [reason for part in ranks.gather(list(pool.map(problem, paths))) for reason in part]
    for (path, _), reason in zip(files, reasons, strict=True):
        if reason is not None and unreadable is None:
            raise UnreadableImage(path, reason)
        if reason is not None and unreadable is not None:
            unreadable.note(path, reason)


def _collate(samples: list[_Sample]) -> tuple[Batch | None, list[_Broken]]:
    broken = [image for sample in samples for image in sample.broken]
    whole = [
        (sample.pixels.values, sample.label, sample.augment_params, sample.soft)
        for sample in samples
        if sample.pixels is not None
    ]
    if not whole:
        return None, broken
    images, labels, augment_params, soft = zip(*whole, strict=True)
    drawn = None if augment_params[0] is None else torch.tensor(augment_params)
    targets = None if soft[0] is None else torch.from_numpy(np.stack(soft))
    return Batch(torch.from_numpy(np.stack(images)), torch.tensor(labels), drawn, targets), broken


def _has_ended(process: BaseProcess) -> bool:
    process.join(1)  # its files are closed a moment before it has ended
    return process.exitcode is not None


_STOPPING = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def _signals_held() -> Iterator[None]:
    """Hold back SIGINT and SIGTERM here, and in processes that are forked here."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _STOPPING)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _leave_signals_to_parent(_: int) -> None:
    """Ignore SIGINT and SIGTERM in a loader process.

    Signals reach the whole process group, and the training process needs its loaders to finish the step.
    """
    for number in _STOPPING:
        signal.signal(number, signal.SIG_IGN)
