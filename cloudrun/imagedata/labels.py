"""Read a CSV file of labels as classes and labelled files of each split, like `list_dataset` does for folders.

    image,label                 image_id,healthy,rust,scab        image,labels
    leaf1.jpg,rust              Train_0,0,1,0                     a.jpg,scab frog_eye_leaf_spot
    leaf2,healthy               Train_1,1,0,0                     b.jpg,scab|rust

Imports no torch: cloudrun names every wrong row before money is spent.
"""

from __future__ import annotations

import csv
import difflib
import io
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from cloudrun.imagedata.folders import SPLITS, UNLABELLED, Dataset, FolderProblem, LabelledFile, list_images

SEPARATOR = "|"
"""Separates the labels of one image in files that this project writes."""

_IMAGE_COLUMNS = ("image", "image_id", "image_name", "filename", "file_name", "file", "path", "image_path", "img", "id")
_LABEL_COLUMNS = ("label", "labels", "class", "classes", "class_name", "category", "species", "target", "diagnosis")
_SPLIT_COLUMNS = ("split", "set", "subset")
_GROUP_COLUMNS = ("group", "group_id", "groups")
_SPLIT_NAMES = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
}
_NOT_WORTH_MORE = 1000  # problems, after which the file is probably that of another data set
_GUESSES = 5  # most searches for a similar name, which take a while


class LabelProblems(FolderProblem):
    """Every wrong row of a labels file, as (place, message, hint); the message names the first."""

    def __init__(self, problems: Sequence[tuple[str, str, str]]) -> None:
        place, message, hint = problems[0]
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        super().__init__(f"{place}: {message}{more}", hint=hint)
        self.problems = tuple(problems)


@dataclass(frozen=True, slots=True)
class _Row:
    line: int
    image: str
    labels: frozenset[str]
    split: str | None
    group: str


@dataclass(frozen=True, slots=True)
class _Table:
    path: Path
    rows: list[_Row]
    classes: tuple[str, ...]
    has_several: bool  # an image may have several labels, or none


def find_labels(name: str, folder: Path, *, beside: Path) -> Path:
    """Return the labels file `name`: in the data `folder`, else beside the job file or in the working directory.

    Raises FolderProblem.
    """
    places = [folder / name, beside / Path(name).expanduser()]
    for path in places:
        if path.is_file():
            return path
    raise _no_file(places[0])


def list_labelled(folder: Path, labels: Path) -> Dataset:
    """Return the images under `folder` with the classes of the CSV file `labels`.

    One column names the image (with or without its folder or suffix), another its label, or several labels separated by
    `|`, `;` or spaces; or each class has a column of 0 and 1. A row belongs to the split of a column `split`, else of
    the first folder of its image (train, val, test), else to train. A column `group` names groups of images that belong
    together. Images without a row are an unlabelled test set: those in a folder `test*` where there is one, else all of
    them. Raises LabelProblems with the line of each wrong row.
    """
    if not folder.is_dir():
        raise FolderProblem(f"there is no data folder {folder}", hint="`--data` takes a folder of images")
    table = _read_table(labels)
    images = list_images(folder)
    labelled = _find_images(table, images, folder)
    label_sets = (
        tuple(sorted({_indices(row.labels, table.classes) for row in table.rows})) if table.has_several else None
    )
    place = {names: index for index, names in enumerate(label_sets or ())}
    splits: dict[str, list[LabelledFile]] = {name: [] for name in SPLITS}
    for path, row in labelled.items():
        indices = _indices(row.labels, table.classes)
        split = row.split or _split_of(path, folder)
        splits[split].append((path, place[indices] if label_sets is not None else indices[0]))
    unlisted = [path for path in images if path not in labelled]
    tested = [path for path in unlisted if _is_for_test(path, folder)] or unlisted
    if not splits["test"]:
        splits["test"] = [(path, UNLABELLED) for path in tested]
        taken = set(tested)
        unlisted = [path for path in unlisted if path not in taken]
    if not splits["train"]:
        raise FolderProblem(f"{labels} has no image to train on", hint="its rows are all of val or test")
    _refuse_single_images(table, labelled, has_val=bool(splits["val"]))
    return Dataset(
        folder,
        table.classes,
        {name: tuple(sorted(files)) for name, files in splits.items() if files},
        label_sets=label_sets,
        left_out=tuple(unlisted),
        groups={path: row.group for path, row in labelled.items() if row.group},
    )


