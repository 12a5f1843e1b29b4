"""Transforms and batches: what the model sees is decided by the seed, the epoch and the sample alone."""

import multiprocessing
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from PIL import Image
from torchvision.transforms import v2

from cloudrun.imagedata.folders import FolderProblem, LabelledFile, list_dataset
from cloudrun.imagedata.pixels import read_image
from cloudrun.recipe.inputs import Colouring, Inputs
from tests.support.checkout import CHECKOUT
from tests.support.processes import program
from trainer.data.augment import Square, evaluation_transform, normalise
from trainer.data.augment_params import Ranges
from trainer.data.cache import PixelCache
from trainer.data.leaves import draw_leaf
from trainer.data.loader import Batch, EpochBatches, Loader, check_headers, equal_sizes, even_sizes
from trainer.data.unreadable import Unreadable
from trainer.errors import TrainerError

LEAF = draw_leaf("scab", size=96, seed="0").resize((120, 96))


PLAIN = Inputs((Colouring(),))
RANGES = Ranges(crop_scale_min=0.08, rotation_degrees=30, color_jitter=0.2)


def batches(
    files: list[LabelledFile], *, workers: int = 0, epoch: int = 1, start: int = 0, cache: PixelCache | None = None
) -> list[Batch]:
    loader = Loader(
        files, Square(32), batch_size=8, seed=3, workers=workers, at_least=32, ranges=RANGES, cache=cache
    )  # fmt: skip
    return list(loader.epoch(epoch, start=start))


def are_equal(some: list[Batch], others: list[Batch]) -> bool:
    return len(some) == len(others) and all(
        values is expected or torch.equal(values, expected)
        for one, other in zip(some, others, strict=True)
        for values, expected in zip(one, other, strict=True)
    )


@pytest.fixture
def files(leaves: Path) -> list[LabelledFile]:
    return list(list_dataset(leaves).splits["train"])


def test_evaluation_takes_the_middle_after_resizing_to_256_224ths() -> None:
    resized = v2.functional.resize(LEAF, [256])
    expected = v2.functional.pil_to_tensor(v2.functional.center_crop(resized, [224, 224]))
    assert torch.equal(evaluation_transform(224, PLAIN)(LEAF), expected)


