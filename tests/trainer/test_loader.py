"""Transforms and batches: what the model sees is decided by the seed, the epoch and the sample alone."""

from pathlib import Path

import pytest
import torch
from PIL import Image
from torchvision.transforms import v2

from trainer.augment import evaluation_transform, normalise, training_transform, transform_seeded
from trainer.config import TrainConfig
from trainer.folders import FolderProblem, LabelledFile, list_dataset
from trainer.leaves import draw_leaf
from trainer.loader import Batch, Loader, check_headers, even_sizes, read_image

LEAF = draw_leaf("scab", size=96, seed="0").resize((120, 96))


def batches(files: list[LabelledFile], *, workers: int = 0, epoch: int = 1, start: int = 0) -> list[Batch]:
    transform = training_transform(TrainConfig(image_size=32))
    return list(Loader(files, transform, batch_size=8, seed=3, workers=workers).epoch(epoch, start=start))


def are_equal(some: list[Batch], others: list[Batch]) -> bool:
    return len(some) == len(others) and all(
        torch.equal(one.images, other.images) and torch.equal(one.labels, other.labels)
        for one, other in zip(some, others, strict=True)
    )


@pytest.fixture
def files(leaves: Path) -> list[LabelledFile]:
    return list(list_dataset(leaves).splits["train"])


def test_training_images_are_the_recipes_transforms() -> None:
    config = TrainConfig()
    steps = training_transform(config).transforms
    assert [type(step).__name__ for step in steps] == [
        "RandomResizedCrop", "RandomHorizontalFlip", "RandomRotation", "ColorJitter", "PILToTensor",
    ]  # fmt: skip
    assert (steps[0].size, steps[2].degrees) == ((224, 224), [-30.0, 30.0])
    assert (steps[3].brightness, steps[3].contrast, steps[3].saturation) == ((0.8, 1.2),) * 3


def test_evaluation_takes_the_middle_after_resizing_to_256_224ths() -> None:
    resized = v2.functional.resize(LEAF, [256])
    expected = v2.functional.pil_to_tensor(v2.functional.center_crop(resized, [224, 224]))
    assert torch.equal(evaluation_transform(224)(LEAF), expected)


def test_normalising_is_that_of_torchvision() -> None:
    pixels = evaluation_transform(64)(LEAF)
    scaled = v2.functional.to_dtype(pixels, torch.float32, scale=True)
    expected = v2.functional.normalize(scaled, [0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
    torch.testing.assert_close(normalise(pixels), expected, atol=1e-5, rtol=1e-5)


def test_a_transform_is_a_function_of_its_seed_and_leaves_torchs_dice_alone() -> None:
    transform = training_transform(TrainConfig(image_size=32))
    torch.manual_seed(7)
    first = transform_seeded(transform, LEAF, 1)
    assert torch.equal(torch.rand(3), torch.rand(3, generator=torch.Generator().manual_seed(7)))
    assert torch.equal(first, transform_seeded(transform, LEAF, 1))
    assert not torch.equal(first, transform_seeded(transform, LEAF, 2))


def test_batches_do_not_depend_on_the_number_of_workers(files: list[LabelledFile]) -> None:
    assert are_equal(batches(files), batches(files, workers=2))


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


@pytest.mark.parametrize("workers", [0, 1])
def test_an_image_that_ends_too_early_is_named(leaves: Path, tmp_path: Path, workers: int) -> None:
    path = tmp_path / "cut.jpg"
    path.write_bytes(next(leaves.rglob("*.jpg")).read_bytes()[:700])
    with pytest.raises(FolderProblem, match=r"cut.jpg cannot be read as an image: .*truncated"):
        batches([(path, 0), (path, 0)], workers=workers)


def test_a_file_that_is_no_image_is_found_before_training(tmp_path: Path) -> None:
    (tmp_path / "page.jpg").write_text("<html>")
    with pytest.raises(FolderProblem, match=r"page.jpg cannot be read as an image: it is no image"):
        check_headers([(tmp_path / "page.jpg", 0)])


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "CMYK"])
def test_images_of_any_mode_become_rgb(tmp_path: Path, mode: str) -> None:
    path = tmp_path / ("image.jpg" if mode == "CMYK" else "image.png")
    LEAF.convert(mode).save(path)
    assert read_image(path).mode == "RGB"


def test_a_photograph_taken_sideways_is_turned_upright(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # Orientation: turn by 90 degrees
    LEAF.save(tmp_path / "sideways.jpg", exif=exif)
    assert read_image(tmp_path / "sideways.jpg").size == (96, 120)
