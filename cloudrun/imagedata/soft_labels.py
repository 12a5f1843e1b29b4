"""Read files of probabilities: soft labels of labelled images, and pseudo-labels of others. Imports no torch.

The files are those that the trainer writes (oof.csv, predictions.csv, predictions-val.csv), or have `image` and a
column for each class.
"""

from __future__ import annotations

import difflib
import hashlib
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cloudrun.imagedata.folders import UNLABELLED, Dataset, FolderProblem
from cloudrun.imagedata.folds import labelled_files
from cloudrun.imagedata.image_names import KnownImages
from cloudrun.imagedata.label_table import Table, read_table
from cloudrun.imagedata.labels import LabelProblems
from cloudrun.imagedata.walk import walk

Probabilities = tuple[float, ...]

# Columns in front of the classes, and whether no model that predicted the image had trained on it; None: unknown.
_HEADS: tuple[tuple[tuple[str, ...], bool | None], ...] = (
    (("image", "truth", "label", "confidence"), True),  # predictions-val.csv
    (("image", "label", "truth"), True),  # oof.csv
    (("image", "label", "confidence"), False),  # predictions.csv: of images without labels
    (("image",), None),
)
_MOST_PROBLEMS = 1000
_GUESSES = 5  # most searches for a similar name, which take a while


@dataclass(frozen=True, slots=True)
class SoftLabels:
    """Probabilities of images, in the order of the data set's classes.

    `of_labelled`: images that have a label, too, and may train. `extra`: images without a label that counts (of test,
    or in no split), which train by these probabilities alone. `digest`: of the files' bytes. `warnings`: what could not
    be checked, or makes scores too good.
    """

    of_labelled: Mapping[Path, Probabilities]
    extra: Mapping[Path, Probabilities]
    digest: str
    warnings: tuple[str, ...] = field(default=(), compare=False)


def read_soft_labels(names: Sequence[str], dataset: Dataset, *, beside: Path | None, folds: int) -> SoftLabels:
    """Read the files `names`, each looked for in the data folder, then in `beside` (None: nowhere else).

    `folds`: of the run, for its warnings. Images of a folder for validation are left out unless there are folds: they
    do not train. Raises FolderProblem: no such file, columns that are not the classes, labelled images in a file of
    predictions that are not out of fold; LabelProblems with the line of each row that is wrong.
    """
    known = KnownImages(walk(dataset.folder).images, dataset.folder)
    labelled = {path for path, _ in labelled_files(dataset)}
    validates = set() if folds else {path for path, _ in dataset.splits.get("val", ())}
    digest = hashlib.sha256()
    found: dict[Path, Probabilities] = {}
    warnings: list[str] = []
    for name in names:
        path = _find(name, dataset.folder, beside)
        digest.update(hashlib.sha256(path.read_bytes()).digest())
        table = read_table(path)
        head, is_out_of_fold = _head_of(table, dataset)
        rows = _rows(table, len(head), dataset, known, taken=found)
        own = [image for image in rows if image in labelled and image not in validates]
        if own and is_out_of_fold is False:
            raise FolderProblem(
                f"{path} has predictions of {len(own)} labelled image(s), as `{_name(own[0], dataset)}`,"
                " by a model that may have trained on them",
                hint="name the oof.csv of a run with `folds`; a predictions.csv is for images without labels",
            )
        if own and is_out_of_fold is None:
            warnings.append(
                f"{path.name} does not say whether its {len(own)} labelled image(s) were predicted out of fold"
            )
        found |= rows
    unused = [path for path in found if path in validates]
    if unused:
        warnings.append(f"soft labels of {len(unused)} validation image(s) are not used: these do not train")
    extra = {path: row for path, row in found.items() if path not in labelled}
    of_labelled = {path: row for path, row in found.items() if path in labelled and path not in validates}
    return SoftLabels(of_labelled, extra, digest.hexdigest(), (*warnings, *_leaks(dataset, extra, folds=folds)))


def _leaks(dataset: Dataset, extra: Mapping[Path, Probabilities], *, folds: int) -> Iterable[str]:
    if folds:
        yield (
            "the models that made the soft labels were trained on images that validate here, in other folds:"
            " out-of-fold scores are a little too good; compare them with scores on images that no model saw"
        )
    tested = {path for path, label in dataset.splits.get("test", ()) if label != UNLABELLED}
    if tested & extra.keys():
        yield f"{len(tested & extra.keys())} labelled test image(s) train with pseudo-labels, not with their labels"


