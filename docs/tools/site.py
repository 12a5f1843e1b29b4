"""Stage the documents as the pages of a site, and build it with MkDocs, which fails where a link leads nowhere.

python -m docs.tools.site              (`make site`, which brings MkDocs along)
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path

CHECKOUT = Path(__file__).parents[2]
PAGES = CHECKOUT / ".site" / "pages"
_LINK = re.compile(r"(?<!!)\[(?P<text>(?:[^\[\]]|\[[^\]]*\])+)\]\((?P<target>[^)\s]+)\)")
_PICTURE = re.compile(r"(?P<alt>!\[[^\]]*\])\((?P<target>[^)\s]+)\)")
_FENCE = re.compile(r"(^ *```.*?^ *```$)", re.MULTILINE | re.DOTALL)

# The documents outside docs/ that are pages, too.
_TOP = {
    "README.md": "en/index.md",
    "README.zh-CN.md": "zh/index.md",
    "AGENTS.md": "en/inside/agents.md",
    "ARCHITECTURE.md": "en/inside/architecture.md",
    "CHANGELOG.md": "en/inside/changelog.md",
    "CONTRIBUTING.md": "en/inside/contributing.md",
    "SECURITY.md": "en/inside/security.md",
}


def main() -> int:
    """Build the site into `.site/html`; return the exit code of MkDocs."""
    stage(PAGES, repository=_repository())
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--config-file", "docs/mkdocs.yml"]
    return subprocess.run(command, cwd=CHECKOUT, check=False, env={**os.environ, "NO_MKDOCS_2_WARNING": "1"}).returncode


def stage(pages: Path, *, repository: str | None) -> None:
    """Write every page and picture below `pages`, in a folder for each language.

    `repository`: the address for links to files that are no pages; None: such links become plain text.
    """
    shutil.rmtree(pages, ignore_errors=True)
    places = dict(page_places())
    for source, place in places.items():
        target = pages / place
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.suffix != ".md":
            shutil.copyfile(source, target)
            continue
        text = source.read_text(encoding="utf-8")
        target.write_text(with_links(text, source, places=places, repository=repository), encoding="utf-8")
    decisions = pages / "en" / "decisions"
    (decisions / "index.md").write_text(_list_of(decisions), encoding="utf-8")
    agents = CHECKOUT / "docs" / "llms.txt"
    (pages / "llms.txt").write_text(_addresses(agents.read_text(encoding="utf-8"), agents, places), encoding="utf-8")


def page_places() -> Iterator[tuple[Path, str]]:
    """Yield each document and picture with its place on the site."""
    docs = CHECKOUT / "docs"
    for name, place in _TOP.items():
        yield CHECKOUT / name, place
    for path in sorted([*docs.rglob("*.md"), *docs.glob("*.svg"), *docs.glob("*.png")]):
        name = path.relative_to(docs).as_posix()
        if name == "README.md":
            yield path, "en/contents.md"
        else:
            yield path, name if name.startswith("zh/") else f"en/{name}"


def with_links(text: str, source: Path, *, places: Mapping[Path, str], repository: str | None) -> str:
    """Return a document with each link as the site has it. Blocks of code stay as they are."""

    def replace_link(found: re.Match[str]) -> str:
        target = _on_site(found["target"], source, places, repository)
        if target is None:
            return found["text"]
        if target.partition("#")[0].endswith("/"):  # of the other language, which MkDocs builds apart
            return f'<a href="{target}">{found["text"]}</a>'
        return f"[{found['text']}]({target})"

    def replace_picture(found: re.Match[str]) -> str:
        return f"{found['alt']}({_on_site(found['target'], source, places, repository)})"

    parts = _FENCE.split(text)
    return "".join(
        part if part.lstrip().startswith("```") else _LINK.sub(replace_link, _PICTURE.sub(replace_picture, part))
        for part in parts
    )


def _on_site(link: str, source: Path, places: Mapping[Path, str], repository: str | None) -> str | None:
    """Return a link as it is on the site; None where the site does not have what it leads to."""
    path, sign, anchor = link.partition("#")
    if link.startswith(("https://", "http://", "#")):
        return link
    target = (source.parent / path).resolve()
    name = target.relative_to(CHECKOUT).as_posix()
    place = "en/decisions/index.md" if name == "docs/decisions" else places.get(target)
    if place is not None:
        if _is_apart(place, places[source], places):
            return os.path.relpath(_address(place), _address(places[source])) + "/" + sign + anchor
        here = Path(places[source]).parent.as_posix()
        return os.path.relpath(place, here) + sign + anchor
    return None if repository is None else f"{repository}/blob/main/{name}{sign}{anchor}"


def _addresses(text: str, source: Path, places: Mapping[Path, str]) -> str:
    """Return a list of links as it is beside the pages: each link leads to where MkDocs publishes the page."""

    def replace(found: re.Match[str]) -> str:
        address = _address(places[(source.parent / found["target"]).resolve()])
        return f"[{found['text']}]({address}/)"

    return _LINK.sub(replace, text)


def _is_apart(place: str, linked_from: str, places: Mapping[Path, str]) -> bool:
    """Return whether a page is of the other language alone. An English page without a Chinese one is of both."""
    if place.startswith("zh/") or linked_from.startswith("en/"):
        return place[:3] != linked_from[:3]
    return f"zh/{place.removeprefix('en/')}" in places.values()


def _address(place: str) -> str:
    """Return the folder in which MkDocs publishes a page: `zh/kaggle` of `zh/kaggle.md`, `.` of `en/index.md`."""
    return Path(place.removeprefix("en/").removesuffix(".md").removesuffix("index") or ".").as_posix()


def _list_of(decisions: Path) -> str:
    rows = []
    for page in sorted(decisions.glob("0*.md")):
        title = page.read_text(encoding="utf-8").splitlines()[0].removeprefix("# ")
        rows.append(f"- [{title}]({page.name})")
    return (
        "# Decisions\n\nWhy it is built so. A decision is never edited, only superseded.\n\n" + "\n".join(rows) + "\n"
    )


def _repository() -> str | None:
    """Return the address of the repository; None while it has none, which `.invalid` says."""
    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    address: str = project["urls"]["Repository"]
    return None if ".invalid" in address else address.rstrip("/")


if __name__ == "__main__":
    sys.exit(main())
