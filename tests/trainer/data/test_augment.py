"""Augmentation on the device draws and does what torchvision's transforms draw and do, one image at a time."""

import random
from dataclasses import replace

import pytest
import torch
from PIL import Image
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional

from cloudrun.recipe.train_config import TrainConfig
from trainer.data.affine import augment, images_of_a_chunk, recolour
from trainer.data.augment import Square, normalise, on_device, ranges_of
from trainer.data.augment_params import AugmentParams, Ranges, draw_params
from trainer.data.leaves import draw_leaf

RANGES = Ranges(crop_scale_min=0.08, rotation_degrees=30, color_jitter=0.2)
COUNT = 3000
LEAVES = [draw_leaf(kind, size=160, seed="1").resize((200, 150)) for kind in ("healthy", "multiple", "rust", "scab")]


def drawn(*, width: int, height: int, ranges: Ranges = RANGES) -> torch.Tensor:
    """`COUNT` draws, a row each."""
    return torch.tensor([draw_params(ranges, seed, width=width, height=height) for seed in range(COUNT)])


def largest_gap(some: torch.Tensor, others: torch.Tensor) -> float:
    """Between the two cumulative distributions: the statistic of Kolmogorov and Smirnov."""
    values = torch.cat((some, others)).sort().values
    parts = [torch.searchsorted(one.sort().values, values, right=True) / len(one) for one in (some, others)]
    return float((parts[0] - parts[1]).abs().max().item())


# By chance two samples of one distribution lie further apart than this once in a thousand times.
CRITICAL = 1.95 * (2 / COUNT) ** 0.5


def crops_of_torchvision(width: int, height: int) -> torch.Tensor:
    """Left, top, width and height of `COUNT` boxes, in fractions of the sides."""
    torch.manual_seed(0)
    transform, image = v2.RandomResizedCrop(8, scale=(0.08, 1.0)), torch.empty(3, height, width)
    boxes = [transform.make_params([image]) for _ in range(COUNT)]
    return torch.tensor(
        [[one["left"] / width, one["top"] / height, one["width"] / width, one["height"] / height] for one in boxes]
    )


@pytest.mark.parametrize(("width", "height"), [(500, 375), (375, 500), (400, 120)])
def test_crops_have_torchvisions_areas_shapes_and_places(width: int, height: int) -> None:
    ours, theirs = drawn(width=width, height=height)[:, :4], crops_of_torchvision(width, height)
    for column in range(4):
        assert largest_gap(ours[:, column], theirs[:, column]) < CRITICAL
    assert largest_gap(ours[:, 2] * ours[:, 3], theirs[:, 2] * theirs[:, 3]) < CRITICAL
    assert largest_gap(ours[:, 2] / ours[:, 3], theirs[:, 2] / theirs[:, 3]) < CRITICAL


def test_an_image_too_narrow_for_any_crop_gives_its_middle_as_in_torchvision() -> None:
    ranges = Ranges(crop_scale_min=1.0, rotation_degrees=0, color_jitter=0)
    theirs = v2.RandomResizedCrop(8, scale=(1.0, 1.0)).make_params([torch.empty(3, 20, 400)])
    box = draw_params(ranges, 0, width=400, height=20)
    assert [box.left * 400, box.top * 20, box.width * 400, box.height * 20] == pytest.approx(
        [theirs["left"], theirs["top"], theirs["width"], theirs["height"]]
    )


def test_half_are_mirrored_and_angles_and_factors_are_uniform() -> None:
    augment_params = drawn(width=500, height=375)
    assert float((augment_params[:, 4] == -1).double().mean()) == pytest.approx(0.5, abs=0.03)
    assert set(augment_params[:, 4].tolist()) == {-1.0, 1.0}
    even = torch.linspace(0, 1, COUNT)
    assert largest_gap(augment_params[:, 5], even * 60 - 30) < CRITICAL
    for column in (6, 7, 8):
        assert largest_gap(augment_params[:, column], even * 0.4 + 0.8) < CRITICAL


def test_what_is_drawn_for_one_thing_says_nothing_about_another() -> None:
    assert torch.corrcoef(drawn(width=500, height=375).T).fill_diagonal_(0)[4:].abs().max() < 0.06


