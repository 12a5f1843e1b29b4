"""Count classes and images by the names of files: what the trainer will find, before a byte is fetched. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import PurePosixPath

from cloudrun.imagedata.layout import UNLABELLED, ClassFolders, lay_out
from cloudrun.imagedata.unused import LITTER, Tally, Unused, printable
from cloudrun.imagedata.vocabulary import is_litter_folder, suffix_of
from cloudrun.imagedata.walk import FolderProblem, Parts, reason_to_skip
from cloudrun.sources import SourceProblem

_LABEL_SUFFIXES = (".csv", ".tsv", ".json")


@dataclass(frozen=True, slots=True)
class Layout:
    """What `dataset.survey.Survey` is for a folder, for files that are elsewhere."""

    counts: dict[str, dict[str, int]]  # split -> class -> images
    unlabelled_test: int
    size_bytes: int
    unused: tuple[Unused, ...] = ()
    warnings: tuple[str, ...] = ()


def layout_of(files: Iterable[tuple[str, int]], shown: str, *, classes: ClassFolders = "auto") -> Layout:
    """Read the splits and classes of `files`, path and bytes of each, as the trainer will read them.

    A path that ends with a slash is a folder.

    Raises SourceProblem where the trainer could not tell classes apart.
    """
    tally = Tally()
    images: list[tuple[str, ...]] = []
    total = without_suffix = 0
    label_files = []
    folders: dict[Parts, bool] = {}  # whether an image lies in it, at any depth
    by_name = {name.replace("\\", "/"): size for name, size in files}  # of two of one name, the last one stays
    for name, size in sorted(by_name.items()):
        parts = PurePosixPath(name).parts
        if not parts:
            continue
        within = parts if name.endswith("/") else parts[:-1]
        if not any(map(is_litter_folder, within)):
            folders.update(
                {within[:depth]: False for depth in range(1, len(within) + 1) if within[:depth] not in folders}
            )
        if within == parts:
            continue
        reason = LITTER if any(map(is_litter_folder, parts[:-1])) else reason_to_skip(parts[-1])
        if reason is not None:
            tally.add(reason, ["/".join(parts)])
            if reason != LITTER and suffix_of(parts[-1]) in _LABEL_SUFFIXES:
                label_files.append("/".join(parts))
            continue
        images.append(parts)
        folders.update({parts[:depth]: True for depth in range(1, len(parts))})
        total += size
        without_suffix += not suffix_of(parts[-1])
    try:
        empty = sorted(parts for parts, has_images in folders.items() if not has_images)
        layout = lay_out(images, shown=shown, tally=tally, empty=empty, classes=classes)
    except FolderProblem as err:
        there = f"; label files there: {', '.join(map(printable, label_files[:5]))}" if label_files else ""
        raise SourceProblem(err.message, hint=f"{err.hint}{there}") from None
    counts: dict[str, dict[str, int]] = {}
    unlabelled = 0
    for split, of_split in layout.splits.items():
        if any(label == UNLABELLED for _, label in of_split):
            unlabelled += len(of_split)
            continue
        of_class = counts[split] = {}
        for _, label in of_split:
            of_class[layout.classes[label]] = of_class.get(layout.classes[label], 0) + 1
    warnings = list(layout.warnings)
    if without_suffix:
        warnings.append(
            f"{without_suffix} file(s) have no suffix: the machine looks into them, and uses those that are images"
        )
    return Layout(counts, unlabelled, total, tally.result(), tuple(warnings))
