"""What the score rests on: how many images judged it, what was wrong with the images, what the trainer found. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cloudrun.protocol.outputs import OUT_OF_FOLD
from cloudrun.render.report.rating import accuracy, accuracy_interval
from cloudrun.render.report.results import Results
from cloudrun.render.report.wording import percent
from cloudrun.state.details import UnusedFiles
from cloudrun.state.predictions import Predictions
from cloudrun.state.received import Finding
from cloudrun.state.records import DataCheck

_NAMED_IMAGES = 20
_EXAMPLES = 3
_UNUSED = 20


@dataclass(frozen=True, slots=True)
class Unreadable:
    count: int
    names: str


@dataclass(frozen=True, slots=True)
class TrustSection:
    """`facts` are good to know; the others are reasons to doubt the score."""

    facts: tuple[str, ...]
    warnings: tuple[str, ...]  # of the look at the images before the launch
    unused: tuple[str, ...]
    troubles: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class FindingsSection:
    """What the trainer found wrong with the run, and what it says to try."""

    findings: tuple[Finding, ...]
    unreadable: Unreadable | None


def trust_section(results: Results, data_check: DataCheck | None) -> TrustSection | None:
    """None where nothing is known."""
    judged = results.judged
    facts = [
        *([_interval(judged)] if judged else []),
        *_split(results.details.images),
        *([_compared(data_check)] if judged or data_check else []),
    ]
    warnings = data_check.warnings if data_check else ()
    unused = tuple(map(_unused, (results.details.unused_files or [])[:_UNUSED]))
    found = TrustSection(tuple(facts), warnings, unused, results.troubles)
    return found if facts or warnings or unused or results.troubles else None


def findings_section(results: Results) -> FindingsSection | None:
    """None where the trainer found nothing."""
    skipped = results.summary.unreadable_images or []
    findings = tuple(results.summary.findings or ())
    if not findings and not skipped:
        return None
    more = ", ..." if len(skipped) > _NAMED_IMAGES else ""
    unreadable = Unreadable(len(skipped), ", ".join(skipped[:_NAMED_IMAGES]) + more) if skipped else None
    return FindingsSection(findings, unreadable)


def _interval(judged: Predictions) -> str:
    found = accuracy_interval(judged)
    how = "each judged by the fold that did not train on it" if judged.name == OUT_OF_FOLD else "held out from training"
    chosen = "" if judged.name == OUT_OF_FOLD else " The best epoch was chosen by them, so new images may score lower."
    return (
        f"{percent(accuracy(judged))} of {len(judged.rows)} images are right, {how}. By chance alone, another such set "
        f"would give {percent(found.low)} to {percent(found.high)} (95 % interval).{chosen}"
    )


def _compared(data_check: DataCheck | None) -> str:
    if data_check is None or not data_check.were_compared:
        return "Whether copies of one image are on both sides of the split was not looked for before the launch."
    more = "; what was found is below" if data_check.warnings else ": nothing to doubt was found"
    return f"Before the launch the images were compared with each other, across the splits{more}."


def _split(images: dict[str, int] | None) -> Sequence[str]:
    if not images:
        return ()
    words = {"train": "trained", "val": "validated", "test": "tested"}
    parts = [f"{count} {words.get(name, name)}" for name, count in images.items() if count]
    return (f"Images: {', '.join(parts)}.",) if parts else ()


def _unused(one: UnusedFiles) -> str:
    examples = ", ".join(one.examples[:_EXAMPLES])
    return f"{one.count} file(s) were not used: {one.reason}{f' ({examples})' if examples else ''}"