def test_the_ranges_are_the_configs() -> None:
    config = TrainConfig(crop_scale_min=0.5, rotation_degrees=10, color_jitter=0.4)
    augment_params = drawn(width=100, height=100, ranges=ranges_of(config))
    assert float((augment_params[:, 2] * augment_params[:, 3]).min()) == pytest.approx(0.5, abs=0.02)
    assert float(augment_params[:, 5].abs().max()) == pytest.approx(10, abs=0.1)
    assert (float(augment_params[:, 6].min()), float(augment_params[:, 6].max())) == pytest.approx((0.6, 1.4), abs=0.01)


def by_torchvision(image: Image.Image, one: AugmentParams, size: int) -> torch.Tensor:
    """float32 (3, size, size), 0 to 255, before colours."""
    box = round(one.top * image.height), round(one.left * image.width)
    sides = round(one.height * image.height), round(one.width * image.width)
    crop = functional.resized_crop(image, *box, *sides, [size, size])
    crop = functional.horizontal_flip(crop) if one.flip < 0 else crop
    turned = functional.rotate(crop, one.degrees, interpolation=v2.InterpolationMode.BILINEAR)
    return functional.pil_to_tensor(turned).float()


def augmented(images: list[Image.Image], augment_params: list[AugmentParams], *, side: int, size: int) -> torch.Tensor:
    squares = torch.stack([Square(side)(image) for image in images])
    return augment(squares, torch.tensor(augment_params), size=size)


@pytest.mark.parametrize("flip", [-1.0, 1.0])
@pytest.mark.parametrize("degrees", [0.0, 25.0, -110.0])
def test_one_resample_gives_what_crop_flip_and_rotation_give(flip: float, degrees: float) -> None:
    one = AugmentParams(0.2, 0.1, 0.6, 0.5, flip, degrees, 1, 1, 1)
    theirs = by_torchvision(LEAVES[1], one, 64)
    ours = augmented([LEAVES[1]], [one], side=192, size=64)
    difference = (ours[0] - normalise(theirs)).abs().mean()
    assert difference < 0.04
    others = (one._replace(flip=-flip), one._replace(degrees=degrees + 8), one._replace(left=0.24))
    for other in others:  # it would have been noticed
        assert (augmented([LEAVES[1]], [other], side=192, size=64)[0] - normalise(theirs)).abs().mean() > 2 * difference


def test_corners_that_a_rotation_uncovers_are_black_as_in_torchvision() -> None:
    white = Image.new("RGB", (80, 60), "white")
    one = AugmentParams(0.2, 0.2, 0.5, 0.5, 1, 30, 1, 1, 1)
    is_black = augmented([white], [one], side=64, size=64)[0] < 0
    assert (is_black != (by_torchvision(white, one, 64) < 128)).double().mean() < 0.01
    assert 0.1 < is_black.double().mean() < 0.3


def test_the_colour_pass_is_brightness_contrast_and_saturation_one_after_another() -> None:
    pixels = torch.rand(1, 3, 40, 40, generator=torch.Generator().manual_seed(0)) * 0.3 + 0.35  # nothing to cut off
    expected = functional.adjust_brightness(pixels, 1.15)
    expected = functional.adjust_contrast(expected, 0.85)
    expected = functional.adjust_saturation(expected, 1.2)
    found = torch.empty_like(pixels)
    recolour(pixels * 255, torch.tensor([[1.15, 0.85, 1.2]]), out=found)
    torch.testing.assert_close(found, normalise(expected * 255), atol=2e-3, rtol=1e-3)


def test_colours_are_cut_off_at_black_and_white() -> None:
    pixels = torch.stack((torch.full((3, 8, 8), 250.0), torch.full((3, 8, 8), 4.0)))
    found = torch.empty_like(pixels)
    recolour(pixels, torch.tensor([[1.2, 1, 1], [1.2, 1, 1]]), out=found)
    torch.testing.assert_close(found[0], normalise(torch.full((3, 8, 8), 255.0)))
    torch.testing.assert_close(found[1], normalise(torch.full((3, 8, 8), 4.8)))


def test_pixels_have_torchvisions_mean_and_spread_on_the_same_images() -> None:
    torch.manual_seed(0)
    jitter = v2.ColorJitter(0.2, 0.2, 0.2)
    steps = [v2.RandomResizedCrop(48), v2.RandomHorizontalFlip()]
    steps += [v2.RandomRotation(30, interpolation=v2.InterpolationMode.BILINEAR), jitter, v2.PILToTensor()]
    reference = v2.Compose(steps)
    images = LEAVES * 60
    theirs = normalise(torch.stack([reference(image) for image in images]))
    augment_params = [draw_params(RANGES, seed, width=200, height=150) for seed in range(len(images))]
    ours = augmented(images, augment_params, side=55, size=48)
    for channel in range(3):
        one, other = ours[:, channel], theirs[:, channel]
        # Three standard errors of a difference of two means over images.
        error = 3 * (2 * other.mean((1, 2)).var() / len(images)) ** 0.5
        assert abs(one.mean() - other.mean()) < error
        assert float(one.std() / other.std()) == pytest.approx(1, abs=0.06)


