"""Assign images to k folds: classes are spread evenly, and a group of images stays together."""

from __future__ import annotations

import csv
import hashlib
import io
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from cloudrun.imagedata.folders import Dataset, FolderProblem, LabelledFile
from cloudrun.imagedata.holdout import strata_of


def labelled_files(dataset: Dataset) -> tuple[LabelledFile, ...]:
    """Return the images that are assigned to folds: those of train, and of val where the data set has one."""
    return dataset.splits["train"] + dataset.splits.get("val", ())


def fold_of_each(dataset: Dataset, *, folds: int, seed: int, groups: Mapping[Path, str] | None = None) -> list[int]:
    """Return the fold (from 0) in which each of `labelled_files(dataset)` validates, by `seed`, whatever their order.

    Stratified by class, or by set of classes with rare sets pooled, as in `hold_out_for`. `groups`: images of one group
    share a fold; an image without a group forms its own. Raises FolderProblem where all images of a class are in one
    fold: the models that validate there could not learn the class.
    """
    files = labelled_files(dataset)
    if len(files) < folds:
        raise FolderProblem(f"{len(files)} image(s) do not fill {folds} folds", hint="lower `folds`, or add images")
    strata = strata_of(dataset, files, enough=folds)
    draws = [
        hashlib.sha256(f"{seed}/{path.relative_to(dataset.folder).as_posix()}".encode()).digest() for path, _ in files
    ]
    fold_of = _deal_groups(files, strata, draws, folds, groups) if groups else _deal(strata, draws, folds)
    _refuse_lone_classes(dataset, files, fold_of, folds=folds)
    return fold_of


def _deal(strata: Sequence[tuple[int, ...]], draws: Sequence[bytes], folds: int) -> list[int]:
    """Assign each stratum in a drawn order to one fold after the other; the next stratum continues where it ended."""
    fold_of = [0] * len(strata)
    order = sorted(range(len(strata)), key=lambda index: (strata[index], draws[index]))
    for place, index in enumerate(order):
        fold_of[index] = place % folds
    return fold_of


def _deal_groups(
    files: Sequence[LabelledFile],
    strata: Sequence[tuple[int, ...]],
    draws: Sequence[bytes],
    folds: int,
    groups: Mapping[Path, str],
) -> list[int]:
    """Assign the largest groups first, each to the fold that has least of its strata so far."""
    members: dict[str, list[int]] = {}
    for index, (path, _) in enumerate(files):
        members.setdefault(f"group {groups[path]}" if path in groups else f"image {path}", []).append(index)
    if len(members) < folds:
        raise FolderProblem(f"{len(members)} group(s) do not fill {folds} folds", hint="lower `folds`")
    total = Counter(strata)
    held: list[Counter[tuple[int, ...]]] = [Counter() for _ in range(folds)]
    sizes, fold_of = [0] * folds, [0] * len(files)
    for indices in sorted(members.values(), key=lambda group: (-len(group), min(draws[index] for index in group))):
        inside = Counter(strata[index] for index in indices)
        fold = min(
            range(folds),
            key=lambda fold: (sum(held[fold][part] * n / total[part] for part, n in inside.items()), sizes[fold], fold),
        )
        held[fold].update(inside)
        sizes[fold] += len(indices)
        for index in indices:
            fold_of[index] = fold
    return fold_of


def _refuse_lone_classes(dataset: Dataset, files: Sequence[LabelledFile], fold_of: list[int], *, folds: int) -> None:
    folds_with: list[set[int]] = [set() for _ in dataset.classes]
    for (_, label), fold in zip(files, fold_of, strict=True):
        for index in dataset.classes_of(label):
            folds_with[index].add(fold)
    for name, of_class in zip(dataset.classes, folds_with, strict=True):
        if len(of_class) == 1:
            raise FolderProblem(
                f"all images of the class `{name}` are in one of the {folds} folds, whose model cannot learn it",
                hint="add images of that class, or of another group; or remove the class",
            )


def read_groups(path: Path, dataset: Dataset) -> dict[Path, str]:
    """Return the group of each image that the file `path` names.

    A CSV with columns image,group, or a JSON object {image: group}; images are named by their path in the data folder.
    Raises FolderProblem naming the row.
    """
    images = {file.relative_to(dataset.folder).as_posix(): file for file, _ in labelled_files(dataset)}
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as err:
        raise FolderProblem(f"the groups {path} cannot be read: {err}", hint="a CSV file: `image,group`") from None
    rows = _json_rows(path, text) if path.suffix.lower() == ".json" else _csv_rows(path, text)
    groups: dict[Path, str] = {}
    others = {file.relative_to(dataset.folder).as_posix() for file, _ in dataset.splits.get("test", ())}
    for place, image, group in rows:
        if image in others:
            continue
        if image not in images:
            raise FolderProblem(
                f"{place}: there is no labelled image `{image}` in {dataset.folder}",
                hint=f"write its path in the data folder, as `{next(iter(images))}`",
            )
        if groups.setdefault(images[image], group) != group:
            raise FolderProblem(f"{place}: `{image}` is in two groups", hint="keep one of the rows")
    return groups


def find_groups(name: str | None, dataset: Dataset) -> dict[Path, str] | None:
    """Return the groups of the file `name`, or without `name` those of the labels file; None: there are no groups.

    The file is looked for in the data folder, then in the working directory. Raises FolderProblem where it does not
    exist.
    """
    if name is None:
        return dict(dataset.groups) or None
    places = [dataset.folder / name, Path(name).expanduser()]
    for path in places:
        if path.is_file():
            return read_groups(path, dataset)
    raise FolderProblem(f"there is no file of groups {places[0]}", hint="`groups` is a path in the data folder")


def _json_rows(path: Path, text: str) -> list[tuple[str, str, str]]:
    try:
        tree = json.loads(text)
    except json.JSONDecodeError as err:
        raise FolderProblem(f"{path}:{err.lineno}: not valid JSON: {err.msg}", hint='{"image": "group"}') from None
    if not isinstance(tree, dict):
        raise FolderProblem(f"{path} is not a JSON object", hint='write {"image": "group", ...}')
    return [(str(path), str(image), str(group)) for image, group in tree.items()]


def _csv_rows(path: Path, text: str) -> list[tuple[str, str, str]]:
    reader = csv.DictReader(io.StringIO(text, newline=""))
    if not {"image", "group"} <= set(reader.fieldnames or ()):
        columns = ", ".join(reader.fieldnames or ()) or "none"
        raise FolderProblem(f"{path}:1: the columns are {columns}", hint="call two of them `image` and `group`")
    rows = []
    for row in reader:
        if not row["image"] or not row["group"]:
            raise FolderProblem(f"{path}:{reader.line_num}: the row lacks image or group", hint="`image,group`")
        rows.append((f"{path}:{reader.line_num}", row["image"], row["group"]))
    return rows
