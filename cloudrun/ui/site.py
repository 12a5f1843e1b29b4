"""Answer a path of `cloudrun ui` with a page. Nothing is written.

/                       all runs            /run/ID                 one run
/rows                   the table of them   /run/ID/events          its changes, while it goes on
/compare?run=A&run=B    several runs        /receipts               by month
/assets/NAME            style and scripts
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal
from urllib.parse import quote, unquote, urlsplit

from cloudrun.billing.receipt import Receipt, receipt
from cloudrun.errors import brief
from cloudrun.protocol.metrics import metrics_at
from cloudrun.protocol.outputs import (
    AUGMENTED,
    METRICS,
    OUT_OF_FOLD,
    PREDICTIONS_VAL,
    STACKING,
    SUMMARY,
    THUMBNAILS,
)
from cloudrun.protocol.run_folder import RunFolder
from cloudrun.render.pages.one import as_of_now, curves_html, live_part, one_run_html, top_html
from cloudrun.render.pages.receipts import receipts_html, receipts_page
from cloudrun.render.pages.runs import Listed, RunsPage, order_of, rows_html, runs_html, runs_page
from cloudrun.render.report.comparison import Member, comparison_html
from cloudrun.render.report.page import page_of
from cloudrun.render.report.results import Results, read_results
from cloudrun.render.report.template import asset, rendered
from cloudrun.runs.results import default_folder
from cloudrun.state.ledger import Ledger
from cloudrun.state.records import now_utc
from cloudrun.state.run import Run
from cloudrun.ui.events import events
from cloudrun.ui.live import Live, Snapshot
from cloudrun.ui.records import Kept, Records, Summaries, stamp_of

Query = Mapping[str, Sequence[str]]
_COMPARED = 20
_PAGES_KEPT = 8
_PAGE_OF = (
    SUMMARY,
    METRICS,
    PREDICTIONS_VAL,
    OUT_OF_FOLD,
    STACKING,
    THUMBNAILS,
    AUGMENTED,
)  # files that a page is made from
_HTML = "text/html; charset=utf-8"
_ASSETS: Mapping[str, tuple[Literal["page.css", "site.css", "page.js", "site.js"], str]] = {
    "/assets/page.css": ("page.css", "text/css; charset=utf-8"),
    "/assets/site.css": ("site.css", "text/css; charset=utf-8"),
    "/assets/page.js": ("page.js", "text/javascript; charset=utf-8"),
    "/assets/site.js": ("site.js", "text/javascript; charset=utf-8"),
}


@dataclass(frozen=True, slots=True)
class Answer:
    """What a browser gets. `parts` is a body that goes on; `body` is then empty."""

    body: bytes = b""
    status: int = 200
    kind: str = _HTML
    headers: Mapping[str, str] = field(default_factory=dict)
    parts: Iterator[bytes] | None = None


@dataclass(frozen=True, slots=True)
class _Message:
    title: str
    text: str


class Site:
    """The pages of one ledger. May be used from several threads. `closing` ends the pages that go on."""

    def __init__(self, ledger: Ledger, closing: threading.Event) -> None:
        self._records = Records(ledger)
        self._summaries = Summaries()
        self._live = Live(self._records)
        self._closing = closing
        self._pages: Kept[str] = Kept(_PAGES_KEPT)

    def warm_up(self) -> None:
        """Read the ledger and the summaries once, so that the first page comes as quickly as the next."""
        runs_html(self._runs({}))

    def close(self) -> None:
        """Look at no machine any more."""
        self._live.close()

    def answer(self, path: str, query: Query, last_event_id: str | None) -> Answer:
        """Return the answer to `GET path`; `query` holds the values of each name in the address."""
        if path in _ASSETS:
            name, kind = _ASSETS[path]
            return Answer(asset(name).encode(), kind=kind)
        match path.split("/")[1:]:
            case [""]:
                return _page(runs_html(self._runs(query)))
            case ["rows"]:
                return self._rows(query)
            case ["receipts"]:
                return _page(self._receipts())
            case ["compare"]:
                return self._comparison(query)
            case ["run", run_id]:
                run = self._records.get(unquote(run_id))
                return _no_such_run() if run is None else _page(self._one(run))
            case ["run", run_id, "events"]:
                run = self._records.get(unquote(run_id))
                if run is None:
                    return _no_such_run()
                return self._events(run, last_event_id or _first(query, "last"))
            case _:
                return message(404, "Not here", "There is no such page.")

    def _runs(self, query: Query) -> RunsPage:
        runs, damaged = self._records.all()
        listed = [self._listed(run) for run in runs]
        lines = [f"{one.message}; {one.hint}" for one in damaged]
        return runs_page(listed, now_utc(), order_of(_first(query, "sort"), _first(query, "order")), lines)

    def _listed(self, run: Run) -> Listed:
        seen = self._live.as_last_seen(run)
        if seen is None:
            return Listed(run, self._summaries.of(run))
        return Listed(seen.run, self._summaries.of(seen.run), seen.metrics)

    def _rows(self, query: Query) -> Answer:
        """The table; nothing where the browser has this very table already."""
        body = rows_html(self._runs(query)).encode()
        shown = hashlib.sha256(body).hexdigest()[:16]
        if _first(query, "have") == shown:
            return Answer(status=204)
        return Answer(body, headers={"X-Shown": shown})

    def _one(self, run: Run) -> str:
        if run.phase.is_final:
            folder = _folder(run)
            stamp: Hashable = (run, *(stamp_of(folder / name) for name in _PAGE_OF)) if not run.may_bill else object()
            return self._pages.get(run.run_id, stamp, lambda: self._static(run, folder))
        seen = self._live.as_last_seen(run)
        if seen is None:
            seen = Snapshot(run, (), (), (), 0, "")
        cost, results = self._known(seen)
        live = None if seen.run.phase.is_final else live_part(seen.run, cost, seen.metrics, now_utc(), seen.trouble)
        return one_run_html(seen.run, results, cost, live)

    def _static(self, run: Run, folder: Path) -> str:
        results = read_results(folder)
        return one_run_html(run, results, receipt(run, now_utc(), results.metrics), None)

    def _known(self, seen: Snapshot) -> tuple[Receipt, Results]:
        results = as_of_now(read_results(_folder(seen.run)), seen.metrics, seen.machine)
        return receipt(seen.run, now_utc(), results.metrics), results

    def _events(self, run: Run, last_id: str) -> Answer:
        def top(seen: Snapshot) -> str:
            results = as_of_now(_without_files(seen.run), seen.metrics, seen.machine)
            cost = receipt(seen.run, now_utc(), results.metrics)
            live = live_part(seen.run, cost, seen.metrics, now_utc(), seen.trouble)
            return top_html(page_of(seen.run, results, cost), live)

        def charts(seen: Snapshot) -> str:
            return curves_html(as_of_now(_without_files(seen.run), seen.metrics, seen.machine))

        parts = events(self._live.watched(run), last_id, self._closing, top=top, curves=charts)
        return Answer(kind="text/event-stream; charset=utf-8", parts=parts)

    def _comparison(self, query: Query) -> Answer:
        ids = list(dict.fromkeys(query.get("run", ())))[:_COMPARED]
        runs = [self._records.get(run_id) for run_id in ids]
        found = [run for run in runs if run is not None]
        if not found or len(found) < len(ids):
            return message(400, "Nothing to compare", "Tick at least one run that is in the list.")
        if len(found) == 1:
            return Answer(status=303, headers={"Location": f"/run/{quote(found[0].run_id, safe='')}"})
        seen = [self._live.as_last_seen(run) for run in found]
        now = [run if one is None else one.run for run, one in zip(found, seen, strict=True)]
        members = [Member(run, _folder(run), receipt(run, now_utc(), metrics_at(_folder(run))[0])) for run in now]
        return _page(comparison_html(members, layout="site.html"))

    def _receipts(self) -> str:
        costs, troubles = [], []
        runs, damaged = self._records.all()
        for run in runs:
            try:
                costs.append(receipt(run, now_utc()))
            except Exception as err:  # noqa: BLE001 - one run's record must not hide what the others cost
                troubles.append(f"the receipt of {run.run_id} cannot be made: {brief(err)}")
        lines = [f"{one.message}; {one.hint}" for one in damaged]
        return receipts_html(receipts_page(costs, [*lines, *troubles]))


def message(status: int, title: str, text: str) -> Answer:
    """Return a page with a sentence."""
    return Answer(rendered("message.html", layout="site.html", page=_Message(title, text)).encode(), status)


def _page(html: str) -> Answer:
    return Answer(html.encode("utf-8", "replace"))


def _no_such_run() -> Answer:
    return message(404, "No such run", "The ledger of this computer has no such run, or its record cannot be read.")


def _first(query: Query, name: str) -> str:
    return next(iter(query.get(name, ())), "")


def _folder(run: Run) -> Path:
    """Return where the run's results lie on this computer; a folder that is not there where none do."""
    home = default_folder(run)
    if run.home_complete or run.run_uri is None:
        return home
    parts = urlsplit(run.run_uri)
    local = RunFolder(Path(unquote(parts.path))).out if parts.scheme == "file" else home
    return local if local.is_dir() else home


def _without_files(run: Run) -> Results:
    """Return the results of a folder that is not there: what changes while a run goes on is in its metrics alone."""
    return read_results(default_folder(run) / ".none")
