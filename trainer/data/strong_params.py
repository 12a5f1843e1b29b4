"""Draw strong augmentation from a seed: TrivialAugment or RandAugment, and random erasing. Imports no torch.

Operations are torchvision's, with its ranges. Those that move pixels become one matrix, and those that change
colours linearly the factors that every image has, so that they cost nothing; five others are left for the device.
"""

from __future__ import annotations

import math
import random
from typing import NamedTuple

from trainer.data.augment_params import AugmentParams, Ranges, draw_params

NOTHING, SHARPNESS, POSTERIZE, SOLARIZE, AUTOCONTRAST, EQUALIZE = range(6)
"""What the device does to the colours of an image: the number of an operation in a row of parameters."""

_OPERATIONS = (
    "identity", "shear_x", "shear_y", "translate_x", "translate_y", "rotate", "brightness", "saturation", "contrast",
    "sharpness", "posterize", "solarize", "autocontrast", "equalize",
)  # fmt: skip
_GRADES = 30  # magnitudes are grades from 0 to this one
# Largest values of TrivialAugment's wide space, and of RandAugment's. Translation in sides of the image: torchvision
# moves by 32 px whatever the size, which is meant for 224 px.
_WIDE = {"shear": 0.99, "translate": 32 / 224, "rotate": 135.0, "factor": 0.99, "bits": 6.0}
_RAND = {"shear": 0.3, "translate": 150 / 331, "rotate": 30.0, "factor": 0.9, "bits": 4.0}

_ERASED_AREA = (0.02, 1 / 3)
_ERASED_RATIO = (0.3, 1 / 0.3)
_TRIES = 10

Matrix = tuple[float, float, float, float, float, float]
_STILL: Matrix = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)


class StrongParams(NamedTuple):
    """What a row of parameters has after those of `AugmentParams`, and before (operation, value) of each step."""

    erase_left: float  # in fractions of the sides; right is 0 where nothing is erased
    erase_top: float
    erase_right: float
    erase_bottom: float
    red: float  # that fill the erased box, in standard deviations from the mean
    green: float
    blue: float
    xx: float  # an output pixel (u, v) is taken from x = xx u + xy v + x, y = yx u + yy v + y; edges are -1 and 1
    xy: float
    x: float
    yx: float
    yy: float
    y: float


def draw(ranges: Ranges, seed: int, *, width: int, height: int) -> tuple[float, ...]:
    """Return a row of parameters for one image, a pure function of the arguments: an `AugmentParams`.

    With strong augmentation a `StrongParams` and two numbers for each step follow. All rows of `ranges` have the same
    length, and the crop, flip, rotation and colours are drawn as without strong augmentation.
    """
    base = draw_params(ranges, seed, width=width, height=height)
    if not ranges.is_strong:
        return base
    matrix, steps = _STILL, []
    rng = random.Random(f"{seed} operations")
    for _ in range(ranges.operations):
        name = rng.choice(_OPERATIONS)
        grade = rng.randint(0, _GRADES) if ranges.augment == "trivial" else ranges.rand_magnitude
        sign = rng.choice((-1.0, 1.0))
        largest = _WIDE if ranges.augment == "trivial" else _RAND
        moved = _matrix(name, sign * grade / _GRADES, largest)
        factor = 1 + sign * largest["factor"] * grade / _GRADES
        step = (float(NOTHING), 0.0)
        if moved is not None:
            matrix = _after(matrix, moved)
        elif name in ("brightness", "contrast", "saturation"):
            base = base._replace(**{name: getattr(base, name) * factor})
        elif name != "identity":
            step = _step(name, grade, factor, bits=largest["bits"])
        steps.append(step)
    erased = _erased(random.Random(f"{seed} erasing"), ranges.random_erasing)
    return (*base, *StrongParams._make((*erased, *matrix)), *(number for step in steps for number in step))


def _matrix(name: str, share: float, largest: dict[str, float]) -> Matrix | None:
    """Return where pixels come from; None for an operation that moves none. `share`: of the largest value, signed."""
    if name == "shear_x":  # from the upper edge, as PIL and torchvision do
        return 1.0, share * largest["shear"], share * largest["shear"], 0.0, 1.0, 0.0
    if name == "shear_y":
        return 1.0, 0.0, 0.0, share * largest["shear"], 1.0, share * largest["shear"]
    if name == "translate_x":
        return 1.0, 0.0, -2 * share * largest["translate"], 0.0, 1.0, 0.0
    if name == "translate_y":
        return 1.0, 0.0, 0.0, 0.0, 1.0, -2 * share * largest["translate"]
    if name == "rotate":
        angle = math.radians(share * largest["rotate"])
        return math.cos(angle), -math.sin(angle), 0.0, math.sin(angle), math.cos(angle), 0.0
    return None


def _after(first: Matrix, then: Matrix) -> Matrix:
    """Return the matrix of two operations. A pixel of the output is followed back through `then`, then `first`."""
    xx, xy, x, yx, yy, y = first
    axx, axy, ax, ayx, ayy, ay = then
    return (
        xx * axx + xy * ayx,
        xx * axy + xy * ayy,
        xx * ax + xy * ay + x,
        yx * axx + yy * ayx,
        yx * axy + yy * ayy,
        yx * ax + yy * ay + y,
    )


def _step(name: str, grade: int, factor: float, *, bits: float) -> tuple[float, float]:
    """Return the operation's number and its value: sharpness a factor, posterize bits, solarize a threshold of 255."""
    if name == "sharpness":
        return float(SHARPNESS), factor
    if name == "posterize":
        return float(POSTERIZE), 8.0 - round(grade * bits / _GRADES)
    if name == "solarize":
        return float(SOLARIZE), 255.0 * (1 - grade / _GRADES)
    return float(AUTOCONTRAST if name == "autocontrast" else EQUALIZE), 0.0


def _erased(rng: random.Random, probability: float) -> tuple[float, ...]:
    """Return left, top, right and bottom of the erased box, and its colour.

    Source: Zhong et al. 2017, arXiv:1708.04896, with timm's ranges and its mode `rand`: one random colour a box.
    """
    if rng.random() >= probability:
        return (0.0,) * 7
    colour = [rng.gauss(0.0, 1.0) for _ in range(3)]
    for _ in range(_TRIES):
        area = rng.uniform(*_ERASED_AREA)
        ratio = math.exp(rng.uniform(math.log(_ERASED_RATIO[0]), math.log(_ERASED_RATIO[1])))
        width, height = math.sqrt(area / ratio), math.sqrt(area * ratio)
        if width < 1 and height < 1:
            left, top = rng.uniform(0, 1 - width), rng.uniform(0, 1 - height)
            return left, top, left + width, top + height, *colour
    return (0.0,) * 7


FIRST_STEP = len(AugmentParams._fields) + len(StrongParams._fields)
"""The place in a row of the first step's number."""
