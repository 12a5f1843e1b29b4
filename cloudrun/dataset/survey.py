"""Look at a folder of images as the trainer will: splits, classes, counts, images that cannot be read.

A broken image found here costs nothing; found after an hour of training it costs the hour.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cloudrun.dataset.label_files import label_files, look_for_labels
from cloudrun.errors import JobFileError
from cloudrun.imagedata.dataset import Reading, read_dataset
from cloudrun.imagedata.folders import SPLITS, Dataset, FolderProblem
from cloudrun.imagedata.folds import find_groups, fold_of_each
from cloudrun.imagedata.holdout import hold_out_for
from cloudrun.imagedata.label_columns import Columns
from cloudrun.imagedata.labels import SEPARATOR, LabelProblems
from cloudrun.imagedata.soft_labels import SoftLabels, read_soft_labels
from cloudrun.imagedata.unused import Unused, printable
from cloudrun.imagedata.vocabulary import HEIC_SUFFIXES
from cloudrun.imagedata.walk import reads_heic
from cloudrun.job.job_file import JobFileProblems
from cloudrun.recipe.train_config import TrainConfig

# Decoding everything takes about 1 ms an image of 500x375 and core; beyond this many, only the
# headers and the ends of the files are looked at.
_DECODE_ALL_UP_TO = 5000
_DEFAULTS = TrainConfig()
_ARCHIVES = (".zip", ".tar", ".gz", ".tgz", ".bz2", ".xz", ".7z", ".rar", ".zst")


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
    unused: tuple[Unused, ...] = ()  # all files that are left out, by reason
    notes: tuple[str, ...] = ()  # what was guessed, and what looks odd
    columns: Columns | None = None  # of `labels`
    unreadable: tuple[tuple[str, str], ...] = ()  # name and reason of images that will be skipped
    deep: tuple[str, ...] = ()  # images of more than 8 bits, which are scaled to 8
    pseudo_labelled: int = 0  # images of no label that train by `train.soft_labels`; they stay in their split here

    def splits_seen(self) -> set[str]:
        """Splits that have images, labelled or not."""
        return {image.split for image in self.files}

    def images_by_split(self) -> dict[str, int]:
        """Images that train, validate and are predicted; one with several classes counts once."""
        if self.files:
            split = Counter(image.split for image in self.files)
            return {**split, "train": split["train"] + self.pseudo_labelled}
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
            "unused": [one.as_plain() for one in self.unused],
            "unreadable": [{"image": name, "reason": why} for name, why in self.unreadable],
            "columns": None if self.columns is None else self.columns.as_plain(),
        }


def survey_folder(
    folder: Path,
    *,
    custom: bool,
    labels: Path | None = None,
    reading: Reading | None = None,
    train: TrainConfig = _DEFAULTS,
) -> Survey | None:
    """Check `folder`. With `custom`, a command of the user's own reads it, so any content will do.

    `labels`: a CSV file; None: sub-folders say the classes; `reading` says more. `train`: whose split is tried,
    and whose share of unreadable images is allowed. Raises JobFileError naming the place: no
    such folder, no class folders, an empty class, an unreadable image; JobFileProblems with the line
    of each row of `labels` that is wrong.
    """
    if folder.is_file():
        raise JobFileError(
            f"`data.source`: {folder} is a file, and not a folder",
            hint="unpack it, and name the folder; zip and tar files are read from a web address or a bucket"
            if folder.suffix.lower() in _ARCHIVES
            else "name the folder that holds the images",
        )
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
    reading = reading or Reading(labels)
    labels = reading.labels
    try:
        dataset = read_dataset(folder, reading)
    except LabelProblems as err:
        raise JobFileProblems(f"`data.labels`: {err.message}", hint=err.hint, problems=err.problems) from None
    except FolderProblem as err:
        there = ", ".join(printable(path.name) for path in label_files(folder)[:5]) if labels is None else ""
        hint = f"{err.hint}; files there that may hold labels: {there}" if there else err.hint
        raise JobFileError(f"`data.{'source' if labels is None else 'labels'}`: {err.message}", hint=hint) from None
    soft = _soft_labels(dataset, train)
    files = [path for split in dataset.splits.values() for path, _ in split]
    bad, deep = _inspect(files)
    trained = [path for split in ("train", "val") for path, _ in dataset.splits.get(split, ())]
    _refuse_unreadable(bad, trained, train.max_unreadable)
    broken = {path for path, _ in bad}
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
        if path not in broken
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
        unused=dataset.unused,
        notes=(
            *_of_heic(files),
            *dataset.warnings,
            *(_unused_labels(folder) if labels is None and soft is None else ()),
            *(() if soft is None else _soft_notes(soft)),
            *_try_split(dataset, train),
        ),
        columns=dataset.columns,
        unreadable=tuple((path.relative_to(folder).as_posix(), why) for path, why in bad),
        deep=tuple(path.relative_to(folder).as_posix() for path in deep),
        pseudo_labelled=0 if soft is None else len(soft.extra),
    )


def _of_heic(files: Sequence[Path]) -> list[str]:
    """A warning where images are read here by a library that the machine does not have by itself."""
    count = sum(path.suffix.lower() in HEIC_SUFFIXES for path in files) if reads_heic() else 0
    if not count:
        return []
    there = "a rented machine needs it, too: `setup: pip install pillow-heif`"
    return [f"{count} HEIC image(s) are read by pillow-heif here; {there}"]


def _refuse_unreadable(bad: Sequence[tuple[Path, str]], trained: Sequence[Path], share: float) -> None:
    """Refuse as the trainer will: a share of what trains and validates may be unreadable, of what is predicted none."""
    known = set(trained)
    to_predict = [one for one in bad if one[0] not in known]
    if to_predict or len(bad) > share * len(trained):
        wrong = to_predict or list(bad)
        more = f" (and {len(wrong) - 1} more)" if len(wrong) > 1 else ""
        allowed = "" if to_predict else f", or allow more: `max_unreadable` is {share:g}"
        raise JobFileProblems(
            f"`data.source`: {printable(str(wrong[0][0]))} cannot be read as an image: {wrong[0][1]}{more}",
            hint=f"fix it, or move it out of the data folder{allowed}",
            problems=[
                (printable(str(path)), f"it cannot be read as an image: {why}", "fix it, or move it out")
                for path, why in wrong
            ],
        )


def _soft_labels(dataset: Dataset, train: TrainConfig) -> SoftLabels | None:
    """Read the files of soft labels as the machine will, which has the data folder alone."""
    if not train.soft_labels:
        return None
    try:
        return read_soft_labels(train.soft_labels, dataset, beside=None, folds=train.folds)
    except LabelProblems as err:
        raise JobFileProblems(f"`train.soft_labels`: {err.message}", hint=err.hint, problems=err.problems) from None
    except FolderProblem as err:
        raise JobFileError(f"`train.soft_labels`: {err.message}", hint=err.hint) from None


def _soft_notes(soft: SoftLabels) -> list[str]:
    counted = (
        f"soft labels: {len(soft.of_labelled)} labelled image(s), and {len(soft.extra)} pseudo-labelled image(s) that"
        " train, too"
    )
    return [counted, *soft.warnings]


def _try_split(dataset: Dataset, train: TrainConfig) -> list[str]:
    """Hold out and deal into folds as the run will. Raises JobFileError where that cannot be done."""
    try:
        groups = find_groups(train.groups, dataset)
        if train.folds:
            fold_of_each(dataset, folds=train.folds, seed=train.seed, groups=groups)
            return []
        if "val" in dataset.splits:
            return []
        _, held = hold_out_for(dataset, fraction=train.val_fraction, seed=train.seed, groups=groups)
    except FolderProblem as err:
        where = "folds" if train.folds else "val_fraction"
        raise JobFileError(f"`train.{where}`: {err.message}", hint=err.hint) from None
    files = dataset.splits["train"]
    counts = dataset.count_classes([files[index] for index in held])
    alone = [name for name, count in zip(dataset.classes, counts, strict=True) if not count]
    if not alone:
        return []
    names = ", ".join(alone[:6]) + (f" and {len(alone) - 6} more" if len(alone) > 6 else "")
    return [f"{len(alone)} class(es) have too few images to validate, and train only: {names}"]


def _unused_labels(folder: Path) -> tuple[str, ...]:
    """A warning where a file of labels lies there that nobody reads."""
    try:
        path = look_for_labels(folder).path
    except FolderProblem as err:
        return (f"no file of labels is used: {err.message}",)
    if path is None:
        return ()
    return (f"{path.name} names the labels of these images, and is not used: `labels: {path.name}` would use it",)


def _inspect(paths: Sequence[Path]) -> tuple[list[tuple[Path, str]], list[Path]]:
    """The images that cannot be read, each with the reason, and those of more than 8 bits."""
    from cloudrun.imagedata.pixels import inspect

    decode = len(paths) <= _DECODE_ALL_UP_TO
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:  # Pillow decodes outside the GIL
        seen = list(zip(paths, pool.map(lambda path: inspect(path, decode=decode), paths), strict=True))
    bad = [(path, one.problem) for path, one in seen if one.problem is not None]
    return bad, [path for path, one in seen if one.is_deep]
