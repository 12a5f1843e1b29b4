"""The one way to read a data set, for the check on the laptop and for the trainer."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from cloudrun.imagedata.folders import Dataset, list_dataset
from cloudrun.imagedata.label_columns import GUESSED, LabelColumns
from cloudrun.imagedata.labels import list_labelled
from cloudrun.imagedata.layout import ClassFolders
from cloudrun.imagedata.walk import FolderProblem


@dataclass(frozen=True, slots=True)
class Reading:
    """How a data folder is to be read. `labels`: a file; None: folders say the classes, and `classes` says which."""

    labels: Path | None = None
    columns: LabelColumns = GUESSED
    classes: ClassFolders = "auto"


def read_dataset(folder: Path, reading: Reading | Path | None = None) -> Dataset:
    """Read the images under `folder`. A path alone is a file of labels. Raises FolderProblem naming the place."""
    if not isinstance(reading, Reading):
        reading = Reading(reading)
    if reading.labels is None:
        return list_dataset(folder, classes=reading.classes)
    return list_labelled(folder, reading.labels, reading.columns)


def columns_text(columns: LabelColumns) -> str:
    """Return what is told of a label file's columns as one word of a command line."""
    return json.dumps({key: value for key, value in asdict(columns).items() if value is not None}, ensure_ascii=False)


def columns_from(text: str) -> LabelColumns:
    """Read what `columns_text` wrote. Raises FolderProblem where it is something else."""
    try:
        tree: dict[str, Any] = json.loads(text)
        label = tree.pop("label", None)
        return LabelColumns(label=tuple(label) if isinstance(label, list) else label, **tree)
    except (ValueError, TypeError, AttributeError) as err:
        raise FolderProblem(
            f"`--columns {text}` says nothing of columns: {err}",
            hint='write \'{"image": "id_code", "label": "diagnosis"}\'',
        ) from None
