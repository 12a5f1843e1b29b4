"""Find the classes and labelled files of each split in a folder of images. Imports no torch."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cloudrun.errors import CloudrunError

SPLITS = ("train", "val", "test")
IMAGE_SUFFIXES = frozenset((".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm"))
UNLABELLED = -1

LabelledFile = tuple[Path, int]
"""An image and its label: the index of its class in `Dataset.classes`, or of its set of classes in
`Dataset.label_sets` where images have several; UNLABELLED where it is unknown."""


class FolderProblem(CloudrunError):
    """The data folder does not have one of the layouts that can be trained on."""


@dataclass(frozen=True)
class Dataset:
    """Images of `folder` by split, sorted by path; a split that does not exist is not in `splits`.

    `label_sets`: where an image may have several classes, or none, the sets that occur, as indices of classes.
    `left_out`: images that are in no split. `groups`: the group of each image that belongs to one, by path.
    """

    folder: Path
    classes: tuple[str, ...]
    splits: dict[str, tuple[LabelledFile, ...]]
    label_sets: tuple[tuple[int, ...], ...] | None = None
    left_out: tuple[Path, ...] = ()
    groups: Mapping[Path, str] = field(default_factory=dict)

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


def list_dataset(folder: Path) -> Dataset:
    """Return the images under `folder`: a sub-folder for each class, or train, val and test folders of such.

    `test` may hold images without class folders: they are predicted, not scored. Hidden files and files that are not
    images are ignored. Raises FolderProblem naming the place.
    """
    if not folder.is_dir():
        raise FolderProblem(f"there is no data folder {folder}", hint="`--data` takes a folder of images")
    has_splits = (folder / "train").is_dir()
    train_folder = folder / "train" if has_splits else folder
    classes = tuple(path.name for path in _subfolders(train_folder))
    if len(classes) < 2:
        raise FolderProblem(
            f"{train_folder} has {len(classes)} class folder(s); at least 2 are needed",
            hint="put the images into one sub-folder a class, or into train/<class>, val/<class>, test/<class>",
        )
    splits = {"train": _labelled(train_folder, classes)}
    for split in SPLITS[1:]:
        if has_splits and (folder / split).is_dir():
            splits[split] = _list_split(folder / split, classes, may_be_flat=split == "test")
    return Dataset(folder, classes, splits)


def hold_out(files: Sequence[LabelledFile], *, fraction: float, seed: int) -> tuple[list[int], list[int]]:
    """Return the indices into `files` that train, and those held out: `fraction` of each class, at least one image.

    The draw depends on class folder, file name and `seed` alone, not on the order of `files` or the place of the
    folder. Raises FolderProblem where a class has a single image.
    """
    by_class: dict[int, list[int]] = {}
    for index, (_, label) in enumerate(files):
        by_class.setdefault(label, []).append(index)
    held: set[int] = set()
    for indices in by_class.values():
        if len(indices) < 2:
            path = files[indices[0]][0]
            raise FolderProblem(
                f"{path.parent} has a single image, and there is no val folder: it cannot train and validate",
                hint="add images to that class, or a val folder",
            )
        count = min(len(indices) - 1, max(1, round(len(indices) * fraction)))
        held.update(sorted(indices, key=lambda index: _draw(files[index][0], seed))[:count])
    return [index for index in range(len(files)) if index not in held], sorted(held)


def _draw(path: Path, seed: int) -> bytes:
    return hashlib.sha256(f"{seed}/{path.parent.name}/{path.name}".encode()).digest()


def _list_split(folder: Path, classes: tuple[str, ...], *, may_be_flat: bool) -> tuple[LabelledFile, ...]:
    names = _subfolders(folder)
    if may_be_flat and not names:
        images = tuple((path, UNLABELLED) for path in list_images(folder))
        if not images:
            raise FolderProblem(f"{folder} has no images", hint="add images, or remove the folder")
        return images
    strange = [path.name for path in names if path.name not in classes]
    if strange:
        raise FolderProblem(
            f"{folder} has the class `{strange[0]}`, which train does not have (train: {', '.join(classes)})",
            hint="class folders have the same names in every split",
        )
    files = tuple(
        (path, label)
        for label, name in enumerate(classes)
        if (folder / name).is_dir()
        for path in list_images(folder / name)
    )
    if not files:
        raise FolderProblem(f"{folder} has no images in class folders", hint="add images, or remove the folder")
    return files


def _labelled(folder: Path, classes: tuple[str, ...]) -> tuple[LabelledFile, ...]:
    files: list[LabelledFile] = []
    for label, name in enumerate(classes):
        images = list_images(folder / name)
        if not images:
            raise FolderProblem(
                f"the class folder {folder / name} has no images", hint="add images to it, or remove the folder"
            )
        files.extend((path, label) for path in images)
    return tuple(files)


def _subfolders(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith((".", "__")))


def list_images(folder: Path) -> list[Path]:
    """Return the image files anywhere under `folder`, sorted by path."""
    images: list[Path] = []
    for parent, _, names in os.walk(folder, followlinks=True):
        images.extend(
            Path(parent, name)
            for name in names
            if Path(name).suffix.lower() in IMAGE_SUFFIXES and not name.startswith(".")
        )
    return sorted(images)