def _find(name: str, folder: Path, beside: Path | None) -> Path:
    places = [folder / name, *([] if beside is None else [beside / Path(name).expanduser()])]
    for path in places:
        if path.is_file():
            return path
    raise FolderProblem(
        f"there is no file of soft labels {places[0]}", hint="`soft_labels` is a path in the data folder"
    )


def _head_of(table: Table, dataset: Dataset) -> tuple[tuple[str, ...], bool | None]:
    """Return the columns in front of the classes. Raises FolderProblem where the others are not the classes."""
    header, wanted = table.header, set(dataset.classes)
    for head, is_out_of_fold in _HEADS:
        rest = header[len(head) :]
        if tuple(header[: len(head)]) == head and set(rest) == wanted and len(rest) == len(wanted):
            return head, is_out_of_fold
    if header[:1] != ["image"]:
        raise FolderProblem(
            f"{table.path}:1: the first column is `{header[0]}`, not `image`",
            hint="the header is image, then a column for each class; or name an oof.csv or a predictions.csv",
        )
    head = next(one for one, _ in _HEADS if tuple(header[: len(one)]) == one)
    rest = header[len(head) :]
    missing = [name for name in dataset.classes if name not in rest]
    unknown = [name for name in rest if name not in wanted]
    twice = sorted({name for name in rest if rest.count(name) > 1})
    if unknown:
        near = difflib.get_close_matches(unknown[0], dataset.classes, n=1)
        raise FolderProblem(
            f"{table.path}:1: `{unknown[0]}` is not a class of the data set",
            hint=f"did you mean `{near[0]}`?" if near else f"the classes are {', '.join(dataset.classes[:8])}",
        )
    if missing:
        raise FolderProblem(
            f"{table.path}:1: there is no column for {len(missing)} class(es): {', '.join(missing[:8])}",
            hint="add a column with the probability of each class",
        )
    raise FolderProblem(f"{table.path}:1: duplicate column `{twice[0]}`", hint="remove or rename one of them")


def _rows(
    table: Table, skip: int, dataset: Dataset, known: KnownImages, *, taken: Mapping[Path, Probabilities]
) -> dict[Path, Probabilities]:
    place_of = {name: skip + place for place, name in enumerate(table.header[skip:])}
    order = [place_of[name] for name in dataset.classes]
    rows: dict[Path, Probabilities] = {}
    problems: list[tuple[str, str, str]] = []
    for line, cells in table.rows:
        where = f"{table.path}:{line}"
        if len(problems) >= _MOST_PROBLEMS:
            break
        if len(cells) != len(table.header):
            problems.append((where, f"{len(cells)} cells, and the header has {len(table.header)}", "fix the row"))
            continue
        images = known.called(cells[0], strictly=True)
        if len(images) != 1:
            problems.append((where, *known.explain(cells[0], images, guess=len(problems) < _GUESSES)))
            continue
        if images[0] in rows or images[0] in taken:
            problems.append((where, f"`{cells[0]}` has two rows", "keep one of them"))
            continue
        numbers = [_number(cells[place]) for place in order]
        wrong = next((place for place, value in zip(order, numbers, strict=True) if value is None), None)
        if wrong is not None:
            message = f"`{cells[wrong]}` is not a probability from 0 to 1, of `{table.header[wrong]}`"
            problems.append((where, message, "write a number from 0 to 1"))
            continue
        values = [value for value in numbers if value is not None]
        total = math.fsum(values)
        if dataset.label_sets is None and abs(total - 1) > max(1e-3, 1e-6 * len(values)):
            problems.append((where, f"the probabilities sum to {total:.4g}, not to 1", "divide them by their sum"))
            continue
        # Six digits do not quite sum to 1.
        rows[images[0]] = tuple(value / total for value in values) if dataset.label_sets is None else tuple(values)
    if problems:
        raise LabelProblems(problems)
    if not rows:
        raise FolderProblem(f"{table.path} has no rows under its header", hint="a row an image")
    return rows


def _number(cell: str) -> float | None:
    try:
        value = float(cell)
    except ValueError:
        return None
    return value if 0 <= value <= 1 else None


def _name(path: Path, dataset: Dataset) -> str:
    return path.relative_to(dataset.folder).as_posix()
