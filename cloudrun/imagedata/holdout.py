"""Hold out validation images where the data set names none."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from cloudrun.imagedata.folders import Dataset, LabelledFile, hold_out


def hold_out_for(dataset: Dataset, *, fraction: float, seed: int) -> tuple[list[int], list[int]]:
    """Return the indices into `dataset.splits["train"]` that train, and those held out: `fraction` of each class.

    Where an image may have several classes, `fraction` of each set of classes. A set that is too rare is pooled with
    other sets that have the same rarest class; an image that is still alone trains. Raises FolderProblem as `hold_out`
    does.
    """
    files = dataset.splits["train"]
    if dataset.label_sets is None:
        return hold_out(files, fraction=fraction, seed=seed)
    strata = strata_of(dataset, files, enough=round(1 / fraction))
    sizes = Counter(strata)
    drawn = [index for index in range(len(files)) if sizes[strata[index]] > 1]
    names = sorted(sizes)
    _, val = hold_out([(files[index][0], names.index(strata[index])) for index in drawn], fraction=fraction, seed=seed)
    held = {drawn[index] for index in val}
    return [index for index in range(len(files)) if index not in held], sorted(held)


def strata_of(dataset: Dataset, files: Sequence[LabelledFile], *, enough: int) -> list[tuple[int, ...]]:
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
