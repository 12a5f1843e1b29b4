"""Give training images the probabilities that a teacher gave them, beside or in place of their label."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cloudrun.imagedata.folders import Dataset, LabelledFile
from cloudrun.imagedata.soft_labels import Probabilities, SoftLabels, read_soft_labels
from cloudrun.recipe.train_config import TrainConfig


class SoftTargets:
    """Rows (1 + classes) of files by index: the share of the probabilities in the target, then the probabilities."""

    def __init__(self, files: Sequence[LabelledFile], soft: SoftLabels, *, weight: float, classes: int) -> None:
        """`weight`: the share of the probabilities where an image has a label, too."""
        rows = [(0.0,) * (1 + classes)]
        self._place = np.zeros(len(files), dtype=np.int64)
        for index, (path, _) in enumerate(files):
            share, row = (1.0, soft.extra[path]) if path in soft.extra else (weight, soft.of_labelled.get(path))
            if row is not None:
                self._place[index] = len(rows)
                rows.append((share, *row))
        self._rows = np.array(rows, dtype=np.float32)

    def __len__(self) -> int:
        """Return how many images have a row of their own."""
        return len(self._rows) - 1

    def row(self, index: int) -> NDArray[np.float32]:
        """Return float32 (1 + classes); zeros for an image without probabilities."""
        row: NDArray[np.float32] = self._rows[self._place[index]]
        return row


@dataclass(frozen=True, slots=True)
class SoftSummary:
    """How many training images have soft labels, and how many of these train by them alone."""

    images: int
    pseudo_labelled: int
    weight: float
    warnings: tuple[str, ...]

    def lines(self) -> list[str]:
        """Return the lines of the log's head."""
        labelled = self.images - self.pseudo_labelled
        counted = (
            f"soft labels: {labelled} labelled image(s) with a share of {self.weight:g}, and {self.pseudo_labelled}"
            " pseudo-labelled image(s), which are among the training images"
        )
        return [counted, *(f"warning: {warning}" for warning in self.warnings)]

    def as_plain(self) -> dict[str, object]:
        return {"images": self.images, "pseudo_labelled": self.pseudo_labelled, "warnings": list(self.warnings)}


def soft_labels_for(dataset: Dataset, config: TrainConfig) -> SoftLabels | None:
    """Return what the config's files say, of the data folder or the working directory; None: there are none."""
    if not config.soft_labels:
        return None
    return read_soft_labels(config.soft_labels, dataset, beside=Path(), folds=config.folds)


def pseudo_labelled(soft: SoftLabels | None, dataset: Dataset) -> list[LabelledFile]:
    """Return the images that train by their probabilities alone, each with the label that is nearest to them.

    The label counts for the sampler, the weights of classes and the training accuracy; not for the loss.
    """
    extra = {} if soft is None else soft.extra
    return sorted((path, _nearest(row, dataset)) for path, row in extra.items())


def _nearest(row: Probabilities, dataset: Dataset) -> int:
    if dataset.label_sets is None:
        return max(range(len(row)), key=lambda index: row[index])

    def distance(label: int) -> float:
        present = dataset.classes_of(label)
        return sum(1 - value if index in present else value for index, value in enumerate(row))

    return min(range(len(dataset.label_sets)), key=distance)
