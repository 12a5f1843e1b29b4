"""Draw leaves in four classes, for demos and tests without a download.

Nothing here is a photograph. Accuracy on these images shows that training works, and says nothing about real plants.
"""

from __future__ import annotations

import math
import os
import random
import shutil
from pathlib import Path

from PIL import Image, ImageChops, ImageDraw, ImageEnhance, ImageFilter

from trainer.errors import TrainerError

CLASSES = ("healthy", "multiple", "rust", "scab")
_OVERSAMPLE = 2  # drawn at twice the size, for smooth edges

Color = tuple[int, int, int]


def write_leaves(  # noqa: PLR0913 - counts of images, each with a default
    folder: Path, *, train: int = 400, val: int = 80, test: int = 80, size: int = 96, seed: int = 0
) -> None:
    """Fill `folder` with {train,val,test}/<class>/*.jpg: the given number of images a split, `size` pixels square.

    `healthy`, `rust` (small orange pustules), `scab` (large dark blotches) and `multiple` (both). The same arguments
    give the same images. The images are written beside `folder`, which is then renamed: it is complete or absent. A
    folder that these arguments already filled is left unchanged. Raises TrainerError where `folder` holds something
    else.
    """
    recipe = f"synthetic leaves: train={train} val={val} test={test} size={size} seed={seed}\n"
    marker = folder / ".leaves"
    if marker.is_file() and marker.read_text(encoding="utf-8") == recipe:
        return
    if folder.is_dir() and any(folder.iterdir()):
        raise TrainerError(
            f"{folder} holds something else than these leaves", hint="name another folder, or remove this one"
        )
    folder.parent.mkdir(parents=True, exist_ok=True)
    unfinished = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
    try:
        for split, count in (("train", train), ("val", val), ("test", test)):
            for index in range(count):
                label = CLASSES[index % len(CLASSES)]
                path = unfinished / split / label / f"{label}-{index // len(CLASSES):04d}.jpg"
                path.parent.mkdir(parents=True, exist_ok=True)
                draw_leaf(label, size=size, seed=f"{seed}/{split}/{index}").save(path, quality=90)
        (unfinished / marker.name).write_text(recipe, encoding="utf-8")
        if folder.is_dir():
            folder.rmdir()
        unfinished.rename(folder)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def draw_leaf(label: str, *, size: int, seed: str) -> Image.Image:
    """Draw one RGB leaf, `size` pixels square: shape, pose, colours, background and light come from `seed`."""
    dice = random.Random(f"{seed}/{label}")
    side = size * _OVERSAMPLE
    green = (dice.randint(50, 120), dice.randint(110, 175), dice.randint(30, 85))
    blade = Image.new("RGB", (side, side), green)
    outline = _outline(dice, side)
    _draw_veins(ImageDraw.Draw(blade), dice, side, green)
    if label in ("scab", "multiple"):
        _draw_scab(blade, dice, side)
    if label in ("rust", "multiple"):
        _draw_rust(ImageDraw.Draw(blade), dice, side)
    mask = Image.new("L", (side, side), 0)
    ImageDraw.Draw(mask).polygon(outline, fill=255)
    angle, shift = dice.uniform(0, 360), [dice.randint(-side // 12, side // 12) for _ in range(2)]
    blade, mask = (ImageChops.offset(layer.rotate(angle, Image.Resampling.BILINEAR), *shift) for layer in (blade, mask))
    image = _background(dice, side)
    image.paste(blade, mask=mask)
    image = image.resize((size, size), Image.Resampling.BOX)
    return _lit(image, dice)


def _outline(dice: random.Random, side: int) -> list[tuple[float, float]]:
    """Return a pointed oval along the vertical, with teeth; it reaches to 0.42 of the side."""
    length, width = side * dice.uniform(0.36, 0.42), side * dice.uniform(0.2, 0.33)
    teeth, depth, bulge = dice.randint(8, 22), dice.uniform(0.0, 0.05), dice.uniform(0.8, 1.3)
    points = []
    for step in range(180):
        turn = step / 180 * 2 * math.pi
        reach = 1 + depth * math.sin(teeth * turn)
        across = math.copysign(abs(math.sin(turn)) ** bulge, math.sin(turn))
        points.append((side / 2 + width * across * reach, side / 2 + length * math.cos(turn) * reach))
    return points


def _draw_veins(draw: ImageDraw.ImageDraw, dice: random.Random, side: int, green: Color) -> None:
    pale = tuple(min(255, channel + dice.randint(20, 45)) for channel in green)
    middle, width = side // 2, max(1, side // 90)
    draw.line([(middle, side * 0.08), (middle, side * 0.92)], fill=pale, width=width * 2)
    slope, count = dice.uniform(0.3, 0.9), dice.randint(5, 9)
    for index in range(count):
        y = side * (0.15 + 0.7 * index / count)
        for direction in (-1, 1):
            draw.line(
                [(middle, y), (middle + direction * side * 0.35, y + side * 0.35 * slope)], fill=pale, width=width
            )


def _draw_rust(draw: ImageDraw.ImageDraw, dice: random.Random, side: int) -> None:
    """Draw many small round pustules, yellow to orange, each with a darker centre."""
    for _ in range(dice.randint(10, 26)):
        x, y = (side / 2 + dice.gauss(0, 0.13) * side for _ in range(2))
        radius = side * dice.uniform(0.014, 0.032)
        halo = (dice.randint(205, 250), dice.randint(140, 180), dice.randint(20, 60))
        heart = (dice.randint(170, 215), dice.randint(70, 100), dice.randint(5, 35))
        for color, reach in ((halo, radius), (heart, radius * 0.55)):
            draw.ellipse([x - reach, y - reach, x + reach, y + reach], fill=color)


def _draw_scab(blade: Image.Image, dice: random.Random, side: int) -> None:
    """Draw a few large blotches, olive to black, with soft ragged edges."""
    spots = Image.new("L", (side, side), 0)
    draw = ImageDraw.Draw(spots)
    for _ in range(dice.randint(2, 5)):
        x, y = (side / 2 + dice.gauss(0, 0.12) * side for _ in range(2))
        for _ in range(dice.randint(4, 8)):
            dx, dy = (dice.gauss(0, 0.03) * side for _ in range(2))
            radius = side * dice.uniform(0.025, 0.055)
            draw.ellipse(
                [x + dx - radius, y + dy - radius, x + dx + radius, y + dy + radius], fill=dice.randint(170, 240)
            )
    spots = spots.filter(ImageFilter.GaussianBlur(side / 120))
    dark = (dice.randint(35, 70), dice.randint(38, 62), dice.randint(18, 40))
    blade.paste(Image.new("RGB", blade.size, dark), mask=spots)


def _background(dice: random.Random, side: int) -> Image.Image:
    """Return soil, sky, straw or a bench: a gradient between two colours, with blurred clutter."""
    tones = dice.choice((((95, 70, 50), (60, 45, 35)), ((190, 205, 220), (150, 175, 200)),
                         ((200, 190, 150), (160, 145, 110)), ((150, 150, 150), (95, 95, 100)),
                         ((70, 95, 60), (40, 60, 40))))  # fmt: skip
    ramp = Image.linear_gradient("L").rotate(dice.choice((0, 90, 180, 270))).resize((side, side))
    image = Image.composite(Image.new("RGB", (side, side), tones[0]), Image.new("RGB", (side, side), tones[1]), ramp)
    draw = ImageDraw.Draw(image)
    for _ in range(dice.randint(4, 14)):
        x, y, reach = dice.uniform(0, side), dice.uniform(0, side), side * dice.uniform(0.03, 0.14)
        color = tuple(max(0, min(255, channel + dice.randint(-40, 40))) for channel in dice.choice(tones))
        draw.ellipse([x - reach, y - reach, x + reach, y + reach], fill=color)
    return image.filter(ImageFilter.GaussianBlur(side / 60))


def _lit(image: Image.Image, dice: random.Random) -> Image.Image:
    for enhance in (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color):
        image = enhance(image).enhance(dice.uniform(0.75, 1.25))
    return image.filter(ImageFilter.GaussianBlur(dice.uniform(0, 0.6)))
