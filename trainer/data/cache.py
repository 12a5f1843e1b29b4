"""Keep decoded images on the disk of this machine. Each is checked before it is used; a cache may be lost at any time.

A file has a header, an entry for each image (key, checks, original size), then the pixels of each image. An image that
a killed process left half-written fails its check, and an image of a changed file has another key: both are decoded
again. A cache is removed when its run has ended; a run that was stopped finds its cache again.
"""

from __future__ import annotations

import hashlib
import logging
import math
import mmap
import os
import shutil
import struct
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from trainer.data.pixels import Pixels

_VERSION = b"cloudrun pixels 1"
_ENTRY = struct.Struct("<16sIIQQ")  # key, width, height, two checks
_FORGOTTEN_AFTER_S = 3 * 24 * 3600.0

log = logging.getLogger(__name__)


class PixelCache:
    """Store uint8 images (3, side, side) of `paths` by index. Processes share the file."""

    def __init__(self, folder: Path, paths: Sequence[Path], *, recipe: str, side: int, limit_bytes: int) -> None:
        """Open or create the cache. Raises OSError.

        `recipe` names how pixels are made from files; pixels of another recipe are not used. Only the first images are
        kept where `limit_bytes` is too small for all of them.
        """
        self._shape = (3, side, side)
        self._record_bytes = -(-3 * side * side // 8) * 8
        self.kept = min(len(paths), limit_bytes // (self._record_bytes + _ENTRY.size))
        names = hashlib.blake2b(f"{recipe}|{side}|{self.kept}".encode(), key=_VERSION, digest_size=16)
        self._keys = []
        for path in paths[: self.kept]:
            stat = path.stat()
            key = f"{path.absolute()}|{stat.st_size}|{stat.st_mtime_ns}|{recipe}|{side}"
            self._keys.append(hashlib.blake2b(key.encode(), key=_VERSION, digest_size=16).digest())
            names.update(f"|{path.absolute()}".encode())
        self.path = folder / f"{names.hexdigest()}.pixels"
        # Rounded up to a page, so that entries and pixels never share a page.
        self._pixels_at = -(-max(1, self.kept * _ENTRY.size) // mmap.PAGESIZE) * mmap.PAGESIZE
        self.size_bytes = self._pixels_at + max(1, self.kept * self._record_bytes)
        self._open()

    def _open(self) -> None:
        self._file = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600)
        os.ftruncate(self._file, self.size_bytes)
        self._bytes = mmap.mmap(self._file, self.size_bytes, prot=mmap.PROT_READ)
        self._checked = bytearray(self.kept)
        self._is_full = False

    def __getstate__(self) -> dict[str, object]:
        """Leave out the open file: loader processes that are not forked (macOS) open it themselves."""
        return {key: value for key, value in vars(self).items() if key not in ("_file", "_bytes")}

    def __setstate__(self, state: dict[str, object]) -> None:
        vars(self).update(state)
        self._open()

    def get(self, index: int) -> Pixels | None:
        """Return image `index`, or None where it is absent, incomplete or of a changed file.

        Each process checks it once.
        """
        if index >= self.kept:
            return None
        key, width, height, *checks = _ENTRY.unpack_from(self._bytes, index * _ENTRY.size)
        if key != self._keys[index]:
            return None
        record = np.frombuffer(self._bytes, np.uint8, self._record_bytes, self._record_at(index))
        if not self._checked[index]:
            if _checks(record, width, height) != tuple(checks):
                return None
            self._checked[index] = 1
        return Pixels(record[: math.prod(self._shape)].reshape(self._shape), width, height)

    def put(self, index: int, pixels: Pixels) -> None:
        """Keep an image; the entry is written after the pixels.

        On a full disk no more images are kept, and the run goes on.
        """
        if index >= self.kept or self._is_full:
            return
        record = np.zeros(self._record_bytes, np.uint8)
        record[: pixels.values.size] = pixels.values.reshape(-1)
        entry = _ENTRY.pack(
            self._keys[index], pixels.width, pixels.height, *_checks(record, pixels.width, pixels.height)
        )
        try:
            os.pwrite(self._file, record.data, self._record_at(index))
            os.pwrite(self._file, entry, index * _ENTRY.size)
        except OSError as err:
            self._is_full = True
            log.warning("no more decoded images are kept: %s", err)

    def remove(self) -> None:
        """Delete the file; processes that still read it are not disturbed."""
        self.path.unlink(missing_ok=True)

    def _record_at(self, index: int) -> int:
        return self._pixels_at + index * self._record_bytes


def limit_bytes(cache_gb: float | Literal["auto"]) -> int:
    """Return the bytes that caches may use; auto: half of the free disk, at most half of the memory.

    Files beyond the memory would be read from the disk again.
    """
    if cache_gb != "auto":
        return round(cache_gb * 1e9)
    free = shutil.disk_usage(tempfile.gettempdir()).free // 2
    with suppress(OSError, ValueError):
        return min(free, os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2)
    return free


def open_cache(paths: Sequence[Path], *, recipe: str, side: int, limit: int) -> PixelCache | None:
    """Return a cache in the folder for temporary files.

    None where `limit` (bytes) allows no image, or the file cannot be made.
    """
    try:
        folder = _own_folder()
        _forget_old(folder)
        cache = PixelCache(folder, paths, recipe=recipe, side=side, limit_bytes=limit)
    except OSError as err:
        log.warning("decoded images are not kept: %s", err)
        return None
    if not cache.kept:
        cache.remove()
        return None
    return cache


def _own_folder() -> Path:
    """Return a folder of this user alone: other users may write to the folder around it."""
    folder = Path(tempfile.gettempdir()) / f"cloudrun-pixels-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    stat = folder.lstat()
    if stat.st_uid != os.getuid() or stat.st_mode & 0o077:
        raise PermissionError(f"{folder} is not this user's alone")
    return folder


def _forget_old(folder: Path) -> None:
    """Remove caches of runs that were killed and never resumed."""
    for path in folder.glob("*.pixels"):
        with suppress(FileNotFoundError):
            if time.time() - path.stat().st_mtime > _FORGOTTEN_AFTER_S:
                path.unlink()


def _checks(record: NDArray[np.uint8], width: int, height: int) -> tuple[int, int]:
    """Return a sum and a weighted sum of 64-bit words, which find pages that were never written.

    They take a tenth of the time of a CRC.
    """
    words = record.view("<u8")
    with np.errstate(over="ignore"):
        plain, weighted = words.sum(dtype=np.uint64), (words * _weights(len(words))).sum(dtype=np.uint64)
    return int(plain), int(weighted) ^ width ^ height << 32


def _weights(count: int) -> NDArray[np.uint64]:
    if count not in _weights_by_count:
        odd = np.arange(1, 2 * count + 1, 2, dtype=np.uint64)
        _weights_by_count[count] = odd * np.uint64(0x9E3779B97F4A7C15)
    return _weights_by_count[count]


_weights_by_count: dict[int, NDArray[np.uint64]] = {}
