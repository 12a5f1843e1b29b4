"""The files that are made at home: the resolved job, the receipt and the report. None of them keeps a bill going."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import yaml

from cloudrun.billing.receipt import receipt
from cloudrun.errors import brief
from cloudrun.files import atomic
from cloudrun.protocol.metrics import metrics_at
from cloudrun.protocol.outputs import COST, JOB_FILE, REPORT
from cloudrun.render.report import report_html
from cloudrun.state.records import now_utc
from cloudrun.state.run import Run
from cloudrun.stores.download import make_way


def write_accounts(run: Run, folder: Path, say: Callable[[str], None]) -> None:
    """Write job.yaml, cost.json and report.html into `folder`; one that cannot be made is said, and left as it was."""
    metrics, _ = metrics_at(folder)
    makers: dict[str, Callable[[], str]] = {
        JOB_FILE: lambda: yaml.safe_dump(run.job, sort_keys=False, allow_unicode=True),
        COST: lambda: json.dumps(receipt(run, now_utc(), metrics), indent=2) + "\n",
        REPORT: lambda: report_html(run, folder, receipt(run, now_utc(), metrics)),
    }
    for name, make in makers.items():
        try:
            replace_file(folder / name, make().encode(), folder, private=name == JOB_FILE)
        except Exception as err:  # noqa: BLE001 - they rest on what a machine wrote, and a bill waits for their end
            say(f"{folder / name} cannot be written: {brief(err)}")


def write_report_with_env(run: Run, folder: Path) -> None:
    """Write report.html with the values of `env`, for its owner alone; the next fetch writes it without them."""
    metrics, _ = metrics_at(folder)
    page = report_html(run, folder, receipt(run, now_utc(), metrics), shows_env=True)
    replace_file(folder / REPORT, page.encode(), folder, private=True)


def replace_file(path: Path, content: bytes, folder: Path, *, private: bool = False) -> None:
    """Write a file below `folder` under a temporary name, then rename it; a folder in its place is moved aside."""
    partial = path.with_name(path.name + atomic.PARTIAL)
    for place in (partial, path):
        make_way(place, folder)
    atomic.write(path, content, temporary=partial, private=private)
