"""One self-contained HTML page about a run: no script, no font, nothing from elsewhere. Pure but for reading."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any

import yaml

from cloudrun.billing.receipt import Receipt
from cloudrun.protocol.metrics import CURVES, KINDS, Curve, Kind, MetricsRow, metrics_at
from cloudrun.state.received import Summary, summary_at
from cloudrun.state.run import Run
from cloudrun.text.units import duration, times

_NAMED_IMAGES = 20
_STYLE = """
:root { --ink: #1d2433; --dim: #667085; --line: #d8dee9; --paper: #ffffff; --train: #8a94a6; --val: #1f7a4d; --bad: #b42318 }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6e9ef; --dim: #98a2b3; --line: #344054; --paper: #12161f; --train: #7d89a1; --val: #57c28d; --bad: #f97066 }
}
* { box-sizing: border-box }
body { margin: 2.5rem auto; max-width: 60rem; padding: 0 1.25rem; color: var(--ink); background: var(--paper);
  font: 16px/1.5 system-ui, sans-serif }
h1 { font-size: 1.6rem; margin: 0 } h2 { font-size: 1.05rem; margin: 2.2rem 0 .6rem }
.dim { color: var(--dim) } .bad { color: var(--bad) }
.facts { display: flex; flex-wrap: wrap; gap: 1.2rem 2.6rem; margin: 1.4rem 0 }
.facts b { display: block; font-size: 1.5rem; font-variant-numeric: tabular-nums }
.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(20rem, 1fr)); gap: 1.5rem }
svg { width: 100%; height: auto } svg text { fill: var(--dim); font-size: 11px }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums }
th, td { text-align: left; padding: .35rem .8rem .35rem 0; border-bottom: 1px solid var(--line) }
th { font-weight: 600; color: var(--dim) } td.n, th.n { text-align: right }
pre { overflow-x: auto; padding: .9rem; border: 1px solid var(--line); border-radius: 6px; font-size: .85rem }
"""


def report_html(run: Run, folder: Path, cost: Receipt, *, shows_env: bool = False) -> str:
    """The page for `run` from the files in `folder`; shows what there is, and says what is missing.

    Values of `env` are only there with `shows_env`: people pass a report on.
    """
    summary, _ = summary_at(folder)
    metrics, _ = metrics_at(folder)
    job = run.job if shows_env else _without_env(run.job)
    parts = [
        f"<!doctype html><html lang='en'><meta charset='utf-8'><title>{escape(run.run_id)}</title>",
        f"<meta name='viewport' content='width=device-width, initial-scale=1'><style>{_STYLE}</style><body>",
        f"<h1>{escape(run.name)}</h1>",
        f"<div class='dim'>{escape(f'{run.run_id} · {run.phase.value} · {_machine(cost)}')}</div>",
        f"<p class='bad'>{escape(run.message)}</p>" if run.exit_code else "",
        _facts(summary, cost),
        _trouble(summary),
        _charts(metrics),
        _epochs(metrics),
        _per_class(summary),
        _money(cost),
        f"<h2>Job file</h2><pre>{escape(yaml.safe_dump(job, sort_keys=False, allow_unicode=True))}</pre>",
        "</body></html>\n",
    ]
    return "".join(parts)


def _without_env(job: dict[str, Any]) -> dict[str, Any]:
    env = job.get("env")
    return {**job, "env": dict.fromkeys(env, "***")} if isinstance(env, dict) and env else job


def _machine(cost: Receipt) -> str:
    parts = (
        times(cost["nodes"], cost["machine"]) if cost["machine"] else None,
        cost["gpu"],
        cost["infra"],
        cost["region"],
    )
    return ", ".join(str(part) for part in dict.fromkeys(parts) if part) or "no machine"


def _facts(summary: Summary, cost: Receipt) -> str:
    validation = "{} out of fold" if summary.is_of_folds else "best validation {}"
    accuracy = summary.val_accuracy if "val_accuracy" in summary.model_fields_set else summary.best_metric
    facts = [
        ("test macro F1", _decimal(summary.test_macro_f1)),
        (validation.format("macro F1"), _decimal(summary.val_macro_f1)),
        ("test accuracy", _percent(summary.test_accuracy)),
        (validation.format("accuracy"), _percent(accuracy)),
        ("best epoch", _text(summary.best_epoch)),
        ("images a second", _text(summary.images_per_s)),
        ("training", _duration(summary.train_seconds)),
        ("cost" if cost["is_final"] else "cost so far", f"${cost['cost_usd']:.2f}"),
    ]
    shown = "".join(f"<div><b>{escape(value)}</b>{escape(name)}</div>" for name, value in facts if value)
    return f"<div class='facts'>{shown}</div>"


def _trouble(summary: Summary) -> str:
    """What the trainer found wrong with the run, and what it says to try."""
    items = [
        f"<li><b>Epoch {escape(_text(one.epoch))}:</b> {escape(one.message)}"
        f"<br><span class='dim'>Try: {escape(one.hint)}</span></li>"
        for one in summary.findings or ()
    ]
    skipped = summary.unreadable_images or []
    if skipped:
        named = ", ".join(skipped[:_NAMED_IMAGES]) + (", ..." if len(skipped) > _NAMED_IMAGES else "")
        items.append(f"<li><b>{len(skipped)} image(s) could not be read</b> and were skipped: {escape(named)}</li>")
    return f"<h2>What the trainer found</h2><ul>{''.join(items)}</ul>" if items else ""


def _charts(metrics: Sequence[MetricsRow]) -> str:
    charts = [_chart(metrics, "accuracy"), _chart(metrics, "loss")]
    return f"<div class='charts'>{''.join(charts)}</div>" if any(charts) else "<p class='dim'>No epoch is over yet.</p>"


def _chart(metrics: Sequence[MetricsRow], key: Curve) -> str:
    """Training and validation by epoch, as an SVG line chart."""
    series = {kind: _by_epoch(metrics, kind, key) for kind in KINDS}
    points = [point for line in series.values() for point in line]
    if not points:
        return ""
    width, height, left, bottom = 420, 220, 44, 26
    last = max(max(x for x, _ in points), 2)
    low, high = min(y for _, y in points), max(y for _, y in points)
    if key == "accuracy":
        high = 1.0
    margin = max(0.5, abs(high) / 100)  # of a number that 0.5 adds nothing to
    low, high = (low, high) if high > low else (low - margin, high + margin)

    def place(x: float, y: float) -> str:
        across = left + (x - 1) / (last - 1) * (width - left - 10)
        down = 10 + (high - y) / (high - low) * (height - bottom - 10)
        return f"{across:.1f},{down:.1f}"

    drawn = []
    for step in range(5):
        level = low + (high - low) * step / 4
        y = place(1, level).split(",")[1]
        label = f"{level:.0%}" if key == "accuracy" else f"{level:.2f}"
        drawn.append(
            f"<line x1='{left}' x2='{width - 10}' y1='{y}' y2='{y}' stroke='var(--line)'/>"
            f"<text x='{left - 6}' y='{float(y) + 4:.1f}' text-anchor='end'>{label}</text>"
        )
    for kind, line in series.items():
        path = " ".join(place(x, y) for x, y in line)
        drawn.append(f"<polyline points='{path}' fill='none' stroke='var(--{kind})' stroke-width='2'/>")
        drawn.extend(
            f"<circle cx='{place(x, y).split(',')[0]}' cy='{place(x, y).split(',')[1]}' r='2.5' fill='var(--{kind})'/>"
            for x, y in line
        )
    drawn.append(f"<text x='{left}' y='{height - 6}'>epoch 1</text>")
    drawn.append(f"<text x='{width - 10}' y='{height - 6}' text-anchor='end'>{last}</text>")
    legend = "<span style='color:var(--train)'>━</span> training <span style='color:var(--val)'>━</span> validation"
    return (
        f"<div><h2>{key.capitalize()} <span class='dim'>{legend}</span></h2>"
        f"<svg viewBox='0 0 {width} {height}' role='img' aria-label='{key} by epoch'>{''.join(drawn)}</svg></div>"
    )


def _by_epoch(metrics: Sequence[MetricsRow], kind: Kind, key: Curve) -> list[tuple[int, float]]:
    """The last value of each epoch."""
    values = {row["epoch"]: row.get(key) for row in metrics if row["kind"] == kind and row.get(key) is not None}
    return sorted((epoch, float(value)) for epoch, value in values.items() if value is not None)


def _epochs(metrics: Sequence[MetricsRow]) -> str:
    columns = [(kind, key) for kind in KINDS for key in CURVES]
    tables = [dict(_by_epoch(metrics, kind, key)) for kind, key in columns]
    epochs = sorted(set().union(*tables))
    if not epochs:
        return ""
    rows = "".join(
        f"<tr><td>{epoch}</td>"
        + "".join(
            f"<td class='n'>{(f'{table[epoch]:.1%}' if key == 'accuracy' else f'{table[epoch]:.4f}') if epoch in table else ''}</td>"
            for (_, key), table in zip(columns, tables, strict=True)
        )
        + "</tr>"
        for epoch in epochs
    )
    head = "".join(f"<th class='n'>{kind} {key}</th>" for kind, key in columns)
    return f"<h2>Epochs</h2><table><tr><th>epoch</th>{head}</tr>{rows}</table>"


def _per_class(summary: Summary) -> str:
    recalls = summary.test_recall
    if not recalls:
        return ""
    rows = "".join(
        f"<tr><td>{escape(name)}</td><td class='n'>{_percent(value)}</td></tr>" for name, value in recalls.items()
    )
    return f"<h2>Test recall by class</h2><table>{rows}</table>"


def _money(cost: Receipt) -> str:
    rate = cost["hourly_usd"]
    if rate is None:
        return ""
    rows = "".join(
        f"<tr><td>{escape(phase['name'])}</td><td class='n'>{_duration(phase['duration_s'])}</td>"
        f"<td class='n'>${phase['cost_usd']:.4f}</td></tr>"
        for phase in cost["phases"]
    )
    return (
        f"<h2>Cost</h2><p>${rate:.4f} an hour ({escape(str(cost['price_source']))}), billed from"
        f" {escape(str(cost['billed_from']))} to {escape(str(cost['billed_to']))}"
        f"{'' if cost['is_final'] else ' (not ended yet)'}: <b>${cost['cost_usd']:.4f}</b></p>"
        f"<table><tr><th>phase</th><th class='n'>time</th><th class='n'>USD</th></tr>{rows}</table>"
        + _worth(cost)
        + _elsewhere(cost)
    )


def _worth(cost: Receipt) -> str:
    """The estimate beside what it took, and what the money bought."""
    said = []
    made, accuracy = cost["estimate"], cost["accuracy"]
    if made and made["low_s"] is not None:
        money = f"${made['low_usd']:.2f} to ${made['high_usd']:.2f}, " if made["high_usd"] else ""
        said.append(f"Estimated before: {money}{_duration(made['low_s'])} to {_duration(made['high_s'])}.")
    if made and made["corrected_s"] is not None:
        off = "" if made["corrected_off"] is None else f" ({made['corrected_off']:+.0%} of what it took)"
        said.append(f"From timed steps: {_duration(made['corrected_s'])}{off}.")
    if accuracy and accuracy["usd_per_point"] is not None:
        said.append(f"A point of validation accuracy over the first epoch cost ${accuracy['usd_per_point']:.4f}.")
    if accuracy and accuracy["usd_after_best"] > 0:
        said.append(f"After epoch {accuracy['best_epoch']}, ${accuracy['usd_after_best']:.4f} bought nothing.")
    return f"<p>{escape(' '.join(said))}</p>" if said else ""


def _elsewhere(cost: Receipt) -> str:
    rows = "".join(
        f"<tr><td>{escape(one['gpu'])}, {escape(one['infra'])}{', spot' if one['spot'] else ''}</td>"
        f"<td class='n'>{_duration(one['duration_s'])}</td><td class='n'>${one['cost_usd']:.4f}</td></tr>"
        for one in cost["alternatives"]
    )
    if not rows:
        return ""
    head = "<tr><th>the same run on (by listed speeds)</th><th class='n'>time</th><th class='n'>USD</th></tr>"
    return f"<table>{head}{rows}</table>"


def _percent(value: object) -> str:
    return f"{value:.1%}" if isinstance(value, int | float) else ""


def _decimal(value: object) -> str:
    return f"{value:.4f}" if isinstance(value, int | float) else ""


def _text(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.1f}"
    return "" if value is None else str(value)


def _duration(seconds: object) -> str:
    return duration(seconds) if isinstance(seconds, int | float) else ""