def test_normalising_is_that_of_torchvision() -> None:
    pixels = evaluation_transform(64, PLAIN)(LEAF)
    scaled = v2.functional.to_dtype(pixels, torch.float32, scale=True)
    expected = v2.functional.normalize(scaled, [0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
    torch.testing.assert_close(normalise(pixels), expected, atol=1e-5, rtol=1e-5)


def test_batches_do_not_depend_on_the_number_of_workers(files: list[LabelledFile]) -> None:
    assert are_equal(batches(files), batches(files, workers=2))


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_from_the_cache_are_those_of_the_files(files: list[LabelledFile], tmp_path: Path, workers: int) -> None:
    copies = [(tmp_path / path.name, label) for path, label in files]
    for (path, _), (copy, _) in zip(files, copies, strict=True):
        copy.write_bytes(path.read_bytes())
    paths, half = [path for path, _ in copies], 16 * (3 * 32 * 32 + 40)
    for limit in (half, 10**9):  # what does not fit is decoded each time
        cache = PixelCache(tmp_path, paths, recipe="square", side=32, limit_bytes=limit)
        assert are_equal(batches(copies, cache=cache, workers=workers), batches(files))
        assert are_equal(batches(copies, epoch=2, cache=cache, workers=workers), batches(files, epoch=2))
    for path in paths:
        path.write_bytes(b"gone")
    assert are_equal(batches(copies, epoch=3, cache=cache, workers=workers), batches(files, epoch=3))


def test_a_signal_to_the_whole_group_never_ends_a_loaders_process_and_close_does(files: list[LabelledFile]) -> None:
    loader = Loader(files, Square(32), batch_size=8, seed=3, workers=1, ranges=RANGES)
    running = loader.epoch(1)
    next(running)
    [process] = multiprocessing.active_children()
    status = dict(line.split(":\t", 1) for line in Path(f"/proc/{process.pid}/status").read_text().splitlines())
    for number in (signal.SIGTERM, signal.SIGINT):
        assert int(status["SigBlk"], 16) >> (number - 1) & 1  # from the fork on
    os.kill(process.pid, signal.SIGTERM)
    assert len(list(running)) == 3
    assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == set()
    loader.close()
    process.join(5)
    assert multiprocessing.active_children() == []


def test_an_epoch_can_be_entered_at_any_step(files: list[LabelledFile]) -> None:
    whole = batches(files)
    assert are_equal(batches(files, start=2), whole[2:])
    assert not are_equal(batches(files, epoch=2), whole)


@pytest.mark.parametrize(
    ("count", "batch_size", "sizes"),
    [(32, 8, [8] * 4), (33, 8, [7, 7, 7, 6, 6]), (3, 2, [3]), (5, 2, [3, 2]), (1, 8, [1]), (65, 64, [33, 32])],
)
def test_batches_are_even_and_never_of_one_image(count: int, batch_size: int, sizes: list[int]) -> None:
    assert even_sizes(count, batch_size) == sizes


@pytest.mark.parametrize(
    ("count", "batch_size", "sizes"),
    [(32, 8, [8] * 4), (33, 8, [7] * 5), (1639, 64, [64] * 26), (3, 2, [3]), (5, 2, [3, 3]), (1, 8, [1])],
)
def test_training_batches_are_all_of_one_size(count: int, batch_size: int, sizes: list[int]) -> None:
    assert equal_sizes(count, batch_size) == sizes
    assert equal_sizes(count, sizes[0]) == sizes  # as a checkpoint keeps it


def test_every_image_is_trained_with_in_each_epoch_and_a_few_twice() -> None:
    batches_of_epoch = EpochBatches(31, 8, seed=3)
    twice = []
    for batches_of_epoch.epoch in (1, 2, 3):
        keys = [key.file for batch in batches_of_epoch for key in batch]
        assert (len(keys), set(keys)) == (32, set(range(31)))
        twice.append(max(keys, key=keys.count))
    assert len(set(twice)) > 1


@pytest.mark.parametrize("workers", [0, 1])
def test_an_image_that_ends_too_early_is_named(leaves: Path, tmp_path: Path, workers: int) -> None:
    path = tmp_path / "cut.jpg"
    path.write_bytes(next(leaves.rglob("*.jpg")).read_bytes()[:700])
    with pytest.raises(FolderProblem, match=r"cut.jpg cannot be read as an image: image file is truncated"):
        batches([(path, 0), (path, 0)], workers=workers)


def test_in_place_of_an_image_that_cannot_be_read_comes_the_next_one(files: list[LabelledFile], tmp_path: Path) -> None:
    cut = tmp_path / "cut.jpg"
    cut.write_bytes(files[5][0].read_bytes()[:700])
    with_cut = [*files[:5], (cut, files[5][1]), *files[6:]]
    found = Unreadable(images=32, share=0.1)
    loader = Loader(with_cut, Square(32), batch_size=8, seed=3, workers=0, ranges=RANGES, unreadable=found)
    expected = [*files[:5], files[6], *files[6:]]
    assert are_equal(list(loader.epoch(1)), batches(expected))
    assert are_equal(list(loader.epoch(2)), batches(expected, epoch=2))
    assert len(found.lines) == 1


def test_an_image_to_evaluate_that_cannot_be_read_is_left_out(files: list[LabelledFile], tmp_path: Path) -> None:
    cut = tmp_path / "cut.jpg"
    cut.write_bytes(files[0][0].read_bytes()[:700])
    found = Unreadable(images=32, share=0.1)
    evaluated = [(cut, 0), (cut, 0), *files[:4]]
    loader = Loader(evaluated, Square(32), batch_size=2, seed=None, workers=0, unreadable=found)
    whole = Loader(files[:4], Square(32), batch_size=2, seed=None, workers=0)
    for one, other in zip(loader.epoch(0), whole.epoch(0), strict=True):
        assert torch.equal(one.images, other.images)


def test_a_file_that_is_no_image_is_found_before_training(tmp_path: Path) -> None:
    (tmp_path / "page.jpg").write_text("<html>")
    with pytest.raises(FolderProblem, match=r"page.jpg cannot be read as an image: unrecognised image format"):
        check_headers([(tmp_path / "page.jpg", 0)])


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "CMYK"])
def test_images_of_any_mode_become_rgb(tmp_path: Path, mode: str) -> None:
    path = tmp_path / ("image.jpg" if mode == "CMYK" else "image.png")
    LEAF.convert(mode).save(path)
    assert read_image(path).image.mode == "RGB"


