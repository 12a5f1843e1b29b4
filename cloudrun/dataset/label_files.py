"""Which CSV file of a data folder holds its labels."""

from __future__ import annotations

from pathlib import Path

from cloudrun.imagedata.folders import FolderProblem, list_dataset
from cloudrun.imagedata.labels import LabelProblems, list_labelled

_LIKELY = ("train", "label", "annot")  # what the name of such a file begins with, or has in it


def find_label_file(folder: Path) -> Path | None:
    """The file of labels in `folder`; None where its sub-folders say the classes, or there is none.

    A file whose rows are nearly all right is the one that is meant, too: what is wrong in it is for
    the check to say.
    """
    try:
        list_dataset(folder)
    except FolderProblem:
        pass
    else:
        return None
    files = sorted((*folder.glob("*.csv"), *folder.glob("*.tsv")), key=_rank)
    meant = None
    for path in files:
        try:
            list_labelled(folder, path)
        except LabelProblems as err:
            if meant is None and len(err.problems) * 2 < _line_count(path):
                meant = path
        except FolderProblem:
            continue
        else:
            return path
    return meant


def _rank(path: Path) -> tuple[bool, str]:
    return not any(word in path.name.lower() for word in _LIKELY), path.name


def _line_count(path: Path) -> int:
    return path.read_bytes().count(b"\n")
