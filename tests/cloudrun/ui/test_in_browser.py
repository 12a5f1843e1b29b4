"""The pages and the report in a real browser: light, dark, phone, print; axe finds no serious fault."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from benchmarks.report import made_up_run
from cloudrun.billing.receipt import receipt
from cloudrun.render.report import report_html
from cloudrun.state.ledger import Ledger
from cloudrun.state.records import now_utc
from tests.support.browser import CHROMIUM, axe_script, chromium, serious_faults
from tests.support.browsing import Visitor, visiting
from tests.support.steps import launched

pytestmark = [pytest.mark.slow, pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")]
A, B = "seedlings-1127-aaaaa", "seedlings-1127-bbbbb"
PATHS = ["/", f"/run/{A}", f"/run/{B}", f"/compare?run={A}&run={B}", "/receipts", "/nothing"]
PHONE, DESK = {"width": 390, "height": 844}, {"width": 1280, "height": 900}


@pytest.fixture(scope="module")
def visitor(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Visitor]:
    folder = tmp_path_factory.mktemp("pages")
    ledger = Ledger(folder / "home")
    for seed, run_id in enumerate((A, B)):
        run = made_up_run(folder, run_id, seed)
        ledger.add(run)
        home = folder / "runs" / run_id
        (home / "report.html").write_text(report_html(run, home, receipt(run, now_utc())))
    # The strongest colours: a class of which every image is wrong.
    lines = [f"{number}.jpg,{name},b,0.9,0.1,0.9" for number in range(30) for name in ("a", "b")]
    (folder / "runs" / B / "predictions-val.csv").write_text("\n".join(["image,truth,label,confidence,a,b", *lines]))
    with visiting(ledger) as visitor:
        yield visitor


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as browser:
        yield browser


@pytest.fixture(scope="module")
def axe(tmp_path_factory: pytest.TempPathFactory) -> str:
    script = axe_script(tmp_path_factory.mktemp("axe"))
    if script is None:
        pytest.skip("needs npm, and its registry")
    return script


@pytest.fixture
def errors() -> list[str]:
    return []


def opened(browser: Any, visitor: Visitor, errors: list[str], **options: Any) -> Any:
    """A page that is let in; what goes wrong in it is written into `errors`."""
    page = browser.new_context(**options).new_page()
    page.on("pageerror", lambda err: errors.append(str(err)))
    page.on("console", lambda said: errors.append(said.text) if said.type == "error" else None)
    page.goto(visitor.server.access.url)
    return page


def address(visitor: Visitor, path: str) -> str:
    return f"http://127.0.0.1:{visitor.server.access.port}{path}"


def report_address(visitor: Visitor) -> str:
    run = visitor.ledger.get(A)
    assert run.folder is not None
    return (Path(run.folder) / "report.html").as_uri()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [PHONE, DESK], ids=["phone", "desk"])
def test_axe_finds_no_serious_fault(
    visitor: Visitor, browser: Any, axe: str, scheme: str, size: dict[str, int], errors: list[str]
) -> None:
    # axe is put into the page, which its policy forbids to all but the browser's owner.
    page = opened(browser, visitor, errors, color_scheme=scheme, viewport=size, bypass_csp=True)
    found = {}
    for where in (*(address(visitor, path) for path in PATHS), report_address(visitor)):
        page.goto(where)
        found[where] = serious_faults(page, axe)
    assert {where: faults for where, faults in found.items() if faults} == {}


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_no_page_is_wider_than_a_phone_or_fails_under_its_own_policy(
    visitor: Visitor, browser: Any, scheme: str, errors: list[str]
) -> None:
    page = opened(browser, visitor, errors, color_scheme=scheme, viewport=PHONE)
    for path in PATHS[:-1]:
        page.goto(address(visitor, path))
        assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"], path
    paper = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert paper == ("rgb(255, 255, 255)" if scheme == "light" else "rgb(17, 21, 29)")
    page.goto(report_address(visitor))
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
    assert errors == []


def test_print_is_black_on_white_without_what_can_only_be_clicked(
    visitor: Visitor, browser: Any, errors: list[str]
) -> None:
    page = opened(browser, visitor, errors, color_scheme="dark", viewport=DESK)
    page.emulate_media(media="print", color_scheme="dark")
    for where in (address(visitor, f"/run/{A}"), report_address(visitor)):
        page.goto(where)
        assert page.evaluate("getComputedStyle(document.body).color") == "rgb(0, 0, 0)"
        assert not page.is_visible("nav")
        assert page.pdf()[:5] == b"%PDF-"


def test_ticked_runs_are_compared_and_columns_are_sorted(visitor: Visitor, browser: Any, errors: list[str]) -> None:
    page = opened(browser, visitor, errors, viewport=DESK)
    assert page.is_disabled("button")
    page.check(f"input[value={A}]")
    page.check(f"input[value={B}]")
    assert page.inner_text("button") == "Compare 2 runs"
    page.click("button")
    assert page.inner_text("h1") == "2 runs compared"
    page.click("nav.site >> text=Runs")
    page.click("thead >> text=validation")
    assert page.get_attribute("th[aria-sort=descending]", "aria-sort") == "descending"
    page.click(f"tbody >> text={A}")
    assert page.inner_text("h1") == "seedlings"
    page.focus(".chart svg[role=img]")
    page.keyboard.press("Home")
    assert page.inner_text(".chart .readout").startswith("epoch 1:")
    assert errors == []


def test_a_page_follows_its_run_and_becomes_the_report(tmp_path: Path, browser: Any, errors: list[str]) -> None:
    _, ledger, run_id = launched(tmp_path)
    with visiting(ledger) as visitor:
        page = opened(browser, visitor, errors, viewport=DESK)
        page.goto(address(visitor, f"/run/{run_id}"))
        page.locator("#lines", has_text="epoch 1 <b>done</b>").wait_for(state="attached")
        page.locator("#top", has_text="epoch 1 of 2").wait_for(state="attached")
        (tmp_path / "1").touch()
        page.locator("#lines", has_text="epoch 2 <b>done</b>").wait_for(state="attached")
        page.locator("#charts", has_text="epoch 2: validation 20.0%").wait_for(state="attached")
        assert page.query_selector("#lines b") is None
        (tmp_path / "2").touch()
        page.wait_for_selector("#lines", state="detached")
        assert page.inner_text(".state") == "succeeded"
    assert errors == []
