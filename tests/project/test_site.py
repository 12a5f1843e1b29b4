"""The pages of the site, as `make site` stages them for MkDocs, and the links between them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from docs.tools import site
from tests.support.checkout import CHECKOUT


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site") / "pages"
    site.stage(folder, repository=None)
    return folder


def test_every_document_is_a_page_in_its_language(pages: Path) -> None:
    documents = [path for path in (CHECKOUT / "docs").rglob("*.md") if path.name != "README.md"]
    expected = {path.relative_to(CHECKOUT / "docs").as_posix() for path in documents}
    expected = {name if name.startswith("zh/") else f"en/{name}" for name in expected}
    staged = {path.relative_to(pages).as_posix() for path in pages.rglob("*.md")}
    assert expected <= staged
    assert {"en/index.md", "zh/index.md", "en/contents.md", "en/decisions/index.md"} <= staged


def test_every_link_of_a_page_leads_to_a_page(pages: Path) -> None:
    wrong = []
    for page in pages.rglob("*.md"):
        text = re.sub(r"^ *```.*?^ *```$", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
        links = [link.partition("#")[0] for link in re.findall(r"\]\(([^)\s]+)\)", text)]
        local = [link for link in links if link and not link.startswith("http")]
        wrong += [(page.name, link) for link in local if not (page.parent / link).is_file()]
    assert wrong == []


def _linked(text: str, *, repository: str | None) -> str:
    return site.with_links(text, CHECKOUT / "README.md", places=dict(site.page_places()), repository=repository)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[cost](docs/guides/cost.md#the-price)", "[cost](guides/cost.md#the-price)"),
        ("[中文](README.zh-CN.md)", '<a href="zh/">中文</a>'),
        ("[起步](docs/zh/quick-start.md)", '<a href="zh/quick-start/">起步</a>'),
        ("[SkyPilot](https://docs.skypilot.co)", "[SkyPilot](https://docs.skypilot.co)"),
        ("[below](#more)", "[below](#more)"),
        ("[`jobs/plants.yaml`](jobs/plants.yaml)", "`jobs/plants.yaml`"),
        ("![a run](docs/launch.svg)", "![a run](launch.svg)"),
        ("```\n[a](jobs/plants.yaml)\n```", "```\n[a](jobs/plants.yaml)\n```"),
    ],
)
def test_a_link_is_as_the_site_has_it(text: str, expected: str) -> None:
    assert _linked(text, repository=None) == expected


def test_a_chinese_page_leads_to_the_english_home_and_not_back_to_its_own() -> None:
    readme = CHECKOUT / "README.zh-CN.md"
    linked = site.with_links(
        "[E](README.md) [C](docs/clouds.md)", readme, places=dict(site.page_places()), repository=None
    )
    assert linked == '<a href="../">E</a> [C](../en/clouds.md)'


def test_a_file_that_is_no_page_is_linked_where_the_project_lives() -> None:
    linked = _linked("[a job](jobs/plants.yaml)", repository="https://code.test/cloudrun")
    assert linked == "[a job](https://code.test/cloudrun/blob/main/jobs/plants.yaml)"


def test_the_list_for_agents_leads_to_published_pages(pages: Path) -> None:
    links = re.findall(r"\]\(([^)]+)\)", (pages / "llms.txt").read_text())
    assert len(links) > 10
    folders = [link.removeprefix("./").removesuffix("/") for link in links]
    published = [pages / "en" / (f"{folder}.md" if folder else "index.md") for folder in folders]
    assert [str(page) for page in published if not page.is_file()] == []


def test_every_page_of_the_menu_exists(pages: Path) -> None:
    text = (CHECKOUT / "docs" / "mkdocs.yml").read_text()  # not read as YAML: it has a tag of Python's
    named = re.findall(r"^ +- [^:]+: ([\w/-]+\.md)$", text, re.MULTILINE)
    assert len(named) > 25
    assert [name for name in named if not any((pages / folder / name).is_file() for folder in ("en", "zh"))] == []
