"""Decoded images on disk: what is torn, stale, of another recipe or too much is decoded again, never used."""

import os
import pickle
import resource
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.support.processes import run_program
from trainer.data.cache import PixelCache, limit_bytes, open_cache
from trainer.data.pixels import Pixels

SIDE = 40
PLENTY = 10**9


@pytest.fixture
def paths(tmp_path: Path) -> list[Path]:
    """Three files; the cache reads nothing of them but their names, sizes and times."""
    files = [tmp_path / f"{name}.jpg" for name in "abc"]
    for file in files:
        file.write_bytes(b"image")
    return files


@pytest.fixture
def temporary_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def a_cache(paths: list[Path], *, recipe: str = "square", side: int = SIDE, limit: int = PLENTY) -> PixelCache:
    return PixelCache(paths[0].parent, paths, recipe=recipe, side=side, limit_bytes=limit)


def some_pixels(seed: int) -> Pixels:
    return Pixels(np.random.default_rng(seed).integers(0, 255, (3, SIDE, SIDE), np.uint8), 500, 375 + seed)


def test_another_process_finds_what_was_put(paths: list[Path]) -> None:
    a_cache(paths).put(1, some_pixels(1))
    found = a_cache(paths)
    kept = found.get(1)
    assert kept is not None
    assert (kept.values == some_pixels(1).values).all()
    assert (kept.width, kept.height) == (500, 376)
    assert (found.get(0), found.get(2)) == (None, None)


def test_a_process_that_is_not_forked_opens_the_same_file(paths: list[Path]) -> None:
    cache = a_cache(paths)
    there: PixelCache = pickle.loads(pickle.dumps(cache))
    there.put(2, some_pixels(2))
    kept = cache.get(2)
    assert kept is not None
    assert (kept.values == some_pixels(2).values).all()


@pytest.mark.parametrize("at", [0, 17, 30, 4096, 4096 + 2000, 4096 + 3 * SIDE * SIDE - 1])
def test_an_entry_or_pixels_with_a_wrong_byte_are_not_used(paths: list[Path], at: int) -> None:
    cache = a_cache(paths)
    cache.put(0, some_pixels(0))
    with cache.path.open("r+b") as file:
        file.seek(at)
        byte = file.read(1)[0]
        file.seek(at)
        file.write(bytes([byte ^ 255]))
    assert a_cache(paths).get(0) is None


def test_two_pages_that_changed_places_are_found(paths: list[Path]) -> None:
    cache = a_cache(paths)
    cache.put(0, some_pixels(0))
    with cache.path.open("r+b") as file:
        file.seek(4096)
        first, second = file.read(1024), file.read(1024)
        file.seek(4096)
        file.write(second + first)
    assert a_cache(paths).get(0) is None


def test_the_pixels_of_a_file_that_changed_are_not_used(paths: list[Path]) -> None:
    a_cache(paths).put(0, some_pixels(0))
    os.utime(paths[0], ns=(0, 1))
    assert a_cache(paths).get(0) is None
    a_cache(paths).put(0, some_pixels(5))
    kept = a_cache(paths).get(0)
    assert kept is not None
    assert (kept.values == some_pixels(5).values).all()


def test_pixels_of_another_recipe_or_size_are_not_used(paths: list[Path]) -> None:
    a_cache(paths).put(0, some_pixels(0))
    assert a_cache(paths, recipe="evaluation").get(0) is None
    assert a_cache(paths, side=SIDE + 1).get(0) is None


def test_it_keeps_no_more_than_it_may(paths: list[Path]) -> None:
    record = 3 * SIDE * SIDE + 40
    cache = a_cache(paths, limit=2 * record + 10)
    for index in range(3):
        cache.put(index, some_pixels(index))
    assert [cache.get(index) is not None for index in range(3)] == [True, True, False]
    assert cache.path.stat().st_size <= 2 * record + 2 * 4096


def test_a_full_disk_ends_keeping_and_not_the_run(paths: list[Path], caplog: pytest.LogCaptureFixture) -> None:
    cache = a_cache(paths)
    cache.put(0, some_pixels(0))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (6000, limits[1]))  # as a disk with no room
    try:
        cache.put(1, some_pixels(1))
        cache.put(2, some_pixels(2))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert [cache.get(index) is not None for index in range(3)] == [True, False, False]
    assert [record.message.startswith("no more decoded images are kept") for record in caplog.records] == [True]


def test_a_kill_while_images_are_put_leaves_whole_ones_and_none(tmp_path: Path) -> None:
    assert int(run_program("kill_while_caching", tmp_path)) > 3  # kills in the midst of it


def test_it_lies_in_a_folder_of_this_user_alone(paths: list[Path], temporary_folder: Path) -> None:
    cache = open_cache(paths, recipe="square", side=SIDE, limit=PLENTY)
    assert cache is not None
    folder = temporary_folder / f"cloudrun-pixels-{os.getuid()}"
    assert cache.path.parent == folder
    assert folder.stat().st_mode & 0o777 == 0o700
    cache.remove()
    assert list(folder.iterdir()) == []
    folder.chmod(0o777)
    assert open_cache(paths, recipe="square", side=SIDE, limit=PLENTY) is None


def test_what_a_killed_run_left_days_ago_is_removed(paths: list[Path], temporary_folder: Path) -> None:
    old = open_cache(paths, recipe="square", side=SIDE, limit=PLENTY)
    recent = open_cache(paths[1:], recipe="square", side=SIDE, limit=PLENTY)
    assert old is not None
    assert recent is not None
    os.utime(old.path, (0, 0))
    open_cache(paths[:1], recipe="square", side=SIDE, limit=PLENTY)
    assert (old.path.exists(), recent.path.exists()) == (False, True)


def test_its_limit_is_in_gigabytes_or_by_what_is_free() -> None:
    assert limit_bytes(1.5) == 1_500_000_000
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    assert 0 < limit_bytes("auto") <= memory // 2
    assert limit_bytes(0) == 0


def test_nothing_is_kept_where_nothing_may_be(paths: list[Path], temporary_folder: Path) -> None:
    assert open_cache(paths, recipe="square", side=SIDE, limit=0) is None
    assert list(temporary_folder.glob("**/*.pixels")) == []
