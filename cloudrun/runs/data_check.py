"""What is remembered of the look at the images before a launch: the report says what a score rests on. Pure."""

from __future__ import annotations

from cloudrun.dataset.audit import Findings
from cloudrun.dataset.survey import Survey
from cloudrun.state.records import DataCheck

_WARNINGS = 20
_LONGEST = 500
_CLASSES = 300  # the ledger's records are read by every command


def data_check_of(survey: Survey | None, findings: Findings | None) -> DataCheck | None:
    """None where the images are not on this computer."""
    if survey is None:
        return None
    classes = {name for split in survey.counts.values() for name in split}
    return DataCheck(
        counts=survey.counts if len(classes) <= _CLASSES else None,
        were_compared=findings is not None and findings.look.compared > 0,
        warnings=tuple(line[:_LONGEST] for line in findings.warnings()[:_WARNINGS]) if findings is not None else (),
    )
