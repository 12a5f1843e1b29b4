"""What a run's results say for the report page alone: the rest of `summary.json`, and `stacking.json`.

`received.summary_at` says what is wrong with `summary.json`; here, what cannot be understood is left out.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from cloudrun.files.untrusted import LARGEST_RESULT_BYTES, Unreadable, parse_object, read_limited
from cloudrun.protocol.outputs import STACKING, SUMMARY
from cloudrun.state.received import Model, Number, understood

Count = Annotated[int, Field(ge=0, le=10**12)]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", strict=True, allow_inf_nan=False)


class Rates(_Part):
    """How right one fold, or one way to stack, is."""

    fold: int | None = None
    images: Count | None = None
    accuracy: Number | None = None
    macro_f1: Number | None = None
    log_loss: Number | None = None
    roc_auc: Number | None = None


class Calibration(_Part):
    """The temperature that fits the probabilities best, and the log loss without and with it."""

    temperature: Number | None = None
    log_loss_before: Number | None = None
    log_loss_after: Number | None = None
    is_applied: bool = False


class UnusedFiles(_Part):
    """Files of the data set that are not used, and why."""

    reason: str
    count: Count
    examples: list[str] = Field(default_factory=list)


class Details(_Part):
    """The part of `summary.json` that says what was trained, on what, with which versions."""

    images: dict[str, Count] | None = None
    test_metric: Number | None = None
    epochs: Count | None = None
    stopped_early: bool | None = None
    device: str | None = None
    gpu: str | None = None
    processes: Count | None = None
    precision: str | None = None
    batch_size: Count | None = None
    is_compiled: bool | None = None
    backbones: list[str] | None = None
    parameters: Count | None = None
    versions: dict[str, str] | None = None
    per_fold: list[Rates] | None = None
    out_of_fold: Rates | None = None
    calibration: Calibration | None = None
    unused_files: list[UnusedFiles] | None = None


class Stacking(_Part):
    """The part of `stacking.json` that is shown."""

    chosen: str | None = None
    metric: str | None = None
    methods: dict[str, Rates] = Field(default_factory=dict)


def details_at(folder: Path) -> Details:
    """What `summary.json` in `folder` says beside its scores."""
    return _read(folder / SUMMARY, Details) or Details()


def stacking_at(folder: Path) -> Stacking | None:
    """What `stacking.json` in `folder` says; None where there is none that can be understood."""
    return _read(folder / STACKING, Stacking)


def _read(path: Path, model: type[Model]) -> Model | None:
    try:
        content = read_limited(path, LARGEST_RESULT_BYTES)
        if content is None:
            return None
        return understood(model, parse_object(content, largest_bytes=LARGEST_RESULT_BYTES))[0]
    except Unreadable:
        return None
