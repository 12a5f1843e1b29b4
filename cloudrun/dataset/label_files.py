"""Which file of a data folder holds its labels."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from cloudrun.imagedata.folders import Dataset, FolderProblem, list_dataset
from cloudrun.imagedata.labels import LabelProblems, list_labelled
from cloudrun.imagedata.layout import ClassFolders
from cloudrun.imagedata.unused import printable
from cloudrun.imagedata.walk import walk

_LIKELY = ("train", "label", "annot", "meta")  # what the name of such a file begins with, or has in it
_EXAMPLES = ("sample", "submission")  # in the names of files that show what is to be handed in
_SUFFIXES = ("*.csv", "*.tsv", "*.json", "*.jsonl")


@dataclass(frozen=True, slots=True)
class Choice:
    """The file of labels, None where there is none to use; and what is said of the files that are not used."""

    path: Path | None
    notes: tuple[str, ...] = ()


def look_for_labels(folder: Path, *, classes: ClassFolders = "auto") -> Choice:
    """Choose the file whose rows name the images of `folder`: it says more than folders do.

    A file whose rows are nearly all right is the one that is meant, too, where the folders are no classes: what is
    wrong in it is for the check to say. Raises FolderProblem where several files would do, and differ; and, with what
    is wrong in each, where neither a file nor the folders say the classes.
    """
    files = label_files(folder)
    if not files:
        return Choice(None)
    fits: dict[Path, Dataset] = {}
    nearly: dict[Path, str] = {}
    wrong: dict[Path, str] = {}
    for path in files:
        try:
            dataset = list_labelled(folder, path, found=walk(folder))
        except LabelProblems as err:
            (nearly if len(err.problems) * 2 < _line_count(path) else wrong)[path] = err.message
        except FolderProblem as err:
            wrong[path] = err.message
        else:
            if len(dataset.classes) <= max(2, len(_labels(dataset)) // 2):
                fits[path] = dataset
    if fits:
        return Choice(_one_of(fits))
    try:
        list_dataset(folder, classes=classes)
    except FolderProblem as err:
        if nearly:
            return Choice(next(iter(nearly)))
        if wrong:
            said = "; ".join(wrong.values())
            raise FolderProblem(f"{err.message}; and as a file of labels, {said}", hint=err.hint) from None
        return Choice(None)
    return Choice(None, tuple(f"not used as a file of labels: {message}" for message in nearly.values()))


def label_files(folder: Path) -> list[Path]:
    """Return the files of `folder` that may hold labels, the likeliest first."""
    if not folder.is_dir():
        return []
    found = [path for suffix in _SUFFIXES for path in folder.glob(suffix) if not path.name.startswith(".")]
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


def _rank(path: Path) -> tuple[bool, bool, str]:
    name = path.name.lower()
    return _is_example(path), not any(word in name for word in _LIKELY), path.name


def _is_example(path: Path) -> bool:
    return any(word in path.name.lower() for word in _EXAMPLES)


def _line_count(path: Path) -> int:
    return path.read_bytes().count(b"\n")
