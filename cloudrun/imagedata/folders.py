"""Find the classes and labelled files of each split in a folder of images. Imports no torch."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cloudrun.imagedata.label_columns import Columns
from cloudrun.imagedata.layout import UNLABELLED as UNLABELLED
from cloudrun.imagedata.layout import ClassFolders, lay_out
from cloudrun.imagedata.unused import Unused, left_out_text
from cloudrun.imagedata.vocabulary import SPLITS as SPLITS
from cloudrun.imagedata.walk import FolderProblem as FolderProblem
from cloudrun.imagedata.walk import walk

LabelledFile = tuple[Path, int]
"""An image and its label: the index of its class in `Dataset.classes`, or of its set of classes in
`Dataset.label_sets` where images have several; UNLABELLED where it is unknown."""


@dataclass(frozen=True)
class Dataset:
    """Images of `folder` by split, sorted by path; a split that does not exist is not in `splits`.

    `label_sets`: where an image may have several classes, or none, the sets that occur, as indices of
    classes. `left_out`: images that are in no split. `groups`: the group of images that belong together, by path.
    `unused`: all files that are left out, by reason. `warnings`: what was guessed, and what looks odd. `columns`: of
    the label file, where there is one.
    """

    folder: Path
    classes: tuple[str, ...]
    splits: dict[str, tuple[LabelledFile, ...]]
    label_sets: tuple[tuple[int, ...], ...] | None = None
    left_out: tuple[Path, ...] = ()
    groups: Mapping[Path, str] = field(default_factory=dict)
    unused: tuple[Unused, ...] = field(default=(), compare=False)
    warnings: tuple[str, ...] = field(default=(), compare=False)
    columns: Columns | None = field(default=None, compare=False)

    @property
    def test_is_labelled(self) -> bool:
        return any(label != UNLABELLED for _, label in self.splits.get("test", ()))

    def classes_of(self, label: int) -> tuple[int, ...]:
        """Return the indices of the classes that `label` stands for."""
        if label == UNLABELLED:
            return ()
        return (label,) if self.label_sets is None else self.label_sets[label]

    def count_classes(self, files: Sequence[LabelledFile]) -> list[int]:
        """Count the images of each class among `files`; an image counts for each of its classes."""
        counts = [0] * len(self.classes)
        for _, label in files:
            for index in self.classes_of(label):
                counts[index] += 1
        return counts


def list_dataset(folder: Path, *, classes: ClassFolders = "auto") -> Dataset:
    """Read the images under `folder`: a sub-folder a class, or train, val and test folders of such.

    Splits go by any of their usual names. `test` may hold images without class folders: they are predicted, not
    scored. `classes`: which folders are the classes, where that could be several. Raises FolderProblem naming the
    place.
    """
    if not folder.is_dir():
        raise FolderProblem(f"there is no data folder {folder}", hint="`--data` takes a folder of images")
    found = walk(folder)
    if not found.images:
        raise FolderProblem(
            f"there is no image in {folder}{left_out_text(found.tally)}",
            hint="a sub-folder a class with its images, or images and a CSV file with their labels: `labels: FILE`",
        )
    skip = len(folder.parts)
    layout = lay_out(
        [path.parts[skip:] for path in found.images],
        shown=str(folder),
        tally=found.tally,
        empty=found.empty,
        classes=classes,
    )
    splits = {
        split: tuple((found.images[index], label) for index, label in files) for split, files in layout.splits.items()
    }
    return Dataset(folder, layout.classes, splits, unused=found.tally.result(), warnings=layout.warnings)


def hold_out(files: Sequence[LabelledFile], *, fraction: float, seed: int) -> tuple[list[int], list[int]]:
    """Return the indices into `files` that train, and those held out: `fraction` of each class, at least one image.

    A file's draw depends on its class folder, its name and `seed` alone, so neither the order of
    `files` nor where the folder lies matters. A class of a single image trains, and nothing validates it. Raises
    FolderProblem where that leaves no image to validate.
    """
    by_class: dict[int, list[int]] = {}
    for index, (_, label) in enumerate(files):
        by_class.setdefault(label, []).append(index)
    held: set[int] = set()
    for indices in by_class.values():
        count = min(len(indices) - 1, max(1, round(len(indices) * fraction)))
        held.update(sorted(indices, key=lambda index: _draw(files[index][0], seed))[:count])
    if not held:
        raise FolderProblem(
            f"each of the {len(by_class)} classes has a single image, and there is no val folder: none can validate",
            hint="add images to the classes, or a val folder",
        )
    return [index for index in range(len(files)) if index not in held], sorted(held)


def _draw(path: Path, seed: int) -> bytes:
    return hashlib.sha256(f"{seed}/{path.parent.name}/{path.name}".encode()).digest()


def list_images(folder: Path) -> list[Path]:
    """Return the image files anywhere under `folder`, sorted by path."""
    return walk(folder).images