def test_a_photograph_taken_sideways_is_turned_upright(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # Orientation: turn by 90 degrees
    LEAF.save(tmp_path / "sideways.jpg", exif=exif)
    decoded = read_image(tmp_path / "sideways.jpg")
    assert (decoded.image.size, decoded.width, decoded.height) == ((96, 120), 96, 120)


@pytest.mark.parametrize(("at_least", "decoded_size"), [(None, (960, 768)), (385, (960, 768)), (384, (480, 384))])
def test_a_large_photograph_is_decoded_no_larger_than_needed(
    tmp_path: Path, at_least: int | None, decoded_size: tuple[int, int]
) -> None:
    large = LEAF.resize((960, 768))
    large.save(tmp_path / "large.jpg", quality=95)
    decoded = read_image(tmp_path / "large.jpg", at_least=at_least)
    assert (decoded.image.size, decoded.width, decoded.height) == (decoded_size, 960, 768)
    whole, scaled = (v2.functional.pil_to_tensor(one.resize((96, 77))).float() for one in (large, decoded.image))
    assert (whole - scaled).abs().mean() < 2


@pytest.fixture
def loading(files: list[LabelledFile], monkeypatch: pytest.MonkeyPatch) -> Iterator[Loader]:
    """Two processes that have loaded an epoch, and wait for the next one."""
    monkeypatch.setattr("trainer.data.loader.WAIT_S", 1)
    loader = Loader(files, Square(32), batch_size=8, seed=3, workers=2, at_least=32, ranges=RANGES)
    assert len(list(loader.epoch(1))) == 4
    yield loader
    loader.close()


def test_a_process_that_dies_between_two_epochs_is_an_error_that_says_so(loading: Loader) -> None:
    os.kill(multiprocessing.active_children()[0].pid or 0, signal.SIGKILL)
    with pytest.raises(TrainerError, match="a process that loads images has died"):
        list(loading.epoch(2))


def test_processes_that_do_not_answer_between_two_epochs_are_started_anew(
    loading: Loader, files: list[LabelledFile]
) -> None:
    """A run that is suspended in that moment meets its processes too late."""
    for process in multiprocessing.active_children():
        os.kill(process.pid or 0, signal.SIGSTOP)
    assert are_equal(list(loading.epoch(2)), batches(files, epoch=2))


@pytest.mark.slow
def test_a_run_that_was_suspended_for_long_goes_on(leaves: Path) -> None:
    command = program("load_slowly", leaves)
    with subprocess.Popen(command, cwd=CHECKOUT, stdout=subprocess.PIPE, text=True, start_new_session=True) as run:
        try:
            assert run.stdout is not None
            assert run.stdout.readline() == "2\n"
            os.killpg(run.pid, signal.SIGSTOP)  # what Ctrl-Z does to all of it
            time.sleep(6)  # longer than a batch is waited for
            os.killpg(run.pid, signal.SIGCONT)
            assert run.communicate(timeout=60)[0] == "2\n2\n"
        finally:
            run.kill()
    assert run.returncode == 0
