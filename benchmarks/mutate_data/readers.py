"""A data set read twice: by the check on the laptop, and by the trainer with what reaches it there."""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path
from random import Random
from typing import Any

from benchmarks.mutate_data.verdicts import Disagreement, Outcome, agree
from cloudrun.dataset.survey import survey_folder
from cloudrun.errors import CloudrunError
from cloudrun.imagedata.dataset import Reading, columns_from, columns_text, read_dataset
from cloudrun.imagedata.folders import Dataset
from cloudrun.protocol.run_folder import LABELS
from cloudrun.recipe.train_config import TrainConfig
from trainer.data.loader import check_headers
from trainer.data.unreadable import Unreadable
from trainer.session.build import digest_of, train_and_val

Counts = dict[str, Counter[str]]
Unused = list[dict[str, Any]]
Read = tuple[Counts, Unused, str | None]


def compare_readers(data: Path, reading: Reading, dice: Random) -> Outcome:
    """Read `data` as `check` does and as the trainer does, with one split or another. Raises Disagreement."""
    train = TrainConfig(folds=dice.choice((0, 0, 0, 2, 3)), val_fraction=dice.choice((0.1, 0.3)))
    checked, passed_over, why_not = _checked(data, reading, train)
    trained, unused, reason = _trained(data, reading, train)
    outcome = agree(why_not, reason, shown(data))
    if checked != trained:
        raise Disagreement(f"check counts {checked}, the trainer {trained}: {shown(data)}")
    if passed_over != unused:
        raise Disagreement(f"check says {passed_over} of unused files, the trainer {unused}: {shown(data)}")
    return outcome


def shown(data: Path) -> str:
    """Return the paths below a folder, as one line."""
    paths = sorted(path.relative_to(data).as_posix() for path in data.rglob("*") if not path.is_dir())
    return repr(paths[:40])


def _checked(data: Path, reading: Reading, train: TrainConfig) -> Read:
    try:
        survey = survey_folder(data, custom=False, reading=reading, train=train)
    except CloudrunError as err:
        return {}, [], f"{err.message} ({err.hint})"
    assert survey is not None
    counts: Counts = {}
    for image in survey.files:
        counts.setdefault(image.split, Counter())[image.label] += 1
    return counts, [one.as_plain() for one in survey.unused], None


def _trained(data: Path, reading: Reading, train: TrainConfig) -> Read:
    """Read it where it trains: the label file has another place and name there, its columns are one word."""
    labels = reading.labels
    if labels is not None:
        labels = data.parent / LABELS
        shutil.copy(str(reading.labels), labels)
    try:
        dataset = read_dataset(data, Reading(labels, columns_from(columns_text(reading.columns)), reading.classes))
        _split_and_open(dataset, train)
    except CloudrunError as err:
        return {}, [], f"{err.message} ({err.hint})"
    counts: Counts = {}
    for split, files in dataset.splits.items():
        for _, label in files:
            names = "|".join(dataset.classes[index] for index in dataset.classes_of(label))
            counts.setdefault(split, Counter())[names] += 1
    return counts, [one.as_plain() for one in dataset.unused], None


def _split_and_open(dataset: Dataset, train: TrainConfig) -> None:
    """Do what a run does before its first step, without the model."""
    for fold in range(train.folds or 1):
        of_fold = train.model_copy(update={"fold": fold})
        trains, validates = train_and_val(dataset, of_fold)
        digest_of(dataset, of_fold)
        if not trains or not validates:
            raise Disagreement(f"{len(trains)} images train, {len(validates)} validate")
        unreadable = Unreadable(images=len(trains) + len(validates), share=train.max_unreadable)
        check_headers([*trains, *validates], unreadable)
    check_headers(dataset.splits.get("test", ()))
