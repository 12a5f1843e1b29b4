"""Look at a folder of images as the trainer will: splits, classes, counts, images that cannot be read.

A broken image found here costs nothing; found after an hour of training it costs the hour.
"""

from __future__ import annotations

import os
import warnings
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cloudrun.errors import JobFileError
from cloudrun.imagedata.folders import SPLITS, FolderProblem, list_dataset
from cloudrun.imagedata.labels import SEPARATOR, LabelProblems, list_labelled
from cloudrun.job.job_file import JobFileProblems

# Decoding everything takes about 1 ms an image of 500x375 and core; beyond this many, only the
# headers and the ends of the files are looked at.
_DECODE_ALL_UP_TO = 5000


@dataclass(frozen=True, slots=True)
class SurveyedImage:
    """One image of a data set: its path, its name relative to the folder, and its classes (none: unlabelled)."""

    path: Path
    name: str
    split: str
    classes: tuple[str, ...]

    @property
    def label(self) -> str:
        return SEPARATOR.join(self.classes)


@dataclass(frozen=True, slots=True)
class Survey:
    """How many images each class has in each split, and all that are here, split by split."""

    folder: Path
    counts: dict[str, dict[str, int]]  # split -> class -> images
    unlabelled_test: int
    size_bytes: int
    files: tuple[SurveyedImage, ...] = ()  # none where the images are not here
    labels: Path | None = None
    has_several: bool = False  # an image may have several classes
    left_out: tuple[str, ...] = ()  # images that no row of `labels` names, and that are not for test

    def splits_seen(self) -> set[str]:
        """Splits that have images, labelled or not."""
        return {image.split for image in self.files}

    def images_by_split(self) -> dict[str, int]:
        """Images that train, validate and are predicted; one with several classes counts once."""
        if self.files:
            return dict(Counter(image.split for image in self.files))
        counts = {split: sum(classes.values()) for split, classes in self.counts.items()}
        return {**counts, "test": counts.get("test", 0) + self.unlabelled_test}

    def split_names(self) -> list[str]:
        return [name for name in SPLITS if name in self.counts]

    def rows(self) -> list[list[str]]:
        classes = sorted({name for split in self.counts.values() for name in split})
        return [[name, *(str(self.counts[split].get(name, 0)) for split in self.split_names())] for name in classes]

    def as_plain(self) -> dict[str, Any]:
        return {
            "folder": str(self.folder),
            "counts": self.counts,
            "unlabelled_test": self.unlabelled_test,
            "size_bytes": self.size_bytes,
            "labels": None if self.labels is None else str(self.labels),
            "multi_label": self.has_several,
            "left_out": list(self.left_out),
        }


def survey_folder(folder: Path, *, custom: bool, labels: Path | None = None) -> Survey | None:
    """Check `folder`. With `custom`, a command of the user's own reads it, so any content will do.

    `labels`: a CSV file; None: sub-folders say the classes. Raises JobFileError naming the place: no
    such folder, no class folders, an empty class, an unreadable image; JobFileProblems with the line
    of each row of `labels` that is wrong.
    """
    if not folder.is_dir():
        near = (
            sorted(path.name for path in folder.parent.glob("*") if path.is_dir())[:5] if folder.parent.is_dir() else []
        )
        raise JobFileError(
            f"`data.source`: there is no folder {folder}",
            hint=f"folders beside it: {', '.join(near)}" if near else "relative folders are relative to the job file",
        )
    if custom:
        return None
    try:
        dataset = list_dataset(folder) if labels is None else list_labelled(folder, labels)
    except LabelProblems as err:
        raise JobFileProblems(f"`data.labels`: {err.message}", hint=err.hint, problems=err.problems) from None
    except FolderProblem as err:
        raise JobFileError(f"`data.{'source' if labels is None else 'labels'}`: {err.message}", hint=err.hint) from None
    files = [path for split in dataset.splits.values() for path, _ in split]
    bad = _unreadable(files)
    if bad:
        path, why = bad[0]
        more = f" (and {len(bad) - 1} more)" if len(bad) > 1 else ""
        raise JobFileError(
            f"`data.source`: {path} cannot be read as an image: {why}{more}",
            hint="fix it, or move it out of the data folder",
        )
    counts = {
        name: dict(zip(dataset.classes, dataset.count_classes(split), strict=True))
        for name, split in dataset.splits.items()
        if not (name == "test" and not dataset.test_is_labelled)
    }
    unlabelled = 0 if dataset.test_is_labelled else len(dataset.splits.get("test", ()))
    images = tuple(
        SurveyedImage(
            path,
            path.relative_to(folder).as_posix(),
            split,
            tuple(dataset.classes[index] for index in dataset.classes_of(label)),
        )
        for split, files_of_split in dataset.splits.items()
        for path, label in files_of_split
    )
    return Survey(
        folder,
        counts,
        unlabelled,
        sum(path.stat().st_size for path in files),
        images,
        labels=labels,
        has_several=dataset.label_sets is not None,
        left_out=tuple(path.relative_to(folder).as_posix() for path in dataset.left_out),
    )


def _unreadable(files: Iterable[Path]) -> list[tuple[Path, str]]:
    paths = list(files)
    decode = len(paths) <= _DECODE_ALL_UP_TO
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:  # Pillow decodes outside the GIL
        problems = pool.map(lambda path: _problem_of(path, decode=decode), paths)
        return [(path, problem) for path, problem in zip(paths, problems, strict=True) if problem is not None]


def _problem_of(path: Path, *, decode: bool) -> str | None:
    """What is wrong with an image file, or None."""
    from PIL import Image, UnidentifiedImageError

    try:
        if path.stat().st_size == 0:
            return "it is empty"
        with warnings.catch_warnings(), Image.open(path) as image:
            warnings.simplefilter("ignore")  # oddities in EXIF do not matter here
            if decode:
                image.draft("RGB", (image.width // 8 or 1, image.height // 8 or 1))  # the whole file, few pixels
                image.load()
            elif image.format == "JPEG" and not _ends_with(path, b"\xff\xd9"):
                return "it ends too early"
    except UnidentifiedImageError:
        return "unrecognised image format"
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as err:
        return str(err)
    return None


def _ends_with(path: Path, mark: bytes) -> bool:
    """Whether `mark` stands in the last 64 bytes: some cameras pad the end."""
    with path.open("rb") as file:
        file.seek(-min(64, path.stat().st_size), os.SEEK_END)
        return mark in file.read()
