"""Read a file of labels as classes and labelled files of each split, like `list_dataset` does for folders.

    image,label                 image_id,healthy,rust,scab        image,labels
    leaf1.jpg,rust              Train_0,0,1,0                     a.jpg,scab frog_eye_leaf_spot
    leaf2,healthy               Train_1,1,0,0                     b.jpg,scab|rust

Imports no torch: cloudrun names every wrong row before money is spent.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from cloudrun.imagedata.folders import UNLABELLED, Dataset, LabelledFile
from cloudrun.imagedata.image_names import KnownImages
from cloudrun.imagedata.label_columns import GUESSED, Columns, LabelColumns, find_columns, is_flag
from cloudrun.imagedata.label_table import SEPARATOR as SEPARATOR
from cloudrun.imagedata.label_table import Table, no_file, read_table, with_header
from cloudrun.imagedata.vocabulary import (
    SPLITS,
    alike,
    is_missing,
    is_side_folder,
    normal,
    split_of_folder,
    split_of_word,
)
from cloudrun.imagedata.walk import FolderProblem as FolderProblem
from cloudrun.imagedata.walk import Found, walk

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
    labels: frozenset[str] | None  # None: nobody said
    split: str | None
    group: str


@dataclass(frozen=True, slots=True)
class _Labels:
    """What the rows of a table say. `has_several`: an image may have several labels, or none."""

    path: Path
    rows: list[_Row]
    classes: tuple[str, ...]
    has_several: bool
    columns: Columns
    warnings: tuple[str, ...]


def find_labels(name: str, folder: Path, *, beside: Path) -> Path:
    """Return the labels file `name`: in the data `folder`, else beside the job file or in the working directory.

    Raises FolderProblem.
    """
    places = [folder / name, beside / Path(name).expanduser()]
    for path in places:
        if path.is_file():
            return path
    raise no_file(places[0])


def list_labelled(folder: Path, labels: Path, told: LabelColumns = GUESSED, *, found: Found | None = None) -> Dataset:
    """Read the images under `folder` with the classes that the file `labels` says: CSV, TSV or JSON.

    One column names the image (with or without its folder or suffix), another its label, or several
    labels with `|`, `;` or spaces between them; or each class has a column of 0 and 1. A row belongs to
    the split that a column says, or else the first folder of its image; else it trains. A column of groups says
    which images belong together. `told` names columns; the others are guessed, and `Dataset.columns` says which.
    Images without a row are a test set without labels: those in a folder for test where there is one, else all of
    them. `found`: the folder's images, where they are known. Raises LabelProblems with the line of each row that is
    wrong.
    """
    if not folder.is_dir():
        raise FolderProblem(f"there is no data folder {folder}", hint="`--data` takes a folder of images")
    table = read_table(labels)
    found = walk(folder) if found is None else found
    known = KnownImages(found.images, folder)
    said = _read_labels(table, told, known)
    rows = _find_images(said, known)
    return _by_split(folder, found, said, rows)


def _by_split(folder: Path, found: Found, said: _Labels, rows: Mapping[Path, _Row]) -> Dataset:
    sets = tuple(sorted({_indices(row.labels, said.classes) for row in rows.values() if row.labels is not None}))
    place = {names: index for index, names in enumerate(sets)}
    splits: dict[str, list[LabelledFile]] = {name: [] for name in SPLITS}
    for path, row in rows.items():
        split = row.split or _split_of(path, folder)
        if row.labels is None:
            splits[split].append((path, UNLABELLED))
            continue
        indices = _indices(row.labels, said.classes)
        splits[split].append((path, place[indices] if said.has_several else indices[0]))
    aside = [path for path in found.images if path not in rows and _is_aside(path, folder)]
    found.tally.add("images without a row in the label file, in a folder of masks or copies", _names(aside, folder))
    known_aside = set(aside)
    unlisted = [path for path in found.images if path not in rows and path not in known_aside]
    tested = [path for path in unlisted if _is_for_test(path, folder)] or unlisted
    if not splits["test"]:
        splits["test"] = [(path, UNLABELLED) for path in tested]
        taken = set(tested)
        unlisted = [path for path in unlisted if path not in taken]
    if not splits["train"]:
        raise FolderProblem(f"{said.path} has no image to train on", hint="its rows are all of val or test")
    found.tally.add("images without a row in the label file", _names(unlisted, folder))
    found.tally.forget(said.path, folder)
    return Dataset(
        folder,
        said.classes,
        {name: tuple(sorted(files)) for name, files in splits.items() if files},
        label_sets=sets if said.has_several else None,
        left_out=tuple(unlisted),
        groups={path: row.group for path, row in rows.items() if row.group},
        unused=found.tally.result(),
        warnings=said.warnings,
        columns=said.columns,
    )


def _read_labels(table: Table, told: LabelColumns, known: KnownImages) -> _Labels:
    def names_image(cell: str) -> bool:
        return len(known.called(cell, strictly=True)) == 1

    table = with_header(table, names_image)
    path, rows, header = table.path, table.rows, table.header
    columns = find_columns(table, told, names_image)
    _refuse(path, ((line, f"{len(cells)} cells, and the header has {len(header)}", "quote cells that hold a comma")
                   for line, cells in rows if len(cells) != len(header)))  # fmt: skip
    if not rows:
        raise FolderProblem(f"{path} has no rows under its header", hint="a row an image: `image,label`")
    used = [place for place in (columns.image, columns.label) if place is not None]
    unclosed = "look for a quote that is not closed"
    _refuse(path, ((line, f"a cell runs over {len(cells[place].splitlines())} lines", unclosed)
                   for line, cells in rows for place in used if "\n" in cells[place]))  # fmt: skip
    twice = [header[place] for place in columns.classes if header.count(header[place]) > 1]
    if twice:
        raise FolderProblem(f"{path}:1: duplicate column `{twice[0]}`", hint="remove or rename one of them")
    splits = _splits(path, rows, columns)
    may_lack = {line for (line, _), split in zip(rows, splits, strict=True) if split == "test"}
    warnings = [*table.notes, *_of_unused_splits(path, columns)]
    if columns.label is None:
        classes, sets, has_several = _from_columns(path, rows, columns, may_lack, warnings)
    else:
        cells = [(line, normal(row[columns.label])) for line, row in rows]
        classes, sets, has_several = _from_cells(path, cells, told.separator, may_lack)
    if len(classes) < 2:
        raise FolderProblem(
            f"{path} has {len(classes)} class(es): {', '.join(classes)}; at least 2 are needed",
            hint="a column `label` with the class of each image, or a column of 0 and 1 for each class",
        )
    warnings += [
        f"classes that only case, spaces or hyphens tell apart: {', '.join(group)}" for group in alike(classes)
    ]
    group_at = columns.group
    groups = ["" if group_at is None or is_missing(cells[group_at]) else cells[group_at] for _, cells in rows]
    said = [
        _Row(line, cells[columns.image], labels, split, group)
        for (line, cells), labels, split, group in zip(rows, sets, splits, groups, strict=True)
    ]
    return _Labels(path, said, classes, has_several, columns, tuple(warnings))


def _of_unused_splits(path: Path, columns: Columns) -> list[str]:
    unused = columns.unused_splits if columns.split is None else []
    if not unused:
        return []
    names = ", ".join(unused)
    way_out = "the cells of `labels: {split: COLUMN}` are train, val or test, and `folds` are dealt anew"
    return [f"column(s) of {path.name} that may say which images train are not used: {names}; {way_out}"]


def _splits(path: Path, rows: Sequence[tuple[int, list[str]]], columns: Columns) -> list[str | None]:
    at = columns.split
    if at is None:
        return [None] * len(rows)
    if columns.split_is_flag:
        return ["val" if is_flag(cells[at]) else "train" for _, cells in rows]
    _refuse(path, ((line, f"`{cells[at]}` is not a split", "write train, val or test")
                   for line, cells in rows
                   if not is_missing(cells[at]) and split_of_word(cells[at]) is None))  # fmt: skip
    return [split_of_word(cells[at]) for _, cells in rows]


_Read = tuple[tuple[str, ...], list[frozenset[str] | None], bool]
"""Classes, the labels of each row, and whether an image may have several."""


def _from_columns(
    path: Path, rows: Sequence[tuple[int, list[str]]], columns: Columns, may_lack: set[int], warnings: list[str]
) -> _Read:
    """A class a column of 0 and 1. Exactly one 1 in every row: an image has one label."""
    names = {place: normal(columns.header[place]) for place in columns.classes}
    _refuse(
        path,
        (
            (line, f"`{names[place]}` is `{cells[place]}`, not 0 or 1", "a class is there or not; leave out the others")
            for line, cells in rows
            if line not in may_lack or not all(is_missing(cells[one]) for one in names)
            for place in names
            if is_flag(cells[place]) is None
        ),
    )
    sets = [
        None if line in may_lack and all(is_missing(cells[one]) for one in names)
        else frozenset(name for place, name in names.items() if is_flag(cells[place]))
        for line, cells in rows
    ]  # fmt: skip
    used = set().union(*(one for one in sets if one is not None))
    empty = [name for name in names.values() if name not in used]
    if empty:
        warnings.append(f"column(s) of {path.name} without any 1 are no classes: {', '.join(empty)}")
    classes = tuple(name for name in names.values() if name in used)
    return classes, sets, any(one is not None and len(one) != 1 for one in sets)


def _from_cells(path: Path, cells: Sequence[tuple[int, str]], told: str | None, may_lack: set[int]) -> _Read:
    """Labels as text, with what separates several of them found out from all cells together, where it is not told."""
    cells = [(line, _without_braces(cell)) for line, cell in cells]
    separator = told if told is not None else _separator(path, [cell for _, cell in cells])
    hint = "write one, or remove the row; if it is the name of a class, write it otherwise"
    if separator:
        hint = "write one, or remove the row; for images that have none of the classes, a column of 0 and 1 a class"
    _refuse(path, ((line, f"the row has no label{f': `{cell}` means that it is missing' if cell else ''}", hint)
                   for line, cell in cells if is_missing(cell) and line not in may_lack))  # fmt: skip
    whole = [cell for _, cell in cells if not is_missing(cell)]
    if whole and all(re.fullmatch(r"-?\d+\.0*", cell) for cell in whole):
        cells = [(line, cell.partition(".")[0]) for line, cell in cells]
    sets = [None if is_missing(cell) else _parts(cell, separator) for _, cell in cells]
    _refuse(path, ((line, f"`{cell}` names no class", "write one, or remove the row")
                   for (line, cell), names in zip(cells, sets, strict=True)
                   if names is not None and not names))  # fmt: skip
    classes = sorted(set().union(*(one for one in sets if one is not None)))
    return tuple(classes), sets, bool(separator)


def _parts(cell: str, separator: str | None) -> frozenset[str]:
    parts = cell.split() if separator == " " else cell.split(separator) if separator else [cell]
    return frozenset(part.strip() for part in parts if part.strip())


def _without_braces(cell: str) -> str:
    """Several labels that an export wrote as JSON or as a list of Python: with SEPARATOR between them."""
    if cell[:1] not in ("{", "["):
        return cell
    try:
        value = json.loads(cell if '"' in cell else cell.replace("'", '"'))
    except ValueError:
        return cell
    if isinstance(value, dict):
        value = value.get("choices")
    return SEPARATOR.join(map(str, value)) if isinstance(value, list) else cell


def _separator(path: Path, cells: Sequence[str]) -> str | None:
    """What stands between several labels; None where each cell is one label.

    A space separates only where all that it separates also stands alone somewhere: `early blight` is one class
    unless there are `early` and `blight`. Raises FolderProblem where the cells look like several labels all the same.
    """
    for mark in (SEPARATOR, ";"):
        if any(mark in cell for cell in cells):
            return mark
    alone = {cell for cell in cells if " " not in cell}
    spaced = {cell for cell in cells if " " in cell}
    if spaced and all(set(cell.split()) <= alone for cell in spaced):
        return " "
    commas = [cell for cell in {*alone, *spaced} if "," in cell]
    shared = Counter(part for cell in commas for part in _parts(cell, ","))
    if len(commas) > 1 and not all(map(_is_decimal, commas)) and any(count > 1 for count in shared.values()):
        some = ", ".join(f"`{cell}`" for cell in sorted(commas)[:3])
        raise FolderProblem(
            f"{path}: cells with commas share words ({some}): these may be several labels, or one each",
            hint=f"say which: `labels: {{file: {path.name}, separator: ','}}` for several, or `separator: ''`",
        )
    parts = {part for cell in {*spaced, *alone} for part in cell.split()}
    if len(spaced) > 1 and (len(parts) < len(spaced) or _is_within_another(spaced)):
        some = ", ".join(f"`{cell}`" for cell in sorted(spaced)[:3])
        raise FolderProblem(
            f"{path}: cells share words ({some}): these may be several labels with spaces between them, or one each",
            hint=f"say which: `labels: {{file: {path.name}, separator: ' '}}` for several, or `separator: ''`",
        )
    return None


def _is_decimal(cell: str) -> bool:
    return re.fullmatch(r"-?\d+,\d+", cell) is not None


def _is_within_another(spaced: Iterable[str]) -> bool:
    """Whether all words of a cell stand in a larger one, not as its beginning or end: no name of a class is so."""
    sets = [(cell, set(cell.split())) for cell in sorted(spaced)][:500]
    return any(
        small < large and not (whole.startswith(f"{cell} ") or whole.endswith(f" {cell}"))
        for cell, small in sets
        for whole, large in sets
    )


def _find_images(said: _Labels, known: KnownImages) -> dict[Path, _Row]:
    """Return the row of each image. Raises LabelProblems: no such image, several, or two rows that differ."""
    found: dict[Path, _Row] = {}
    problems: list[tuple[int, str, str]] = []
    for row in said.rows:
        paths = known.called(row.image)
        if len(paths) > 1:  # masks and smaller copies have the names of their images
            paths = [path for path in paths if not _is_aside(path, known.folder)] or paths
        if len(paths) != 1:
            message, hint = known.explain(row.image, paths, guess=len(problems) < _GUESSES)
            problems.append((row.line, message, hint))
            continue
        before = found.setdefault(paths[0], row)
        if before.labels != row.labels:
            message = f"`{row.image}` is {_shown(row.labels)} here and {_shown(before.labels)} in line {before.line}"
            problems.append((row.line, message, "keep one of the rows; several labels go into one cell: `rust|scab`"))
    _refuse(said.path, problems)
    return found


def _refuse(path: Path, problems: Iterable[tuple[int, str, str]]) -> None:
    listed = [(f"{path}:{line}", message, hint) for line, message, hint in problems]
    if listed:
        raise LabelProblems(listed[:_NOT_WORTH_MORE])


def _indices(labels: frozenset[str], classes: Sequence[str]) -> tuple[int, ...]:
    return tuple(index for index, name in enumerate(classes) if name in labels)


def _shown(labels: frozenset[str] | None) -> str:
    return f"`{SEPARATOR.join(sorted(labels))}`" if labels else "without a label"


def _names(paths: Sequence[Path], folder: Path) -> list[str]:
    return [path.relative_to(folder).as_posix() for path in paths]


def _split_of(path: Path, folder: Path) -> str:
    """Return the split that a folder around an image names; of several folders, the outermost decides."""
    for name in path.relative_to(folder).parts[:-1]:
        split = split_of_word(name) or split_of_folder(name)
        if split is not None:
            return split
    return "train"


def _is_aside(path: Path, folder: Path) -> bool:
    return any(is_side_folder(name) for name in path.relative_to(folder).parts[:-1])


def _is_for_test(path: Path, folder: Path) -> bool:
    inner = path.relative_to(folder)
    if _split_of(path, folder) == "test":
        return True
    return len(inner.parts) > 1 and inner.parts[0].lower().startswith("test")
