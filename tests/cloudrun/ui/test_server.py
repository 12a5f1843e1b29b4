"""The pages over HTTP: who is let in, what is refused, what stands on them."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from cloudrun.state.ledger import Ledger
from cloudrun.state.run import Run
from tests.support.browsing import Visitor, visiting
from tests.support.desk import JOB, MOMENT
from tests.support.runs import a_local_run, a_runpod_quote

HOSTILE = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("pages")


@pytest.fixture(scope="module")
def visitor(folder: Path) -> Iterator[Visitor]:
    ledger = Ledger(folder / "home")
    ledger.add(trained(folder, "plants-1", accuracy=0.8))
    ledger.add(trained(folder, "plants-2", accuracy=0.9))
    with visiting(ledger) as visitor:
        yield visitor


def trained(folder: Path, run_id: str, *, accuracy: float, class_name: str = "a") -> Run:
    """A run that has ended, with its results at home."""
    home = folder / "runs" / run_id
    home.mkdir(parents=True)
    row = {"kind": "val", "epoch": 1, "loss": 0.5, "accuracy": accuracy, "time": MOMENT}
    (home / "metrics.jsonl").write_text(json.dumps(row) + "\n")
    (home / "summary.json").write_text(json.dumps({"val_accuracy": accuracy, "best_epoch": 1}))
    name = class_name.replace('"', '""')
    (home / "predictions-val.csv").write_text(
        f'image,truth,label,confidence,"{name}",b\n1.jpg,"{name}","{name}",0.9,0.9,0.1\n'
    )
    return a_local_run(
        run_id, name=HOSTILE, job=JOB, phase="failed", exit_code=1, message=HOSTILE, created_at=MOMENT,
        billed_from=MOMENT, released_at=MOMENT, folder=str(home), home_complete=True, quote=a_runpod_quote(),
    )  # fmt: skip


def test_the_address_that_is_printed_lets_a_browser_in_and_leaves_the_history(visitor: Visitor) -> None:
    token = visitor.server.access.token
    got = visitor(f"/receipts?token={token}", Cookie=None)
    assert (got.status, got.headers["Location"]) == (303, "/receipts")
    cookie = got.headers["Set-Cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=Lax" in cookie
    assert visitor("/receipts", Cookie=cookie.partition(";")[0]).status == 200


@pytest.mark.parametrize(
    "path", ["/", "/rows", "/receipts", "/run/plants-1", "/run/plants-1/events", "/assets/site.js"]
)
def test_without_the_token_nothing_is_shown(visitor: Visitor, path: str) -> None:
    for got in (visitor(path, Cookie=None), visitor(path, Cookie="cloudrun-1=x"), visitor(f"{path}?token=x")):
        assert got.status == 401
        assert "plants" not in got.text
        assert "Set-Cookie" not in got.headers


def test_another_name_for_this_computer_is_refused(visitor: Visitor) -> None:
    assert visitor("/", Host="evil.example").status == 403
    assert visitor("/", Host=None).status == 403
    assert visitor(f"/?token={visitor.server.access.token}", Host="evil.example").status == 403
    assert visitor("/", Host="localhost:1").status == 200


def test_what_another_site_embeds_is_refused(visitor: Visitor) -> None:
    assert visitor("/", Sec_Fetch_Site="cross-site", Sec_Fetch_Mode="no-cors").status == 403
    assert visitor("/", Sec_Fetch_Site="cross-site", Sec_Fetch_Mode="navigate").status == 200


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "HEAD", "BREW"])
def test_pages_can_only_be_read(visitor: Visitor, method: str) -> None:
    got = visitor("/", method)
    assert (got.status, got.headers["Allow"]) == (405, "GET")


@pytest.mark.parametrize("path", ["/", "/receipts", "/run/plants-1", "/nothing"])
def test_each_page_forbids_scripts_frames_and_other_sites(visitor: Visitor, path: str) -> None:
    headers = visitor(path).headers
    policy = dict(part.strip().partition(" ")[::2] for part in headers["Content-Security-Policy"].split(";"))
    assert policy["default-src"] == "'none'"
    assert policy["script-src"] == "'self'"
    assert policy["connect-src"] == "'self'"
    assert policy["frame-ancestors"] == "'none'"
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Cross-Origin-Resource-Policy"] == "same-origin"
    assert headers["Referrer-Policy"] == "no-referrer"
    assert headers["Cache-Control"] == "no-store"
    assert "Access-Control-Allow-Origin" not in headers


@pytest.mark.parametrize(
    "path", ["/nothing", "/run/nosuch", "/run/..%2f..%2fhome", "/run/plants-1/x", "/assets/../site.py", "/ledger"]
)
def test_what_is_no_page_is_not_found(visitor: Visitor, path: str) -> None:
    assert visitor(path).status == 404


def test_an_address_cannot_lead_to_another_host(visitor: Visitor) -> None:
    token = visitor.server.access.token
    doubled = visitor(f"//evil.example/?token={token}")  # Python's own server may drop the second slash
    assert doubled.status == 400 or doubled.headers["Location"] == "/evil.example/"
    assert visitor(f"http://evil.example/?token={token}", Host="localhost").status == 400
    assert visitor(f"/\\evil.example?token={token}").headers["Location"] == "/%5Cevil.example"


def test_all_runs_are_listed_and_sorted_as_the_address_says(visitor: Visitor) -> None:
    def ids(path: str) -> list[str]:
        return re.findall(r'href="/run/([^"]+)"', visitor(path).text)

    assert ids("/?sort=score&order=desc") == ["plants-2", "plants-1"]
    assert ids("/?sort=score&order=asc") == ["plants-1", "plants-2"]
    assert ids("/?sort=run&order=asc") == ["plants-1", "plants-2"]
    assert sorted(ids("/?sort=nonsense&order=<script>")) == ["plants-1", "plants-2"]
    page = visitor("/?sort=score&order=desc").text
    assert 'aria-sort="descending"><a href="/?sort=score&amp;order=asc">validation' in page


def test_the_table_comes_again_only_where_it_has_changed(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "home")
    ledger.add(trained(tmp_path, "plants-1", accuracy=0.8))
    with visiting(ledger) as visitor:
        first = visitor("/rows")
        assert first.status == 200
        assert visitor(f"/rows?have={first.headers['X-Shown']}").status == 204
        ledger.add(trained(tmp_path, "plants-3", accuracy=0.8))
        assert "plants-3" in visitor(f"/rows?have={first.headers['X-Shown']}").text


def test_a_run_that_has_ended_is_its_report(visitor: Visitor) -> None:
    page = visitor("/run/plants-1").text
    assert "80.0%" in page
    assert "data-events" not in page
    assert 'href="/receipts"' in page


def test_ticked_runs_are_compared(visitor: Visitor) -> None:
    page = visitor("/compare?run=plants-1&run=plants-2&run=plants-1").text
    assert "2 runs compared" in page
    assert visitor("/compare?run=plants-1").headers["Location"] == "/run/plants-1"
    assert visitor("/compare").status == 400
    assert visitor("/compare?run=plants-1&run=nosuch").status == 400


def test_receipts_are_added_up_by_month(visitor: Visitor) -> None:
    page = visitor("/receipts").text
    assert "By month" in page
    assert page.count('<a href="/run/plants-') == 2


def test_names_that_others_chose_are_shown_and_never_run(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "home")
    for run_id in ("plants-4", "plants-5"):
        ledger.add(trained(tmp_path, run_id, accuracy=0.5, class_name=HOSTILE))
    with visiting(ledger) as visitor:
        for path in ("/", "/rows", "/run/plants-4", "/compare?run=plants-4&run=plants-5", "/receipts"):
            page = visitor(path).text
            assert "plants-4" in page
            assert "<script>alert" not in page
            assert "<img src=x" not in page
        assert "&lt;script&gt;alert(1)" in visitor("/run/plants-4").text


def test_a_record_that_cannot_be_read_is_named_and_hides_no_other(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "home")
    ledger.add(trained(tmp_path, "plants-1", accuracy=0.8))
    (ledger.home / "ledger" / "broken.json").write_text("{")
    with visiting(ledger) as visitor:
        for path in ("/", "/receipts"):
            page = visitor(path).text
            assert "broken.json cannot be read" in page
            assert "plants-1" in page


def test_looking_at_every_page_writes_nothing(folder: Path, visitor: Visitor) -> None:
    before = contents(folder)
    for path in ("/", "/rows", "/run/plants-1", "/run/plants-2", "/compare?run=plants-1&run=plants-2", "/receipts"):
        assert visitor(path).status == 200
    assert contents(folder) == before


def contents(folder: Path) -> dict[str, str]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
