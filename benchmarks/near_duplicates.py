"""Count the copies of real photographs that `cloudrun check` finds, and what else it takes for a copy; time it.

python -m benchmarks.near_duplicates        needs the real photographs: see CONTRIBUTING.md
"""

from __future__ import annotations

import os
import random
import resource
import tempfile
import time
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path

from PIL import Image, ImageEnhance, ImageOps

from benchmarks.machine import heading
from cloudrun.dataset.near_duplicates import NearDuplicates, find_near_duplicates
from cloudrun.dataset.near_duplicates.search import connected
from cloudrun.imagedata.folders import list_images

CHECKOUT = Path(__file__).parents[1]
DATA = Path(os.environ.get("CLOUDRUN_SHARED", CHECKOUT.parent / "shared")) / "data"
PLANTED, TILES = 200, 20_000

Pairs = set[tuple[int, int]]


def timed(files: list[Path]) -> tuple[NearDuplicates, float]:
    began = time.perf_counter()
    return find_near_duplicates(files), time.perf_counter() - began


def pairs_of(found: NearDuplicates) -> Pairs:
    """Return all pairs within the groups of copies that were found."""
    return {pair for group in found.copies for pair in combinations(group, 2)}


def by_name(files: list[Path]) -> Pairs:
    """Return the pairs of copies among PlantVillage's augmented leaves, which their names tell.

    `Potato_healthy-26-_0_4635.jpg` is a copy of number 26.
    """
    members: dict[str, list[int]] = {}
    for index, path in enumerate(files):
        if "-_0_" in path.name:
            members.setdefault(path.name.split("-_0_")[0], []).append(index)
    return {pair for group in members.values() for pair in combinations(group, 2)}


def augmented(image: Image.Image, dice: random.Random) -> Image.Image:
    """Return a copy: turned by any angle, perhaps mirrored, zoomed by up to 15 %, lighter or darker by up to 30 %."""
    side = round(min(image.size) * dice.uniform(0.87, 1.0))
    changed = ImageOps.mirror(image) if dice.random() < 0.5 else image
    left, top = (round(dice.uniform(0, length - side)) for length in changed.size)
    changed = changed.crop((left, top, left + side, top + side))
    changed = changed.rotate(dice.uniform(0, 360), Image.Resampling.BILINEAR, fillcolor=(128, 128, 128))
    return ImageEnhance.Brightness(changed).enhance(dice.uniform(0.7, 1.3))


def plant(files: list[Path], folder: Path) -> tuple[list[Path], Pairs]:
    """Return `files` with augmented copies of some of them, and the pairs (original, copy) that were planted."""
    dice = random.Random(0)
    planted, more = set(), []
    for number, index in enumerate(sorted(dice.sample(range(len(files)), PLANTED))):
        copy = folder / f"{number:04}.jpg"
        augmented(Image.open(files[index]).convert("RGB"), dice).save(copy, quality=85)
        planted.add((index, len(files) + number))
        more.append(copy)
    return [*files, *more], planted


def tiles(folder: Path) -> Iterator[Path]:
    """Yield quarters and twelfths of all photographs, each 224 px: as many different images as are wanted."""
    for name, (columns, rows) in {"plantvillage-potato": (2, 2), "photos": (4, 3), "plant-seedlings": (2, 2)}.items():
        for path in list_images(DATA / name):
            image = Image.open(path).convert("RGB")
            width, height = image.width // columns, image.height // rows
            for place in range(columns * rows):
                left, top = place % columns * width, place // columns * height
                tile = folder / f"{name}-{path.stem}-{place}.jpg"
                image.crop((left, top, left + width, top + height)).resize((224, 224)).save(tile, quality=90)
                yield tile


def main() -> None:
    print(heading())
    print("| images | known copies | found | called copies besides | other photographs of one thing | s | images/s |")
    print("| --- | --- | --- | --- | --- | --- | --- |")

    def row(name: str, files: list[Path], known: Pairs | None) -> None:
        found, seconds = timed(files)
        pairs = pairs_of(found)
        hits = "" if known is None else f"{len(known & pairs)}"
        besides = len(pairs - (known or set()))
        print(
            f"| {name}: {len(files)} | {'' if known is None else len(known)} | {hits} | {besides} |"
            f" {len(found.scenes)} | {seconds:.1f} | {len(files) / seconds:.0f} |",
            flush=True,
        )

    for name in ("plantvillage-potato", "plant-seedlings", "photos"):
        files = list_images(DATA / name)
        row(name, files, by_name(files) or None)
        with tempfile.TemporaryDirectory() as folder:
            more, planted = plant(files, Path(folder))
            groups = connected([*by_name(files), *planted])
            row(f"{name}, {PLANTED} copies planted", more, {pair for one in groups for pair in combinations(one, 2)})
    with tempfile.TemporaryDirectory() as folder:
        some = [tile for tile, _ in zip(tiles(Path(folder)), range(TILES), strict=False)]
        row("tiles of all of them", some, None)
    print(f"peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6:.2f} GB")


if __name__ == "__main__":
    main()