def test_an_image_does_not_depend_on_its_batch() -> None:
    augment_params = [draw_params(RANGES, seed, width=200, height=150) for seed in range(7)]
    images = [LEAVES[random.Random(seed).randrange(4)] for seed in range(7)]
    whole = augmented(images, augment_params, side=40, size=32)
    for place, (image, one) in enumerate(zip(images, augment_params, strict=True)):
        assert torch.equal(whole[place], augmented([image], [one], side=40, size=32)[0])


def test_squares_much_larger_than_the_image_are_averaged_not_skipped() -> None:
    stripes = torch.zeros(1, 3, 64, 64, dtype=torch.uint8)
    stripes[..., ::2] = 255
    whole = torch.tensor([AugmentParams(0, 0, 1, 1, 1, 0, 1, 1, 1)])
    torch.testing.assert_close(augment(stripes, whole, size=32)[0], normalise(torch.full((3, 32, 32), 127.5)))


def test_what_validation_makes_first_can_be_trained_with() -> None:
    images = torch.randint(0, 256, (2, 3, 8, 8), dtype=torch.uint8)
    on_device.cache_clear()
    with torch.inference_mode():
        seen = normalise(images)
    assert torch.equal(normalise(images), seen)
    weight = torch.ones(3, 1, 1, requires_grad=True)
    (
        on_device((1.0, 2.0, 3.0), images.device).view(3, 1, 1) * weight
    ).sum().backward()  # an inference tensor would raise
    assert torch.equal(weight.grad.flatten(), torch.tensor([1.0, 2.0, 3.0]))


@pytest.mark.parametrize(("side", "images"), [(224, 167), (512, 32), (1024, 8), (8192, 1)])
def test_a_gpu_augments_as_many_images_at_once_as_take_a_quarter_of_a_gigabyte(side: int, images: int) -> None:
    assert images_of_a_chunk(side) == images


def test_dihedral_draws_change_the_flips_alone() -> None:
    mirror, dihedral, none = (
        drawn(width=500, height=375, ranges=replace(RANGES, flips=flips)) for flips in ("mirror", "dihedral", "none")
    )
    others = [0, 1, 2, 3, 6, 7, 8]
    assert torch.equal(dihedral[:, others], mirror[:, others])
    assert torch.equal(none[:, [*others, 5]], mirror[:, [*others, 5]])
    assert torch.equal(dihedral[:, 4], mirror[:, 4])
    assert set(none[:, 4].tolist()) == {1.0}
    turns = (dihedral[:, 5] - mirror[:, 5]) / 90
    torch.testing.assert_close(turns, turns.round())
    ways = 4 * (mirror[:, 4] < 0) + turns.round()
    assert ways.long().bincount(minlength=8).tolist() == pytest.approx([COUNT / 8] * 8, rel=0.2)


@pytest.mark.parametrize("turns", [0, 1, 2, 3])
@pytest.mark.parametrize("flip", [-1.0, 1.0])
def test_a_quarter_turn_moves_every_pixel_to_its_place(turns: int, flip: float) -> None:
    pixels = torch.randint(0, 256, (1, 3, 24, 24), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    mirrored = functional.horizontal_flip(pixels) if flip < 0 else pixels
    expected = torch.rot90(mirrored, turns, (2, 3))
    whole = torch.tensor([AugmentParams(0, 0, 1, 1, flip, 90.0 * turns, 1, 1, 1)])
    torch.testing.assert_close(augment(pixels, whole, size=24), normalise(expected), atol=1e-4, rtol=1e-4)


def test_two_quarter_turns_of_a_mirror_image_are_a_vertical_flip() -> None:
    pixels = Square(24)(LEAVES[1]).unsqueeze(0)
    one = torch.tensor([AugmentParams(0, 0, 1, 1, -1, 180, 1, 1, 1)])
    expected = normalise(functional.vertical_flip(pixels))
    torch.testing.assert_close(augment(pixels, one, size=24), expected, atol=1e-4, rtol=1e-4)
