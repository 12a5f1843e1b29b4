"""Check that a tag is fit for a release, and print its notes: the version's part of CHANGELOG.md.

python .ci/release.py v0.2.0 --repository https://github.com/OWNER/NAME
"""

from __future__ import annotations

import argparse
import re
import sys
import tomllib
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[1]


def main(words: list[str], checkout: Path = CHECKOUT) -> int:
    """Print the notes of the release; exits with 1 and every problem on stderr where there is one."""
    parser = argparse.ArgumentParser()
    parser.add_argument("tag")
    parser.add_argument("--repository", required=True, help="the address of the repository that releases")
    options = parser.parse_args(words)
    project = tomllib.loads((checkout / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    changelog = (checkout / "CHANGELOG.md").read_text(encoding="utf-8")
    fragments = [path.name for path in sorted((checkout / "changes").glob("*.md")) if path.name != "README.md"]
    found = problems(options.tag, options.repository, project=project, changelog=changelog, fragments=fragments)
    for problem in found:
        print(f"error: {problem}", file=sys.stderr)
    print(notes(changelog, project["version"]))
    return 1 if found else 0


def problems(
    tag: str, repository: str, *, project: dict[str, object], changelog: str, fragments: list[str]
) -> list[str]:
    """Return what keeps `tag` from being a release, in words; empty where nothing does."""
    found = []
    version, urls = str(project["version"]), project["urls"]
    if tag != f"v{version}":
        found.append(f"the tag is {tag}, and pyproject.toml has version {version}: set one of them")
    if not isinstance(urls, dict) or urls.get("Repository") != repository:
        found.append(f"Repository in [project.urls] of pyproject.toml is not {repository}: set it there")
    if not re.search(rf"^## {re.escape(version)} \(\d{{4}}-\d\d-\d\d\)$", changelog, re.MULTILINE):
        found.append(
            f"CHANGELOG.md has no line `## {version} (YYYY-MM-DD)`: run `make changelog VERSION={version}`; "
            "where the line is there without a date, set the date"
        )
    if fragments:
        found.append(f"changes/ still has {', '.join(fragments)}: run `make changelog VERSION={version}`")
    return found


def notes(changelog: str, version: str) -> str:
    """Return the part of CHANGELOG.md that is about `version`, without its heading; empty where there is none."""
    found = re.search(rf"^## {re.escape(version)} [^\n]*\n(.*?)(?=^## |\Z)", changelog, re.MULTILINE | re.DOTALL)
    return found[1].strip() if found else ""


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
