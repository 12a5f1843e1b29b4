"""A real browser for the tests of pages: the computer's own Chromium, by Playwright; and axe, by npm."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
_AXE = "axe-core@4"
_SERIOUS = ("serious", "critical")


@contextmanager
def chromium() -> Iterator[Any]:
    """A browser of Playwright's, without a window."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        try:
            yield browser
        finally:
            browser.close()


def axe_script(folder: Path) -> str | None:
    """The script of axe-core, fetched by npm into `folder`; None where npm is missing or reaches no registry."""
    npm = shutil.which("npm")
    if npm is None:
        return None
    words = [npm, "install", "--prefix", str(folder), "--no-audit", "--no-fund", _AXE]
    done = subprocess.run(words, capture_output=True, timeout=120)
    script = folder / "node_modules" / "axe-core" / "axe.min.js"
    return script.read_text() if done.returncode == 0 and script.is_file() else None


def serious_faults(page: Any, axe: str) -> list[str]:
    """What axe finds on the page that is serious or critical: its rule, and the first element."""
    page.evaluate(axe)
    found = page.evaluate("axe.run()")
    return [f"{one['id']}: {one['nodes'][0]['html'][:200]}" for one in found["violations"] if one["impact"] in _SERIOUS]
