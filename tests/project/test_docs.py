"""What the documents name exists: links, headings, files of the code, keys of a job file, sizes that were promised."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import BaseModel

from cloudrun.job.spec import JobSpec
from tests.support.checkout import CHECKOUT

DOCUMENTS = [
    *sorted(CHECKOUT.glob("*.md")), *sorted((CHECKOUT / "docs").rglob("*.md")),
    *sorted((CHECKOUT / "changes").glob("*.md")),
]  # fmt: skip
_FENCE = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\]\(([^)\s]+)\)")
_PATH = re.compile(r"`((?:[\w.-]+/)*[\w.-]+\.(?:py|sh|yaml|toml|yml|md)|(?:[\w-]+/)+)`")


def _anchors(document: Path) -> set[str]:
    """Return the anchors that GitHub makes of a document's headings."""
    headings = re.findall(r"^#+ (.+)$", _FENCE.sub("", document.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(CHECKOUT)))
def test_every_link_leads_to_a_file_and_a_heading_that_exist(document: Path) -> None:
    wrong = []
    for link in _LINK.findall(_FENCE.sub("", document.read_text())):
        path, _, anchor = link.partition("#")
        if path.startswith(("https://", "http://")):
            continue
        target = (document.parent / path).resolve() if path else document
        if not target.exists() or (anchor and anchor not in _anchors(target)):
            wrong.append(link)
    assert wrong == []


def _paths(text: str) -> list[str]:
    return _PATH.findall(_FENCE.sub("", text))


@pytest.mark.parametrize(
    ("document", "section", "below"),
    [
        ("ARCHITECTURE.md", "Where each hop lives", ("cloudrun", ".")),
        ("CONTRIBUTING.md", "A tour in ten questions", (".",)),
        ("docs/glossary.md", "Glossary", (".",)),
    ],
)
def test_every_file_that_explains_the_code_exists(document: str, section: str, below: tuple[str, ...]) -> None:
    text = (CHECKOUT / document).read_text()
    part = re.split(r"^#+ ", text.partition(f"# {section}\n")[2], maxsplit=1, flags=re.MULTILINE)[0]
    named = _paths(part)
    assert len(named) >= 18
    assert [name for name in named if not any((CHECKOUT / folder / name).exists() for folder in below)] == []


# Accepted decisions, notes and figures of a day are not edited when files move.
_OF_THEIR_DAY = ("decisions", "lab-notes.md", "benchmarks.md", "CHANGELOG.md")


def test_every_whole_path_in_a_document_exists() -> None:
    tops = ("benchmarks/", "changes/", "cloudrun/", "docs/", "jobs/", "tests/", "trainer/", ".ci/", ".github/")
    documents = [path for path in DOCUMENTS if not set(_OF_THEIR_DAY) & set(path.relative_to(CHECKOUT).parts)]
    named = [(path, name) for path in documents for name in _paths(path.read_text()) if name.startswith(tops)]
    assert len(named) > 50
    assert [(path.name, name) for path, name in named if not (CHECKOUT / name).exists()] == []


def _tree() -> Iterator[tuple[str, list[Path], str]]:
    """Yield the files and folders in ARCHITECTURE's tree of packages: the line, the folders it is about, the name."""
    block = (CHECKOUT / "ARCHITECTURE.md").read_text().partition("## Packages\n")[2].split("```")[1]
    folders = [CHECKOUT]
    for line in block.strip().splitlines():
        indent = len(line) - len(line.lstrip())
        first = line.split()[0]
        if indent <= 2 and first.endswith("/"):
            folders = [CHECKOUT / first] if indent == 0 else [folders[-1] / first, folders[-1]]
            yield line, [CHECKOUT if indent == 0 else folders[-1]], first
        elif indent == 0:
            folders = [CHECKOUT]
        for name in re.findall(r"(?<![\w/])[\w]+\.(?:py|yaml)\b", line):
            yield line, folders, name


def test_every_file_in_the_tree_of_packages_exists() -> None:
    named = list(_tree())
    assert len(named) > 30
    assert [(line, name) for line, folders, name in named if not any((f / name).exists() for f in folders)] == []


def test_the_glossary_has_at_most_twenty_terms_and_architecture_leads_to_it() -> None:
    rows = re.findall(r"^\| \*\*", (CHECKOUT / "docs" / "glossary.md").read_text(), re.MULTILINE)
    assert 10 <= len(rows) <= 20
    assert "(docs/glossary.md)" in (CHECKOUT / "ARCHITECTURE.md").read_text()


def test_the_tour_has_ten_questions() -> None:
    assert re.findall(r"^\| (\d+)\. ", (CHECKOUT / "CONTRIBUTING.md").read_text(), re.MULTILINE) == [
        str(number) for number in range(1, 11)
    ]


def test_the_readme_is_short_enough_to_be_read_to_the_end() -> None:
    text = (CHECKOUT / "README.md").read_text()
    assert len(text.splitlines()) <= 140
    assert "![" in text


def test_the_picture_loads_nothing_from_elsewhere() -> None:
    picture = (CHECKOUT / "docs" / "launch.svg").read_text()
    assert "url(http" not in picture
    assert "nothing is billing" in picture.replace("&#160;", " ")


def _keys(model: type[BaseModel], prefix: str = "") -> set[str]:
    """Return every key of a job file, those of a section as `train.lr`."""
    keys = set()
    for name, field in model.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            keys |= _keys(field.annotation, f"{prefix}{name}.")
        else:
            keys.add(prefix + name)
    return keys


def _values(plain: dict[str, Any], model: type[BaseModel], prefix: str = "") -> dict[str, Any]:
    values: dict[str, Any] = {}
    for name, value in plain.items():
        kind = model.model_fields[name].annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            values |= _values(value, kind, f"{prefix}{name}.")
        else:
            values[prefix + name] = value
    return values


def test_the_reference_of_the_job_file_has_every_key_with_its_default() -> None:
    block = re.findall(r"```yaml\n(.*?)```", (CHECKOUT / "docs/reference/job-file.md").read_text(), re.DOTALL)[0]
    plain = yaml.safe_load(block)
    shown = _values(JobSpec.model_validate(plain).as_plain(), JobSpec)
    assert set(_values(plain, JobSpec)) == _keys(JobSpec)
    examples = {"name", "gpu", "data.source"}
    defaults = _values(JobSpec.model_validate({"name": "x", "data": {"source": "y"}}).as_plain(), JobSpec)
    assert {key: value for key, value in shown.items() if key not in examples} == {
        key: value for key, value in defaults.items() if key not in examples
    }
