"""A job file for a data set that was looked at. Pure."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import yaml

from cloudrun.dataset.audit import Findings
from cloudrun.imagedata.label_columns import GUESSED, LabelColumns
from cloudrun.imagedata.unused import printable
from cloudrun.text.names import name_from
from cloudrun.text.units import size

# One or another of these is to be had on every cloud that rents GPUs: A100 is any A100, and AWS has it by eights alone.
DEFAULT_GPUS = ("A100:1", "L40S:1", "RTX5090:1", "RTX4090:1", "A10G:1")


def job_text(
    findings: Findings,
    *,
    relative_to: Path,
    gpu: Sequence[str],
    classes: str = "auto",
    columns: LabelColumns = GUESSED,
) -> str:
    """YAML with the champion recipe for the images, what to look at first as comments.

    The folder is named relative to the file's. `classes`: which folders are the classes, as `data.classes`; `columns`:
    what was told of the file of labels.
    """
    survey = findings.survey
    folder = os.path.relpath(survey.folder, relative_to.absolute())
    splits = ", ".join(f"{count} {split}" for split, count in survey.images_by_split().items())
    base = survey.folder if survey.labels and survey.labels.is_relative_to(survey.folder) else relative_to.absolute()
    labels = f"  labels: {_labels_text(os.path.relpath(survey.labels, base), columns)}\n" if survey.labels else ""
    chosen = f"  classes: {classes}\n" if classes != "auto" else ""
    names = sorted({name for counts in survey.counts.values() for name in counts})
    held_out = "" if "val" in survey.counts else "; a tenth of train is held out for validation"
    several = " (an image may have several)" if survey.has_several else ""
    comments = "".join(f"# look at this: {printable(warning)}\n" for warning in findings.warnings())
    return f"""\
# {splits} images ({size(survey.size_bytes)}) of {len(names)} classes{several}: {printable(_short(names))}{held_out}
{comments}name: {yaml_text(name_from(survey.folder))}
gpu: [{", ".join(gpu)}]   # in order of preference; A100 is any A100, the cheapest
data:
  source: {yaml_text(folder)}
{labels}{chosen}train:
  backbones: [efficientnet_b3, resnest50d]
  image_size: 224
  epochs: 30
  lr: 3.0e-4
  weight_decay: 1.0e-2               # 1e-4 .. 1e-2
  dropout: 0.3                       # 0.2 .. 0.5
  label_smoothing: 0.1               # 0.05 .. 0.2
budget: {{max_cost: 5.00, max_hours: 4}}
"""


def yaml_text(text: str) -> str:
    """A text as YAML writes it within a line: quoted where it would be read as anything else."""
    return str(yaml.safe_dump([text], default_flow_style=True, allow_unicode=True, width=10_000)).strip()[1:-1]


def _labels_text(file: str, columns: LabelColumns) -> str:
    told = {key: value for key, value in asdict(columns).items() if value is not None}
    if not told:
        return yaml_text(file)
    plain = {key: list(value) if isinstance(value, tuple) else value for key, value in {"file": file, **told}.items()}
    return yaml.safe_dump(plain, default_flow_style=True, allow_unicode=True, width=10_000, sort_keys=False).strip()


def _short(names: Sequence[str]) -> str:
    return ", ".join(names) if len(names) <= 6 else f"{', '.join(names[:5])} and {len(names) - 5} more"