def _no_file(path: Path) -> FolderProblem:
    near = sorted(file.name for file in [*path.parent.glob("*.csv"), *path.parent.glob("*.tsv")])[:5]
    return FolderProblem(
        f"there is no labels file {path}",
        hint=f"files there: {', '.join(near)}" if near else "it is relative to the data folder, or to the job file",
    )


def _read_table(path: Path) -> _Table:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise _no_file(path) from None
    except (OSError, UnicodeDecodeError) as err:
        raise FolderProblem(f"{path} cannot be read: {err}", hint="it must be a CSV file in UTF-8") from None
    (_, header), *rows = _records(path, text) or [(1, [])]
    image_at = _column(path, header, _IMAGE_COLUMNS, "the image", "image")
    split_at = next((index for index, name in enumerate(header) if name.lower() in _SPLIT_COLUMNS), None)
    group_at = next((index for index, name in enumerate(header) if name.lower() in _GROUP_COLUMNS), None)
    _refuse(path, ((line, f"{len(cells)} cells, and the header has {len(header)}", "quote cells that hold a comma")
                   for line, cells in rows if len(cells) != len(header)))  # fmt: skip
    if not rows:
        raise FolderProblem(f"{path} has no rows under its header", hint="a row an image: `image,label`")
    others = [index for index in range(len(header)) if index not in (image_at, split_at, group_at)]
    label_at = _label_column(path, header, rows, others)
    if label_at is None:
        classes, label_sets, has_several = _from_columns(path, header, rows, others)
    else:
        classes, label_sets, has_several = _from_cells(path, [(line, cells[label_at]) for line, cells in rows])
    if len(classes) < 2:
        raise FolderProblem(
            f"{path} has {len(classes)} class(es): {', '.join(classes)}; at least 2 are needed",
            hint="a column `label` with the class of each image, or a column of 0 and 1 for each class",
        )
    splits = [None if split_at is None else cells[split_at].lower() for _, cells in rows]
    strange = [(line, name) for (line, _), name in zip(rows, splits, strict=True) if name and name not in _SPLIT_NAMES]
    _refuse(path, ((line, f"`{name}` is not a split", "write train, val or test") for line, name in strange))
    return _Table(
        path,
        [
            _Row(
                line,
                cells[image_at],
                names,
                _SPLIT_NAMES[split] if split else None,
                "" if group_at is None else cells[group_at],
            )
            for (line, cells), names, split in zip(rows, label_sets, splits, strict=True)
        ],
        classes,
        has_several,
    )


def _records(path: Path, text: str) -> list[tuple[int, list[str]]]:
    """Yield the cells of lines that are not empty, each with the number of its first line."""
    head = text.split("\n", 1)[0]
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=max(",;\t", key=head.count), skipinitialspace=True)
    records = []
    line = 1
    try:
        for cells in reader:
            if any(cell.strip() for cell in cells):
                records.append((line, [cell.strip() for cell in cells]))
            line = reader.line_num + 1
    except csv.Error as err:
        raise FolderProblem(
            f"{path}:{line}: not a valid CSV file: {err}", hint="look for a quote that is not closed"
        ) from None
    return records


