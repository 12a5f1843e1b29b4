"""The report of one run: one self-contained HTML page, made from what lies in its folder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cloudrun.billing.receipt import Receipt
from cloudrun.render.report.charts.line import LineChart
from cloudrun.render.report.classes import ClassesSection, ConfidenceSection, classes_section, confidence_section
from cloudrun.render.report.counts import CountsSection, counts_section
from cloudrun.render.report.curves import curves
from cloudrun.render.report.folds import FoldsSection, folds_section
from cloudrun.render.report.heading import Heading, best_epoch, heading
from cloudrun.render.report.machine import machine_charts, machine_findings
from cloudrun.render.report.money import MoneySection, money_section
from cloudrun.render.report.pictures import (
    ClassSamples,
    MistakesSection,
    augmented_samples,
    class_samples,
    mistakes_section,
)
from cloudrun.render.report.results import Results, read_results
from cloudrun.render.report.settings import SettingsSection, settings_section
from cloudrun.render.report.template import rendered
from cloudrun.render.report.trust import FindingsSection, TrustSection, findings_section, trust_section
from cloudrun.state.run import Run


@dataclass(frozen=True, slots=True)
class Page:
    """A section a field; None or empty where the run has no data for it."""

    heading: Heading
    trust: TrustSection | None
    findings: FindingsSection | None
    curves: Sequence[LineChart]
    idle: Sequence[str]  # what is known of GPUs that idled
    test_recall: Sequence[tuple[str, float | None]]
    counts: CountsSection | None
    classes: ClassesSection | None
    mistakes: MistakesSection | None
    confidence: ConfidenceSection | None
    augmented: Sequence[tuple[str, str]]
    samples: Sequence[ClassSamples]
    folds: FoldsSection | None
    money: MoneySection | None
    settings: SettingsSection


def report_html(run: Run, folder: Path, cost: Receipt) -> str:
    """Return the page for `run` from the files in `folder`; it shows what there is, and says what is left out."""
    return rendered("one_run.html", page=page_of(run, read_results(folder), cost))


def all_charts(results: Results) -> list[LineChart]:
    """Return the curves by epoch, then those of the machine."""
    return [*curves(results.metrics, best_epoch(results)), *machine_charts(results.machine)]


def page_of(run: Run, results: Results, cost: Receipt) -> Page:
    """Every section of the page, as plain values."""
    judged = results.judged
    return Page(
        heading=heading(run, results, cost),
        trust=trust_section(results, run.data_check),
        findings=findings_section(results),
        curves=all_charts(results),
        idle=machine_findings(results.machine, results.metrics),
        test_recall=tuple((results.summary.test_recall or {}).items()),
        counts=counts_section(run.data_check),
        classes=classes_section(judged) if judged else None,
        mistakes=mistakes_section(judged, results.thumbnails) if judged else None,
        confidence=confidence_section(judged) if judged else None,
        augmented=augmented_samples(results.thumbnails),
        samples=class_samples(results.thumbnails),
        folds=folds_section(results),
        money=money_section(run, cost, best_epoch(results)),
        settings=settings_section(run, results),
    )
