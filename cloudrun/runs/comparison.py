"""Write the page that compares several runs, from what of them is at home."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from cloudrun.billing.receipt import receipt
from cloudrun.errors import StoreError
from cloudrun.render.report import Member, comparison_html
from cloudrun.runs.accounts import replace_file
from cloudrun.runs.results import default_folder, metrics_at_home
from cloudrun.state.records import now_utc
from cloudrun.state.run import Run

_NAMED = 3


def write_comparison(runs: Sequence[Run]) -> Path:
    """Write the page beside the folder of the first run's results, and return where it is. Raises StoreError."""
    now = now_utc()
    members = [Member(run, default_folder(run), receipt(run, now, metrics_at_home(run))) for run in runs]
    folder = default_folder(runs[0]).parent
    path = folder / page_name([run.run_id for run in runs])
    try:
        folder.mkdir(parents=True, exist_ok=True)
        replace_file(path, comparison_html(members).encode(), folder)
    except OSError as err:
        raise StoreError(f"cannot write {path}: {err.strerror}", hint="is there room on the disk?") from err
    return path


def page_name(run_ids: Sequence[str]) -> str:
    """`compare-plants-1124-x7k2m-plants-1125-q8w4z.html`; of many runs the first ones, and how many more."""
    more = len(run_ids) - _NAMED
    return f"compare-{'-'.join(run_ids[:_NAMED])}{f'-and-{more}-more' if more > 0 else ''}.html"
