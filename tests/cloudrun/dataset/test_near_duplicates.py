"""Images that stand in a data set more than once: found whatever was done to the copy, and nothing else is."""

from __future__ import annotations

import io
from collections.abc import Callable
from itertools import combinations
from pathlib import Path

import pytest
from PIL import Image, ImageEnhance, ImageOps

from cloudrun.dataset.near_duplicates import TooSlow, duplicates, find_near_duplicates
from trainer.data.leaves import CLASSES, draw_leaf


def leaf(index: int) -> Image.Image:
    return draw_leaf(CLASSES[index % 4], size=160, seed=f"lookalikes/{index}")


@pytest.fixture(scope="module")
def album(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Forty leaves that have nothing to do with each other."""
    folder = tmp_path_factory.mktemp("album")
    files = [folder / f"{index:02}.jpg" for index in range(40)]
    for index, path in enumerate(files):
        leaf(index).save(path, quality=90)
    return files


def cropped(image: Image.Image, part: float) -> Image.Image:
    width, height = image.size
    return image.crop((0, round(height * (1 - part)), round(width * part), height))


def saved_anew(image: Image.Image) -> Image.Image:
    held = io.BytesIO()
    image.save(held, "JPEG", quality=25)
    return Image.open(held)


def test_the_same_bytes_under_two_names_are_duplicates(tmp_path: Path) -> None:
    for name, content in (("a", b"leaf"), ("b", b"tree"), ("c", b"leaf"), ("d", b"other leaf"), ("e", b"leaf")):
        (tmp_path / name).write_bytes(content)
    assert duplicates(sorted(tmp_path.iterdir())) == [(0, 2, 4)]


def test_images_that_have_nothing_to_do_with_each_other_are_not_reported(album: list[Path]) -> None:
    found = find_near_duplicates(album)
    assert (found.copies, found.scenes) == ((), ())


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda image: image.rotate(90), id="turned by a quarter"),
        pytest.param(lambda image: image.rotate(17, Image.Resampling.BILINEAR), id="turned by 17 degrees"),
        pytest.param(ImageOps.mirror, id="mirrored"),
        pytest.param(lambda image: ImageOps.mirror(image).rotate(100), id="mirrored and turned"),
        pytest.param(lambda image: cropped(image, 0.88), id="cropped"),
        pytest.param(lambda image: image.resize((110, 100)), id="made smaller and wider"),
        pytest.param(lambda image: ImageEnhance.Brightness(image).enhance(0.6), id="darker"),
        pytest.param(lambda image: ImageEnhance.Contrast(image).enhance(1.4), id="more contrast"),
        pytest.param(lambda image: image.convert("L"), id="grey"),
        pytest.param(saved_anew, id="saved anew with few bytes"),
    ],
)
def test_a_copy_is_found_whatever_was_done_to_it(
    album: list[Path], tmp_path: Path, change: Callable[[Image.Image], Image.Image]
) -> None:
    copy = tmp_path / "copy.png"
    change(leaf(7)).save(copy)
    assert find_near_duplicates([*album, copy]).copies == ((7, 40),)


def test_copies_of_one_photograph_are_one_group(album: list[Path], tmp_path: Path) -> None:
    for angle in (90, 180, 270):
        leaf(3).rotate(angle).save(tmp_path / f"{angle}.jpg")
    assert find_near_duplicates([*album, *sorted(tmp_path.iterdir())]).copies == ((3, 40, 41, 42),)


def test_images_without_details_and_files_that_are_none_are_like_nothing(tmp_path: Path) -> None:
    for name in ("a", "b"):
        Image.new("RGB", (40, 30), "green").save(tmp_path / f"{name}.png")
    (tmp_path / "c.png").write_bytes(b"no image")
    found = find_near_duplicates(sorted(tmp_path.iterdir()))
    assert (found.copies, found.scenes, found.plain) == ((), (), 3)


def test_a_long_search_is_announced_and_given_up_where_nobody_wants_it(tmp_path: Path) -> None:
    Image.new("L", (32, 32), 90).save(tmp_path / "plain.png")
    files = [tmp_path / "plain.png"] * 520
    told: list[float] = []
    assert find_near_duplicates(files, lambda seconds: not told.append(seconds)).plain == 520
    assert len(told) == 1
    with pytest.raises(TooSlow):
        find_near_duplicates(files, lambda _: False)


def test_no_images_have_no_near_duplicates() -> None:
    assert find_near_duplicates([]).copies == ()


def test_the_augmented_copies_of_real_leaves_are_found_and_no_other(shared: Path) -> None:
    """PlantVillage: each healthy potato leaf four times, turned, moved, zoomed and mirrored; the names tell which."""
    folder = shared / "data" / "plantvillage-potato" / "test"
    files = sorted([*folder.glob("healthy/*"), *list(folder.glob("*_blight/*"))])
    found = {pair for group in find_near_duplicates(files).copies for pair in combinations(group, 2)}
    original = [path.name.split("-_0_")[0] for path in files]
    true = {pair for pair in combinations(range(len(files)), 2) if original[pair[0]] == original[pair[1]]}
    assert len(true) == 25 * 6
    assert found == true
