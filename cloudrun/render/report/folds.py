"""Folds, and what stacking made of them. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from cloudrun.render.report.results import Results
from cloudrun.state.details import Calibration, Rates

_FOLDS_SHOWN = 100
_METHODS_SHOWN = 30


@dataclass(frozen=True, slots=True)
class FoldsSection:
    """A row for each fold and for all of them; of stacking, a row for each method."""

    folds: tuple[Rates, ...]
    together: Rates | None
    calibration: Calibration | None
    methods: tuple[tuple[str, Rates], ...]
    chosen: str
    metric: str


def folds_section(results: Results) -> FoldsSection | None:
    """None where the run has no folds, and no stacking."""
    details, stacking = results.details, results.stacking
    if not details.per_fold and not (stacking and stacking.methods):
        return None
    return FoldsSection(
        tuple((details.per_fold or [])[:_FOLDS_SHOWN]),
        details.out_of_fold,
        details.calibration,
        tuple(stacking.methods.items())[:_METHODS_SHOWN] if stacking else (),
        (stacking.chosen or "") if stacking else "",
        (stacking.metric or "") if stacking else "",
    )
