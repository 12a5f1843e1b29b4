"""What the project shows to the outside: workflows, the change log, releases, licences."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

from tests.support.checkout import CHECKOUT

WORKFLOWS = sorted((CHECKOUT / ".github" / "workflows").glob("*.yml"))
PROJECT = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]


def _steps(workflow: Path) -> list[dict[str, Any]]:
    jobs = yaml.safe_load(workflow.read_text())["jobs"].values()
    return [step for job in jobs for step in job["steps"]]


def test_workflows_run_parts_of_ci_that_the_makefile_has() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (CHECKOUT / "Makefile").read_text(), re.MULTILINE))
    commands = [step["run"] for path in WORKFLOWS for step in _steps(path) if ".ci/run" in step.get("run", "")]
    matrix = yaml.safe_load((CHECKOUT / ".github/workflows/slow.yml").read_text())["jobs"]["slow"]["strategy"]["matrix"]
    words = {word for command in commands for word in command.split()[1:]} - {'"$TARGET"'} | set(matrix["target"])
    assert {"check", "demo", "test", "test-sky"} <= words
    assert words <= targets


def test_every_python_that_is_promised_is_tested() -> None:
    matrix = yaml.safe_load((CHECKOUT / ".github/workflows/check.yml").read_text())["jobs"]["test"]["strategy"][
        "matrix"
    ]
    assert PROJECT["requires-python"] == f">={matrix['python'][0]}"
    assert matrix["python"] == ["3.11", "3.12", "3.13", "3.14"]


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.stem)
def test_a_workflow_reads_alone_and_its_actions_are_pinned_by_commit(workflow: Path) -> None:
    plain = yaml.safe_load(workflow.read_text())
    assert plain["permissions"] == {"contents": "read"}
    uses = [step["uses"] for step in _steps(workflow) if "uses" in step]
    assert [name for name in uses if not re.fullmatch(r"[\w./-]+@[0-9a-f]{40}", name)] == []


def test_ci_runs_the_named_targets_alone_and_fails_where_one_does(tmp_path: Path) -> None:
    (tmp_path / ".ci").mkdir()
    shutil.copy(CHECKOUT / ".ci" / "run", tmp_path / ".ci" / "run")
    (tmp_path / "Makefile").write_text(
        "good:\n\t@echo good ran\nbad:\n\t@echo bad ran; false\nother:\n\t@echo other ran\n"
    )
    tools = tmp_path / "bin"  # no apt-get there, so nothing is installed
    tools.mkdir()
    for name in ("bash", "dirname", "echo", "env", "false", "id", "make", "sh"):
        (tools / name).symlink_to(shutil.which(name) or name)

    def run(*targets: str) -> subprocess.CompletedProcess[str]:
        command = [str(tmp_path / ".ci" / "run"), *targets]
        return subprocess.run(command, env={"PATH": str(tools)}, capture_output=True, text=True, check=False)

    done = run("good")
    assert done.returncode == 0, done.stderr
    assert "other ran" not in done.stdout
    done = run("bad", "good")
    assert done.returncode == 1
    assert done.stdout.index("bad ran") < done.stdout.index("good ran")


def test_fragments_become_the_next_version_above_the_older_ones(tmp_path: Path) -> None:
    for name in ("pyproject.toml", "CHANGELOG.md"):
        shutil.copy(CHECKOUT / name, tmp_path)
    shutil.copytree(CHECKOUT / "changes", tmp_path / "changes")
    kinds = ["added", "changed", "fixed", "security", "removed"]
    for kind in kinds:
        (tmp_path / "changes" / f"+word.{kind}.md").write_text(f"Something is {kind}.\n")
    (tmp_path / "changes" / "214.fixed.md").write_text("A bill ends.\n")
    before = (tmp_path / "CHANGELOG.md").read_text()
    command = [
        Path(sys.executable).with_name("towncrier"),
        "build",
        "--yes",
        "--version",
        "9.9.9",
        "--date",
        "2030-01-02",
    ]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    text = (tmp_path / "CHANGELOG.md").read_text()
    head, _, old = before.partition("<!-- releases -->\n")
    assert text.startswith(f"{head}<!-- releases -->\n\n## 9.9.9 (2030-01-02)\n")
    assert text.endswith(old.lstrip("\n"))
    new = text[len(head) : text.index(old.lstrip("\n"))]
    assert re.findall(r"^### (\w+)$", new, re.MULTILINE) == [kind.capitalize() for kind in kinds]
    assert "- A bill ends. (#214)\n" in new
    assert [path.name for path in (tmp_path / "changes").iterdir()] == ["README.md"]


@pytest.fixture
def release() -> ModuleType:
    spec = spec_from_file_location("release", CHECKOUT / ".ci" / "release.py")
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


HOME = "https://github.com/somebody/cloudrun"
READY = {"version": "1.2.0", "urls": {"Repository": HOME}}
LOG = "# Changelog\n\n## 1.2.0 (2030-01-02)\n\n### Added\n- News.\n\n## 1.1.0 (2029-01-02)\n\n- Old.\n"


def test_a_tag_that_agrees_with_the_project_is_a_release(release: ModuleType) -> None:
    assert release.problems("v1.2.0", HOME, project=READY, changelog=LOG, fragments=[]) == []
    assert release.notes(LOG, "1.2.0") == "### Added\n- News."


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"tag": "v1.3.0"}, "the tag is v1.3.0, and pyproject.toml has version 1.2.0"),
        ({"repository": "https://github.com/fork/cloudrun"}, "is not https://github.com/fork/cloudrun"),
        ({"changelog": LOG.replace("(2030-01-02)", "(not released yet)")}, "no line `## 1.2.0 (YYYY-MM-DD)`"),
        ({"fragments": ["214.fixed.md"]}, "changes/ still has 214.fixed.md"),
    ],
)
def test_what_keeps_a_tag_from_being_a_release_is_named(
    release: ModuleType, change: dict[str, Any], problem: str
) -> None:
    given = {"tag": "v1.2.0", "repository": HOME, "project": READY, "changelog": LOG, "fragments": []} | change
    tag, repository = given.pop("tag"), given.pop("repository")
    (found,) = release.problems(tag, repository, **given)
    assert problem in found


def test_the_address_of_the_project_stands_in_one_place() -> None:
    done = subprocess.run(
        ["git", "grep", "--files-with-matches", "--fixed-strings", PROJECT["urls"]["Repository"]],
        cwd=CHECKOUT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout.splitlines() == ["pyproject.toml"]


def test_what_runs_on_a_machine_imports_without_any_package() -> None:
    command = [sys.executable, "-I", "-S", str(CHECKOUT / ".ci" / "import_worker.py")]
    done = subprocess.run(command, env={"PATH": os.environ["PATH"]}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_every_package_that_the_project_names_is_listed_with_its_licence() -> None:
    requirements = [
        *PROJECT["dependencies"],
        *(line for lines in PROJECT["optional-dependencies"].values() for line in lines),
    ]
    names = {re.split(r"[\[<>=; ]", line)[0] for line in requirements}
    page = (CHECKOUT / "docs" / "reference" / "licences.md").read_text()
    listed = {name for row in re.findall(r"^\| ([\w, -]+) \|", page, re.MULTILINE) for name in row.split(", ")}
    assert names <= listed
