"""Hold out validation images where the data set names none."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from cloudrun.imagedata.folders import Dataset, FolderProblem, LabelledFile, hold_out

_Stratum = tuple[int, ...]


def hold_out_for(
    dataset: Dataset, *, fraction: float, seed: int, groups: Mapping[Path, str] | None = None
) -> tuple[list[int], list[int]]:
    """Return the indices into `dataset.splits["train"]` that train, and those held out: `fraction` of each class.

    Where an image may have several classes, `fraction` of each set of classes. A set that is too rare is pooled with
    other sets that have the same rarest class; an image that is still alone trains. `groups`: images of one group are
    held out together or not at all. Raises FolderProblem where that leaves no image to validate.
    """
    files = dataset.splits["train"]
    if groups:
        return _hold_out_groups(dataset, files, groups, fraction=fraction, seed=seed)
    if dataset.label_sets is None:
        return hold_out(files, fraction=fraction, seed=seed)
    strata = strata_of(dataset, files, enough=round(1 / fraction))
    sizes = Counter(strata)
    drawn = [index for index in range(len(files)) if sizes[strata[index]] > 1]
    names = sorted(sizes)
    _, val = hold_out([(files[index][0], names.index(strata[index])) for index in drawn], fraction=fraction, seed=seed)
    held = {drawn[index] for index in val}
    return [index for index in range(len(files)) if index not in held], sorted(held)


def strata_of(dataset: Dataset, files: Sequence[LabelledFile], *, enough: int) -> list[_Stratum]:
    """Return for each file the set of classes that it is drawn with.

    A set of one class stands for all rare sets with it. A set with fewer than `enough` images is rare. With one class
    an image, the set is that class.
    """
    if dataset.label_sets is None:
        return [(label,) for _, label in files]
    images_of_set = Counter(label for _, label in files)
    images_of_class = dataset.count_classes(files)
    strata = []
    for _, label in files:
        classes = dataset.label_sets[label]
        if images_of_set[label] >= enough or not classes:
            strata.append(classes)
        else:
            strata.append((min(classes, key=lambda index: (images_of_class[index], index)),))
    return strata


def _hold_out_groups(
    dataset: Dataset, files: Sequence[LabelledFile], groups: Mapping[Path, str], *, fraction: float, seed: int
) -> tuple[list[int], list[int]]:
    """Hold out whole groups, in a drawn order, while they bring the classes nearer to their share.

    Then the smallest group of each class that has none yet. At least one group of each class trains.
    """
    strata = strata_of(dataset, files, enough=round(1 / fraction))
    members: dict[str, list[int]] = {}
    for index, (path, _) in enumerate(files):
        name = f"group {groups[path]}" if path in groups else f"image {path.relative_to(dataset.folder).as_posix()}"
        members.setdefault(name, []).append(index)
    inside = {name: Counter(strata[index] for index in indices) for name, indices in members.items()}
    groups_left = Counter(stratum for counts in inside.values() for stratum in counts)
    wanted = {
        stratum: max(1, round(count * fraction)) if groups_left[stratum] > 1 else 0
        for stratum, count in Counter(strata).items()
    }
    held: Counter[_Stratum] = Counter()
    chosen: set[str] = set()

    def take(name: str) -> None:
        chosen.add(name)
        held.update(inside[name])
        groups_left.subtract(inside[name].keys())

    def may_go(name: str) -> bool:
        return name not in chosen and all(groups_left[stratum] > 1 for stratum in inside[name])

    def brings_nearer(name: str) -> bool:
        parts = inside[name].items()
        before = sum(abs(wanted[stratum] - held[stratum]) for stratum, _ in parts)
        return sum(abs(wanted[stratum] - held[stratum] - count) for stratum, count in parts) < before

    order = sorted(members, key=lambda name: hashlib.sha256(f"{seed}/{name}".encode()).digest())
    for name in order:
        if may_go(name) and brings_nearer(name):
            take(name)
    for stratum in sorted(wanted):
        if wanted[stratum] and not held[stratum]:
            free = [name for name in order if inside[name][stratum] and may_go(name)]
            if free:
                take(min(free, key=lambda name: len(members[name])))
    if not chosen:
        raise FolderProblem(
            f"no group of images can be held out to validate: of the {len(members)} groups, each has a class that no"
            " other group has",
            hint="add images, or a val folder; or name a column that is no group: `labels: {group: COLUMN}`",
        )
    val = sorted(index for name in chosen for index in members[name])
    kept = set(val)
    return [index for index in range(len(files)) if index not in kept], val
