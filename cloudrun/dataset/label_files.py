"""Which file of a data folder holds its labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import yaml
from pydantic import ValidationError

from cloudrun.imagedata.folders import Dataset, FolderProblem, list_dataset
from cloudrun.imagedata.label_columns import GUESSED, LabelColumns
from cloudrun.imagedata.labels import LabelProblems, list_labelled
from cloudrun.imagedata.layout import ClassFolders
from cloudrun.imagedata.unused import printable
from cloudrun.imagedata.walk import walk
from cloudrun.job.spec import Labels
from cloudrun.recipe.problems import describe

_LIKELY = ("train", "label", "annot", "meta")  # what the name of such a file begins with, or has in it
_EXAMPLES = ("sample", "submission")  # in the names of files that show what is to be handed in
_SUFFIXES = ("*.csv", "*.tsv", "*.json", "*.jsonl", "*.txt")


@dataclass(frozen=True, slots=True)
class Choice:
    """The file of labels, None where there is none to use; and what is said of the files that are not used.

    `columns`: what was told of the file's columns.
    """

    path: Path | None
    notes: tuple[str, ...] = ()
    columns: LabelColumns = GUESSED


def told_labels(text: str, folder: Path) -> Choice:
    """Return the file that `text` names, a path or `{file: FILE, label: COLUMN}` as a job file has it.

    A relative path is one in the working directory, or else in the data `folder`. Raises FolderProblem.
    """
    told = _as_mapping(text) if text.lstrip().startswith("{") else Labels(file=text)
    path = Path(told.file).expanduser().absolute()
    inside = folder / told.file
    return Choice(inside if not path.exists() and inside.is_file() else path, columns=told.columns)


def _as_mapping(text: str) -> Labels:
    try:
        return Labels.model_validate(yaml.safe_load(text))
    except yaml.YAMLError:
        raise FolderProblem(
            f"`--labels {text}` is not valid YAML", hint="write `--labels '{file: train.csv, label: target}'`"
        ) from None
    except ValidationError as err:
        problem = describe(err, Labels, "labels")[0]
        raise FolderProblem(f"`--labels`: {problem.message}", hint=problem.hint) from None


def look_for_labels(folder: Path, *, classes: ClassFolders = "auto") -> Choice:
    """Choose the file whose rows name the images of `folder`: it says more than folders do.

    A file whose rows are nearly all right is the one that is meant, too, where the folders are no classes: what is
    wrong in it is for the check to say. Raises FolderProblem where several files would do, and differ; and, with what
    is wrong in each, where neither a file nor the folders say the classes.
    """
    files = label_files(folder)
    if not files:
        return Choice(None)
    tried = _try(folder, [path for path in files if not _is_list(path)])
    if tried.fits:
        return Choice(_one_of(tried.fits))
    try:
        list_dataset(folder, classes=classes)
    except FolderProblem as err:
        lists = _try(folder, [path for path in files if _is_list(path)])
        if lists.fits:
            return Choice(_one_of(lists.fits))
        for path in (*tried.nearly, *lists.nearly):
            return Choice(path)
        if tried.wrong:
            said = "; ".join(one.message for one in tried.wrong)
            # What the likeliest file lacks is less work than folders for all images.
            hint = tried.wrong[0].hint
            if "`labels: {" in hint:
                hint += "; `init` takes the same: `--labels '{file: FILE, ...}'`"
            raise FolderProblem(f"{err.message}; and as a file of labels, {said}", hint=hint) from None
        return Choice(None)
    return Choice(None, tuple(f"not used as a file of labels: {message}" for message in tried.nearly.values()))


@dataclass(slots=True)
class _Tried:
    """What came of files as files of labels. `nearly`: with what is wrong in a few rows."""

    fits: dict[Path, Dataset] = field(default_factory=dict)
    nearly: dict[Path, str] = field(default_factory=dict)
    wrong: list[FolderProblem] = field(default_factory=list)


def _try(folder: Path, files: Sequence[Path]) -> _Tried:
    tried = _Tried()
    for path in files:
        try:
            dataset = list_labelled(folder, path, found=walk(folder))
        except LabelProblems as err:
            if len(err.problems) * 2 < _line_count(path):
                tried.nearly[path] = err.message
            else:
                tried.wrong.append(err)
        except FolderProblem as err:
            tried.wrong.append(err)
        else:
            if len(dataset.classes) <= max(2, len(_labels(dataset)) // 2):
                tried.fits[path] = dataset
            else:
                tried.wrong.append(_too_many_classes(path, dataset))
    return tried


def _too_many_classes(path: Path, dataset: Dataset) -> FolderProblem:
    column = dataset.columns.as_plain()["label"] if dataset.columns is not None else "label"
    return FolderProblem(
        f"{path}: `{column}` has {len(dataset.classes)} values in {len(_labels(dataset))} rows, too many for classes",
        hint=f"classes are values that images share; name another column: `--labels '{{file: {path.name}, label:"
        " COLUMN}'`; or take these all the same: `--labels FILE`",
    )


def label_files(folder: Path) -> list[Path]:
    """Return the files of `folder` that may hold labels, the likeliest first."""
    if not folder.is_dir():
        return []
    found = [path for suffix in _SUFFIXES for path in folder.glob(suffix) if path.is_file() and path.name[0] != "."]
    return sorted(found, key=_rank)


def _one_of(fits: dict[Path, Dataset]) -> Path:
    """The likeliest of files that agree. Raises FolderProblem where they do not."""
    likely = {path: dataset for path, dataset in fits.items() if not _is_example(path)} or fits
    chosen = max(likely, key=lambda path: len(_labels(likely[path])))  # the first of the largest
    for path, dataset in likely.items():
        if not _labels(dataset).items() <= _labels(likely[chosen]).items():
            names = ", ".join(printable(one.name) for one in likely)
            raise FolderProblem(
                f"{len(likely)} files may hold the labels, and {path.name} and {chosen.name} differ: {names}",
                hint=f"name one: `--labels {path.parent / chosen.name}`; or put all rows into one file, with a column"
                " `split`",
            )
    return chosen


def _labels(dataset: Dataset) -> dict[Path, tuple[str, ...]]:
    return {
        path: tuple(dataset.classes[index] for index in dataset.classes_of(label))
        for files in dataset.splits.values()
        for path, label in files
        if label >= 0
    }


def _rank(path: Path) -> tuple[bool, bool, bool, str]:
    name = path.name.lower()
    return _is_list(path), _is_example(path), not any(word in name for word in _LIKELY), path.name


def _is_example(path: Path) -> bool:
    return any(word in path.name.lower() for word in _EXAMPLES)


def _is_list(path: Path) -> bool:
    """Whether a file is a text, which may be anything, and is tried only where the folders are no classes."""
    return path.suffix == ".txt"


def _line_count(path: Path) -> int:
    return path.read_bytes().count(b"\n")