def _column(path: Path, header: Sequence[str], names: Sequence[str], what: str, usual: str) -> int:
    """Return the first column with one of `names`."""
    lower = [name.lower().replace(" ", "_") for name in header]
    for name in names:
        if name in lower:
            return lower.index(name)
    near = [match for name in lower for match in difflib.get_close_matches(name, names, n=1, cutoff=0.8)]
    if near:
        return next(
            index for index, name in enumerate(lower) if difflib.get_close_matches(name, names, n=1, cutoff=0.8)
        )
    raise FolderProblem(
        f"{path}:1: no column names {what}; the columns are {', '.join(header) or 'none'}",
        hint=f"call it `{usual}` in the first line",
    )


def _label_column(
    path: Path, header: Sequence[str], rows: Sequence[tuple[int, list[str]]], others: Sequence[int]
) -> int | None:
    """Return the column of labels; None where each class has a column of its own."""
    named = [index for index in others if header[index].lower().replace(" ", "_") in _LABEL_COLUMNS]
    if named:
        return named[0]
    some = [cells for _, cells in rows[:50]]
    if len(others) > 1 and all(2 * sum(_flag(row[at]) is not None for row in some) >= len(some) for at in others):
        return None  # most cells: a cell that is neither 0 nor 1 is reported with its line
    if len(others) == 1:
        return others[0]
    return _column(path, header, _LABEL_COLUMNS, "the label, nor have all others 0 and 1", "label")


def _from_columns(
    path: Path, header: Sequence[str], rows: Sequence[tuple[int, list[str]]], others: Sequence[int]
) -> tuple[tuple[str, ...], list[frozenset[str]], bool]:
    """Read a column of 0 and 1 for each class. Exactly one 1 in every row: an image has one label."""
    classes = tuple(header[index] for index in others)
    _refuse(
        path,
        (
            (
                line,
                f"`{header[index]}` is `{cells[index]}`, not 0 or 1",
                "a class is there or not; leave out the others",
            )
            for line, cells in rows
            for index in others
            if _flag(cells[index]) is None
        ),
    )
    twice = [name for name, count in Counter(classes).items() if count > 1]
    if twice:
        raise FolderProblem(f"{path}:1: duplicate column `{twice[0]}`", hint="remove or rename one of them")
    sets = [frozenset(header[index] for index in others if _flag(cells[index])) for _, cells in rows]
    return classes, sets, any(len(labels) != 1 for labels in sets)


def _from_cells(path: Path, cells: Sequence[tuple[int, str]]) -> tuple[tuple[str, ...], list[frozenset[str]], bool]:
    """Read labels as text, with a separator that is inferred from all cells."""
    _refuse(path, ((line, "the row has no label", "write one, or remove the row") for line, cell in cells if not cell))
    separator = _separator([cell for _, cell in cells])
    sets = [
        frozenset(part.strip() for part in (cell.split(separator) if separator else [cell]) if part.strip())
        for _, cell in cells
    ]
    _refuse(path, ((line, f"`{cell}` names no class", "write one, or remove the row")
                   for (line, cell), names in zip(cells, sets, strict=True) if not names))  # fmt: skip
    return tuple(sorted(set().union(*sets))), sets, separator is not None


def _separator(cells: Sequence[str]) -> str | None:
    """Return the separator of several labels; None where each cell is one label.

    A space separates only where all parts also occur alone: `early blight` is one class unless there are `early` and
    `blight`.
    """
    for mark in (SEPARATOR, ";"):
        if any(mark in cell for cell in cells):
            return mark
    alone = {cell for cell in cells if " " not in cell}
    spaced = {cell for cell in cells if " " in cell}
    return " " if spaced and all(set(cell.split()) <= alone for cell in spaced) else None


def _flag(cell: str) -> bool | None:
    return {"0": False, "1": True, "0.0": False, "1.0": True, "false": False, "true": True}.get(cell.lower())


