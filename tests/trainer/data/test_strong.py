"""Strong augmentation on the device is torchvision's and PIL's, and costs an image nothing where it has none."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image, ImageEnhance, ImageOps
from timm.data.random_erasing import RandomErasing
from torch import Tensor
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional

from cloudrun.recipe.train_config import TrainConfig
from trainer.data.affine import augment
from trainer.data.augment import ranges_of
from trainer.data.augment_params import AugmentParams, Ranges, draw_params
from trainer.data.leaves import draw_leaf
from trainer.data.loader import Batch
from trainer.data.strong_params import (
    AUTOCONTRAST,
    EQUALIZE,
    FIRST_STEP,
    POSTERIZE,
    SHARPNESS,
    SOLARIZE,
    StrongParams,
    _after,
    _matrix,
    draw,
)
from trainer.session.step import prepare

SIZE = 48
LEAF = draw_leaf("scab", size=96, seed="3").resize((SIZE, SIZE))
WHOLE = AugmentParams(0, 0, 1, 1, 1, 0, 1, 1, 1)
STILL = StrongParams(*(0.0,) * 7, 1, 0, 0, 0, 1, 0)
RANGES = Ranges(crop_scale_min=0.08, rotation_degrees=30, color_jitter=0.2)
TRIVIAL = replace(RANGES, augment="trivial", random_erasing=0.25)
RAND = replace(RANGES, augment="rand", random_erasing=0.25)
COUNT = 2800
CPU = torch.device("cpu")


def pixels_of(image: Image.Image) -> Tensor:
    return functional.pil_to_tensor(image).unsqueeze(0)


def made(image: Image.Image, row: tuple[float, ...]) -> Tensor:
    """Return float (3, S, S), 0 to 255."""
    batch = Batch(pixels_of(image), torch.zeros(1, dtype=torch.int64), torch.tensor([row]))
    normal = prepare(batch, CPU, size=SIZE)[0]
    mean, std = (torch.tensor(v).view(3, 1, 1) * 255 for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    return normal * std + mean


def with_step(number: int, value: float) -> tuple[float, ...]:
    return (*WHOLE, *STILL, float(number), value)


@pytest.mark.parametrize("value", [0.01, 0.4, 1.0, 1.99])
def test_sharpness_is_pils(value: float) -> None:
    theirs = functional.pil_to_tensor(ImageEnhance.Sharpness(LEAF).enhance(value)).float()
    assert (made(LEAF, with_step(SHARPNESS, value)) - theirs).abs().max() <= 1.001


@pytest.mark.parametrize("bits", [2, 4, 5, 8])
def test_posterize_is_pils(bits: int) -> None:
    theirs = functional.pil_to_tensor(ImageOps.posterize(LEAF, bits)).float()
    torch.testing.assert_close(made(LEAF, with_step(POSTERIZE, bits)), theirs, atol=1e-2, rtol=0)


@pytest.mark.parametrize("threshold", [0, 100, 255])
def test_solarize_is_pils(threshold: int) -> None:
    theirs = functional.pil_to_tensor(ImageOps.solarize(LEAF, threshold)).float()
    if threshold == 255:  # torchvision turns pixels that equal the threshold, PIL at 255 turns white alone
        theirs = functional.solarize(pixels_of(LEAF), 255)[0].float()
    torch.testing.assert_close(made(LEAF, with_step(SOLARIZE, threshold)), theirs, atol=1e-2, rtol=0)


def test_autocontrast_is_pils() -> None:
    theirs = functional.pil_to_tensor(ImageOps.autocontrast(LEAF)).float()
    assert (made(LEAF, with_step(AUTOCONTRAST, 0)) - theirs).abs().max() <= 1.001


def test_equalize_is_pils() -> None:
    theirs = functional.pil_to_tensor(ImageOps.equalize(LEAF)).float()
    torch.testing.assert_close(made(LEAF, with_step(EQUALIZE, 0)), theirs, atol=1e-2, rtol=0)


@pytest.mark.parametrize("number", [SHARPNESS, POSTERIZE, SOLARIZE, AUTOCONTRAST, EQUALIZE])
@pytest.mark.parametrize("colour", [(0, 0, 0), (255, 255, 255), (7, 130, 9)])
def test_an_image_of_one_colour_stays_finite(number: int, colour: tuple[int, int, int]) -> None:
    flat = Image.new("RGB", (SIZE, SIZE), colour)
    assert bool(torch.isfinite(made(flat, with_step(number, 4.0))).all())


@pytest.mark.parametrize(
    ("name", "share", "theirs"),
    [
        ("shear_x", 0.6, {"shear": [0.6, 0.0]}),
        ("shear_x", -0.6, {"shear": [-0.6, 0.0]}),
        ("shear_y", 0.6, {"shear": [0.0, 0.6]}),
        ("translate_x", 0.5, {"translate": [12, 0]}),
        ("translate_y", -0.25, {"translate": [0, -6]}),
    ],
)
def test_what_moves_pixels_is_torchvisions(name: str, share: float, theirs: dict[str, list[float]]) -> None:
    largest = {"shear": 1.0, "translate": 0.5, "rotate": 90.0}
    matrix = _matrix(name, share, largest)
    assert matrix is not None
    shear = [float(np.degrees(np.arctan(one))) for one in theirs.get("shear", [0.0, 0.0])]
    expected = functional.affine(
        pixels_of(LEAF).float(), angle=0.0, translate=theirs.get("translate", [0, 0]), scale=1.0, shear=shear,
        interpolation=v2.InterpolationMode.BILINEAR, center=[0, 0] if "shear" in theirs else None,
    )[0]  # fmt: skip
    ours = made(LEAF, (*WHOLE, *STILL[:7], *matrix))
    assert (ours - expected).abs().mean() < 1.0
    assert (made(LEAF, WHOLE) - expected).abs().mean() > 5.0  # it would have been noticed


def test_a_rotation_after_a_rotation_is_one_of_both() -> None:
    matrix = _matrix("rotate", 0.5, {"rotate": 40.0})
    assert matrix is not None
    both = made(LEAF, (*WHOLE._replace(degrees=15), *STILL[:7], *matrix))
    torch.testing.assert_close(both, made(LEAF, WHOLE._replace(degrees=35)), atol=0.3, rtol=0)


def test_operations_that_move_pixels_follow_each_other_as_in_torchvision() -> None:
    largest = {"shear": 0.3, "translate": 0.25, "rotate": 30.0}
    first, then = _matrix("translate_x", 1.0, largest), _matrix("rotate", 1.0, largest)
    assert first is not None
    assert then is not None
    how = v2.InterpolationMode.BILINEAR
    moved = functional.affine(
        pixels_of(LEAF).float(), angle=0.0, translate=[12, 0], scale=1.0, shear=[0.0, 0.0], interpolation=how
    )
    expected = functional.rotate(moved, 30.0, interpolation=how)[0]
    ours = made(LEAF, (*WHOLE, *STILL[:7], *_after(first, then)))
    others = made(LEAF, (*WHOLE, *STILL[:7], *_after(then, first)))
    # Pixels that the first operation moves out of the image come back black in torchvision, and as they are here.
    seen = expected.sum(0) > 0
    assert (ours - expected).abs().mean(0)[seen].mean() < 2.0
    assert (others - expected).abs().mean(0)[seen].mean() > 6.0


def test_rows_of_no_operation_give_the_images_without_strong_augmentation() -> None:
    rows = torch.tensor([draw_params(RANGES, seed, width=200, height=150) for seed in range(6)])
    squares = pixels_of(LEAF).expand(6, -1, -1, -1)
    still = torch.tensor([STILL] * 6)
    assert torch.equal(augment(squares, torch.cat((rows, still), 1), size=SIZE), augment(squares, rows, size=SIZE))


def test_strong_draws_leave_the_others_as_they_were() -> None:
    for seed in range(200):
        plain = draw_params(RANGES, seed, width=200, height=150)
        assert draw(RANGES, seed, width=200, height=150) == plain
        for ranges in (TRIVIAL, RAND):
            row = draw(ranges, seed, width=200, height=150)
            assert row[:6] == plain[:6]
            assert len(row) == FIRST_STEP + 2 * ranges.operations


def named(row: tuple[float, ...], plain: AugmentParams) -> str:
    """Return the operation of a row of TrivialAugment, identity where none is seen."""
    base, strong = AugmentParams(*row[:9]), StrongParams(*row[9:FIRST_STEP])
    changed = [name for name in ("brightness", "contrast", "saturation") if getattr(base, name) != getattr(plain, name)]
    if changed:
        return changed[0]
    if row[FIRST_STEP]:
        return str(int(row[FIRST_STEP]))
    matrix = strong[7:]
    if matrix == (1, 0, 0, 0, 1, 0):
        return "identity"
    return "rotate" if strong.xy and strong.yx else "shear" if strong.xy or strong.yx else "translate"


def test_every_operation_comes_as_often_as_the_others() -> None:
    found: Counter[str] = Counter()
    for seed in range(COUNT):
        plain = draw_params(RANGES, seed, width=200, height=150)
        found[named(draw(TRIVIAL, seed, width=200, height=150), plain)] += 1
    each = COUNT / 14
    # Of the 31 strengths of each operation, 0 does nothing: 8 of 14 operations then look like identity.
    for name in ("rotate", "brightness", "contrast", "saturation", "1", "2", "3", "4", "5"):
        assert found[name] == pytest.approx(each, rel=0.25), name
    assert found["shear"] == pytest.approx(2 * each, rel=0.2)
    assert found["translate"] == pytest.approx(2 * each, rel=0.2)
    assert found["identity"] == pytest.approx(each * (1 + 8 / 31), rel=0.25)


@pytest.mark.parametrize(
    ("ranges", "space"),
    [
        (TRIVIAL, v2.TrivialAugmentWide._AUGMENTATION_SPACE),
        (replace(RAND, rand_operations=1, rand_magnitude=30), v2.RandAugment._AUGMENTATION_SPACE),
    ],
)
def test_the_strongest_of_each_operation_is_torchvisions(ranges: Ranges, space: dict[str, tuple]) -> None:  # type: ignore[type-arg]
    def largest(name: str) -> float:
        values = space[name][0](31, 224, 224)
        return float(values.flatten()[-1])

    rows = [draw(replace(ranges, color_jitter=0.0), seed, width=200, height=150) for seed in range(COUNT)]
    strong = [StrongParams(*row[9:FIRST_STEP]) for row in rows]
    sheared = [one for one in strong if (one.xy == 0) != (one.yx == 0)]
    moved = [one for one in strong if one.xx == 1 and not one.xy and not one.yx]
    turned = [one for one in strong if one.xy and one.yx]
    assert max(abs(one.xy) for one in sheared) == pytest.approx(largest("ShearX"))
    assert max(abs(one.yx) for one in sheared) == pytest.approx(largest("ShearY"))
    assert max(abs(one.x) for one in moved) * 224 / 2 == pytest.approx(largest("TranslateX"))
    assert max(abs(one.y) for one in moved) * 224 / 2 == pytest.approx(largest("TranslateY"))
    assert max(abs(np.degrees(np.arctan2(one.yx, one.xx))) for one in turned) == pytest.approx(largest("Rotate"))
    for column, name in ((6, "Brightness"), (7, "Contrast"), (8, "Color")):
        assert max(abs(row[column] - 1) for row in rows) == pytest.approx(largest(name))
    values = {number: [row[FIRST_STEP + 1] for row in rows if row[FIRST_STEP] == number] for number in range(6)}
    assert max(abs(value - 1) for value in values[SHARPNESS]) == pytest.approx(largest("Sharpness"))
    assert min(values[POSTERIZE]) == largest("Posterize")
    assert min(values[SOLARIZE]) == largest("Solarize")


def erased_boxes(probability: float) -> Tensor:
    rows = [draw(replace(RANGES, random_erasing=probability), seed, width=200, height=150) for seed in range(COUNT)]
    return torch.tensor([row[9:13] for row in rows])


def test_as_many_are_erased_as_were_asked_for() -> None:
    boxes = erased_boxes(0.25)
    assert float((boxes[:, 2] > boxes[:, 0]).double().mean()) == pytest.approx(0.25, abs=0.03)


def test_erased_boxes_have_timms_areas_and_places() -> None:
    random.seed(0)
    eraser = RandomErasing(probability=1.0, mode="const", device="cpu")
    theirs = []
    for _ in range(COUNT):
        is_erased = eraser(torch.ones(3, 64, 64))[0] == 0
        rows, columns = is_erased.any(1).nonzero().flatten(), is_erased.any(0).nonzero().flatten()
        theirs.append([float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1)])
    ours, other = erased_boxes(1.0), torch.tensor(theirs) / 64
    for values in (
        lambda box: (box[:, 2] - box[:, 0]) * (box[:, 3] - box[:, 1]),
        lambda box: box[:, 2] - box[:, 0],
        lambda box: box[:, 0],
        lambda box: box[:, 3],
    ):
        one, two = values(ours), values(other)
        assert float(one.mean()) == pytest.approx(float(two.mean()), abs=0.015)
        assert float(one.std()) == pytest.approx(float(two.std()), abs=0.015)


def test_an_erased_box_has_one_colour_and_the_rest_stays() -> None:
    row = (*WHOLE, 0.25, 0.5, 0.75, 1.0, 1.0, -1.0, 0.5, *STILL[7:])
    batch = Batch(pixels_of(LEAF), torch.zeros(1, dtype=torch.int64), torch.tensor([row]))
    found, whole = (
        prepare(batch, CPU, size=SIZE)[0],
        prepare(batch._replace(augment_params=torch.tensor([WHOLE])), CPU, size=SIZE)[0],
    )
    box = (slice(None), slice(24, 48), slice(12, 36))
    assert torch.equal(found[box], torch.tensor([1.0, -1.0, 0.5]).view(3, 1, 1).expand(3, 24, 24))
    whole[box] = found[box]
    assert torch.equal(found, whole)


@pytest.mark.parametrize("ranges", [TRIVIAL, replace(RAND, rand_operations=3)])
def test_an_image_does_not_depend_on_its_batch(ranges: Ranges) -> None:
    rows = torch.tensor([draw(ranges, seed, width=200, height=150) for seed in range(40)])
    squares = torch.cat([pixels_of(draw_leaf("rust", size=64, seed=str(seed)).resize((40, 40))) for seed in range(40)])
    labels = torch.zeros(40, dtype=torch.int64)
    whole = prepare(Batch(squares, labels, rows), CPU, size=32)
    for place in range(0, 40, 3):
        one = slice(place, place + 1)
        assert torch.equal(prepare(Batch(squares[one], labels[one], rows[one]), CPU, size=32)[0], whole[place])


def test_the_host_reads_nothing_from_the_device() -> None:
    """A tensor of the device `meta` has no values: to read any, or to index by a mask, is an error."""
    rows = torch.tensor([draw(RAND, seed, width=200, height=150) for seed in range(64)])
    assert set(rows[:, FIRST_STEP].tolist()) == {0.0, 1.0, 2.0, 3.0, 4.0, 5.0}
    images = torch.zeros(64, 3, 40, 40, dtype=torch.uint8)
    batch = Batch(images, torch.zeros(64, dtype=torch.int64), rows)
    assert prepare(batch, torch.device("meta"), size=32).shape == (64, 3, 32, 32)


def test_the_ranges_are_the_configs() -> None:
    config = TrainConfig(augment="rand", rand_operations=4, rand_magnitude=12, random_erasing=0.3)
    ranges = ranges_of(config)
    assert (ranges.augment, ranges.operations, ranges.rand_magnitude) == ("rand", 4, 12)
    assert (ranges.random_erasing, ranges.is_strong) == (0.3, True)
    assert not ranges_of(TrainConfig()).is_strong


def test_plain_epochs_have_milder_crops_and_no_strong_augmentation() -> None:
    plain = replace(RAND, random_erasing=0.25).plain()
    rows = torch.tensor([draw(plain, seed, width=200, height=150) for seed in range(500)])
    assert rows.shape[1] == len(AugmentParams._fields)
    assert float((rows[:, 2] * rows[:, 3]).min()) == pytest.approx(0.5, abs=0.02)
    assert replace(RANGES, crop_scale_min=0.8).plain().crop_scale_min == 0.8
