"""The pages about clouds say what is known of them, and no more."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from cloudrun.catalog.list_prices import list_prices
from tests.support.checkout import CHECKOUT

PAGES = sorted((CHECKOUT / "docs" / "guides" / "clouds").glob("*.md"))


def test_the_clouds_that_most_people_use_have_a_page() -> None:
    assert {page.stem for page in PAGES} == {"aws", "gcp", "kubernetes", "lambda", "runpod", "slurm", "vast"}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_page_about_a_cloud_says_rights_quota_first_cost_and_what_was_tried(page: Path) -> None:
    text = page.read_text()
    assert all(
        f"| {row} |" in text for row in ("install", "least rights", "what the machine gets", "quota", "first try")
    )
    assert "tried" in text
    assert "(../../clouds.md)" in text
    assert f"--infra {page.stem}" in text


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_list_price_on_a_page_is_one_that_cloudrun_knows(page: Path) -> None:
    shown = re.findall(r"list price of \$([\d.]+) an hour", page.read_text())
    known = {f"{price.hourly_usd:.4f}" for price in list_prices().rows if price.infra == page.stem}
    assert [price for price in shown if price not in known] == []
