"""Count classes and images by the names of files: what the trainer will find, before a byte is fetched. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import PurePosixPath

from cloudrun.imagedata.folders import IMAGE_SUFFIXES, SPLITS
from cloudrun.sources import SourceProblem


@dataclass(frozen=True, slots=True)
class Layout:
    """What `dataset.survey.Survey` is for a folder, for files that are elsewhere."""

    counts: dict[str, dict[str, int]]  # split -> class -> images
    unlabelled_test: int
    size_bytes: int


def layout_of(files: Iterable[tuple[str, int]], shown: str) -> Layout:
    """Return the layout of `files`: (path, size in bytes) of each. `shown` is the source's name in errors.

    Raises SourceProblem where there are fewer than two classes, or a split has a class that train does not have.
    """
    images = [(PurePosixPath(name).parts, size) for name, size in files if _is_image(PurePosixPath(name))]
    paths = _below_top([parts for parts, _ in images])
    has_splits = any(parts[0] == "train" for parts in paths if len(parts) > 1)
    counts: dict[str, dict[str, int]] = {}
    unlabelled = 0
    for parts in paths:
        split, rest = (parts[0], parts[1:]) if has_splits else ("train", parts)
        if split not in SPLITS:
            continue
        if len(rest) > 1:
            of_split = counts.setdefault(split, {})
            of_split[rest[0]] = of_split.get(rest[0], 0) + 1
        elif split == "test":
            unlabelled += 1
    classes = counts.get("train", {})
    if len(classes) < 2:
        raise SourceProblem(
            f"{shown} has {len(images)} images in {len(classes)} class folder(s); it takes at least 2 to tell apart",
            hint="one sub-folder a class, or train/<class>, val/<class>, test/<class>",
        )
    strange = sorted({name for split in counts.values() for name in split} - set(classes))
    if strange:
        raise SourceProblem(
            f"{shown} has the class `{strange[0]}`, which train does not have (train: {', '.join(sorted(classes))})",
            hint="class folders have the same names in every split",
        )
    return Layout(counts, unlabelled, sum(size for _, size in images))


def _below_top(paths: list[tuple[str, ...]]) -> list[tuple[str, ...]]:
    """Return the paths below the folder that holds everything, as `archive.root_of` does on the disk."""
    while paths and len({parts[0] for parts in paths}) == 1 and paths[0][0] not in SPLITS:
        if any(len(parts) < 2 for parts in paths):
            break
        paths = [parts[1:] for parts in paths]
    return paths


def _is_image(path: PurePosixPath) -> bool:
    return path.suffix.lower() in IMAGE_SUFFIXES and not any(part.startswith((".", "__")) for part in path.parts)
