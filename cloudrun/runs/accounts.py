"""Write the files that are made at home: the resolved job, the receipt and the report.

A file that cannot be made never keeps a bill going.
"""

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


def write_accounts(run: Run, folder: Path, say: Callable[[str], None], *, with_page: bool = True) -> None:
    """Write job.yaml, cost.json and report.html into `folder`.

    `with_page`: write report.html, which takes the longest. A file that cannot be made is reported through `say` and
    left as it was; no error is raised.
    """
    metrics, _ = metrics_at(folder)
    makers: dict[str, Callable[[], str]] = {
        JOB_FILE: lambda: yaml.safe_dump(run.job, sort_keys=False, allow_unicode=True),
        COST: lambda: json.dumps(receipt(run, now_utc(), metrics), indent=2) + "\n",
    }
    if with_page:
        makers[REPORT] = lambda: report_html(run, folder, receipt(run, now_utc(), metrics))
    for name, make in makers.items():
        try:
            replace_file(folder / name, make().encode(), folder, private=name == JOB_FILE)
        except Exception as err:  # noqa: BLE001 - a bad file of the machine must not keep its bill going
            say(f"{folder / name} cannot be written: {brief(err)}")


def replace_file(path: Path, content: bytes, folder: Path, *, private: bool = False) -> None:
    """Write a file below `folder` under a temporary name, then rename it; a folder in its place is moved aside."""
    partial = path.with_name(path.name + atomic.PARTIAL)
    for place in (partial, path):
        make_way(place, folder)
    atomic.write(path, content, temporary=partial, private=private)