def _find_images(table: _Table, images: Sequence[Path], folder: Path) -> dict[Path, _Row]:
    """Return the row of each image. Raises LabelProblems: no such image, several, or two rows that differ."""
    known_images = _KnownImages(images, folder)
    labelled: dict[Path, _Row] = {}
    problems: list[tuple[int, str, str]] = []
    for row in table.rows:
        paths = known_images.called(row.image)
        if len(paths) != 1:
            message, hint = known_images.explain(row.image, paths, guess=len(problems) < _GUESSES)
            problems.append((row.line, message, hint))
            continue
        before = labelled.setdefault(paths[0], row)
        if before.labels != row.labels:
            message = f"`{row.image}` is {_shown(row.labels)} here and {_shown(before.labels)} in line {before.line}"
            problems.append((row.line, message, "keep one of the rows; several labels go into one cell: `rust|scab`"))
    _refuse(table.path, problems)
    return labelled


class _KnownImages:
    """Images by the names that a row may use: with or without folder and suffix."""

    def __init__(self, images: Sequence[Path], folder: Path) -> None:
        self._folder = folder
        self._by_path: dict[str, Path] = {}
        self._by_name: dict[str, list[Path]] = {}
        for path in images:
            inner = PurePosixPath(path.relative_to(folder).as_posix())
            self._by_path[str(inner)] = path
            for name in dict.fromkeys((str(inner.with_suffix("")), inner.name, inner.stem)):
                self._by_name.setdefault(name, []).append(path)

    def called(self, name: str) -> Sequence[Path]:
        """Return the images that `name` may mean. Leading folders that do not exist are ignored."""
        parts = [part for part in PurePosixPath(name.replace("\\", "/")).parts if part not in ("/", "..")]
        while parts:
            inner = "/".join(parts)
            if inner in self._by_path:
                return [self._by_path[inner]]
            if inner in self._by_name:
                return self._by_name[inner]
            if (self._folder / parts[0]).is_dir():
                break  # the folder exists, without the image
            parts.pop(0)
        return []

    def explain(self, name: str, paths: Sequence[Path], *, guess: bool) -> tuple[str, str]:
        """Return message and hint for a row whose image does not exist, or exists more than once."""
        if paths:
            where = ", ".join(path.relative_to(self._folder).as_posix() for path in paths[:3])
            return f"`{name}` may be any of {len(paths)} images: {where}", "write the image with its folder and suffix"
        if not name:
            return "the row names no image", "write one, or remove the row"
        near = difflib.get_close_matches(name, list(self._by_path)[:5000], n=1, cutoff=0.85) if guess else []
        hint = f"did you mean `{near[0]}`?" if near else "add the image, or remove the row"
        return f"there is no image `{name}` in {self._folder}", hint


def _refuse(path: Path, problems: Iterable[tuple[int, str, str]]) -> None:
    listed = [(f"{path}:{line}", message, hint) for line, message, hint in problems]
    if listed:
        raise LabelProblems(listed[:_NOT_WORTH_MORE])


def _refuse_single_images(table: _Table, labelled: Mapping[Path, _Row], *, has_val: bool) -> None:
    """Raise where a class has fewer than one image to train and one to validate, unless val is given."""
    rows: dict[str, list[_Row]] = {name: [] for name in table.classes}
    for row in labelled.values():
        for name in row.labels:
            rows[name].append(row)
    needed = 1 if has_val else 2
    problems = []
    for name, of_class in rows.items():
        if len(of_class) < needed:
            line = of_class[0].line if of_class else 1
            count = "a single image" if of_class else "no image"
            problems.append((line, f"the class `{name}` has {count}", "add images of it, or remove the class"))
    _refuse(table.path, sorted(problems))


def _indices(labels: frozenset[str], classes: Sequence[str]) -> tuple[int, ...]:
    return tuple(index for index, name in enumerate(classes) if name in labels)


def _shown(labels: frozenset[str]) -> str:
    return f"`{SEPARATOR.join(sorted(labels))}`" if labels else "without a label"


def _split_of(path: Path, folder: Path) -> str:
    first = path.relative_to(folder).parts[0]
    return first if first in SPLITS and path.parent != folder else "train"


def _is_for_test(path: Path, folder: Path) -> bool:
    inner = path.relative_to(folder)
    return len(inner.parts) > 1 and inner.parts[0].lower().startswith("test")
