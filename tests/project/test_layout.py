"""Tests are found where their subject is, and share what they share through `tests/support`."""

from __future__ import annotations

import ast
from collections.abc import Iterator

import pytest

from tests.support.checkout import CHECKOUT

TESTS = CHECKOUT / "tests"


def imported(source: str) -> Iterator[str]:
    """Yield the name of each module that a source imports, and of each name that it takes from one."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def shared_from_tests(source: str) -> set[str]:
    """Return the test modules and conftest modules that a source imports."""
    parts = [(name, part) for name in imported(source) if name.startswith("tests.") for part in name.split(".")[1:]]
    return {name for name, part in parts if part.startswith("test_") or part == "conftest"}


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("from tests.cloudrun.billing.test_cost import a_run", {"tests.cloudrun.billing.test_cost.a_run"}),
        ("from tests.sky import test_run", {"tests.sky.test_run"}),
        ("def late():\n    import tests.conftest", {"tests.conftest"}),
        ("from tests.support.runs import START\nfrom tests.sky import jobs", set()),
    ],
)
def test_an_import_of_a_test_module_is_seen(source: str, found: set[str]) -> None:
    assert shared_from_tests(source) == found


def test_no_module_imports_a_test_module() -> None:
    modules = [path for top in ("tests", "benchmarks") for path in (CHECKOUT / top).rglob("*.py")]
    found = {str(path.relative_to(CHECKOUT)): shared_from_tests(path.read_text()) for path in modules}
    assert {path: names for path, names in found.items() if names} == {}


@pytest.mark.parametrize("package", ["cloudrun", "trainer"])
def test_each_folder_of_tests_has_the_name_of_a_package(package: str) -> None:
    folders = {path.parent.relative_to(TESTS) for path in (TESTS / package).rglob("test_*.py")}
    assert len(folders) > 5
    assert sorted(folder for folder in folders if not (CHECKOUT / folder / "__init__.py").is_file()) == []


def test_only_a_loose_module_has_its_tests_outside_a_folder() -> None:
    loose = {path.name.removeprefix("test_") for path in (TESTS / "cloudrun").glob("test_*.py")}
    assert loose <= {path.name for path in (CHECKOUT / "cloudrun").glob("*.py")}
