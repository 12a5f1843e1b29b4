"""The files of a run that the page is made from, as far as they can be understood."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cloudrun.protocol.machine_use import MachineSample
from cloudrun.protocol.metrics import MetricsRow, metrics_at
from cloudrun.state.details import Details, Stacking, details_at, stacking_at
from cloudrun.state.machine_samples import machine_samples_at
from cloudrun.state.predictions import Predictions, predictions_at
from cloudrun.state.received import Summary, summary_at
from cloudrun.state.thumbnails import Thumbnail, thumbnails_at


@dataclass(frozen=True, slots=True)
class Results:
    """What lies in `folder`. `troubles`: a line for each file of which something is left out."""

    folder: Path
    summary: Summary
    details: Details
    metrics: Sequence[MetricsRow]
    machine: Sequence[MachineSample]
    predictions: Predictions | None
    thumbnails: tuple[Thumbnail, ...]
    stacking: Stacking | None
    troubles: tuple[str, ...]

    @property
    def judged(self) -> Predictions | None:
        """The predictions, where there is at least one."""
        return self.predictions if self.predictions is not None and self.predictions.rows else None


def read_results(folder: Path) -> Results:
    """Read what there is in `folder`."""
    summary, of_summary = summary_at(folder)
    metrics, of_metrics = metrics_at(folder)
    machine, of_machine = machine_samples_at(folder)
    predictions, of_predictions = predictions_at(folder)
    thumbnails, of_thumbnails = thumbnails_at(folder)
    troubles = (of_summary, of_metrics, of_machine, of_predictions, of_thumbnails)
    return Results(
        folder,
        summary,
        details_at(folder),
        metrics,
        machine,
        predictions,
        thumbnails,
        stacking_at(folder),
        tuple(trouble for trouble in troubles if trouble),
    )
