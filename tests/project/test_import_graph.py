"""`make graph`: which package imports which, and that none import one another in a circle."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest

from benchmarks.import_graph import as_lines, by_package, find_cycle, floors, main, package_of, with_graph

MODULES = {
    "shop.__main__": frozenset({"shop.till.screen"}),
    "shop.till.screen": frozenset({"shop.till.keys", "shop.stock.shelf", "bank.account"}),
    "shop.till.keys": frozenset[str](),
    "shop.stock.shelf": frozenset({"shop.units"}),
    "shop.units": frozenset[str](),
    "bank.account": frozenset[str](),
}
IMPORTS = by_package(MODULES)


def test_a_module_counts_as_its_package_below_the_top_level() -> None:
    assert [package_of(name) for name in ("shop", "shop.units", "shop.till.screen")] == [
        "shop", "shop.units", "shop.till",
    ]  # fmt: skip
    assert IMPORTS["shop.till"] == {"shop.stock", "bank.account"}


def test_a_package_stands_above_all_that_it_imports() -> None:
    assert floors(IMPORTS) == [["bank.account", "shop.units"], ["shop.stock"], ["shop.till"], ["shop.__main__"]]


def test_a_line_names_what_a_package_imports_with_its_own_top_level_left_out() -> None:
    assert as_lines(IMPORTS) == [
        " 3  shop.__main__ -> till",
        " 2  shop.till -> stock bank.account",
        " 1  shop.stock -> units",
        " 0  bank.account",
        " 0  shop.units",
    ]


def test_packages_that_import_one_another_are_named_in_order() -> None:
    assert find_cycle(IMPORTS) == []
    cycle = find_cycle({**IMPORTS, "shop.units": frozenset({"shop.till"})})
    assert sorted(cycle[1:]) == ["shop.stock", "shop.till", "shop.units"]
    assert cycle[0] == cycle[-1]
    following = {("shop.till", "shop.stock"), ("shop.stock", "shop.units"), ("shop.units", "shop.till")}
    assert set(pairwise(cycle)) == following


def test_a_cycle_of_real_packages_ends_the_command_with_1(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, line in (("till", "from roundshop.stock import here"), ("stock", "def late(): import roundshop.till")):
        package = tmp_path / "roundshop" / name
        package.mkdir(parents=True)
        (package / "__init__.py").write_text(f"{line}\nhere = 1\n")
    (tmp_path / "roundshop" / "__init__.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    assert main(["roundshop"]) == 1
    assert "a cycle: roundshop." in capsys.readouterr().out


def test_imports_for_type_checkers_alone_are_no_cycle_and_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    types = "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from typeshop.till import Till\n"
    for name, text in (("till", "from typeshop.stock import here\nclass Till: ...\n"), ("stock", f"{types}here = 1\n")):
        package = tmp_path / "typeshop" / name
        package.mkdir(parents=True)
        (package / "__init__.py").write_text(text)
    (tmp_path / "typeshop" / "__init__.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    assert main(["typeshop"]) == 0
    out = capsys.readouterr().out
    assert "no cycle\na cycle of imports for type checkers alone, which nothing runs: typeshop." in out


def test_this_project_has_no_cycle(capsys: pytest.CaptureFixture[str]) -> None:
    assert main() == 0
    assert ", no cycle" in capsys.readouterr().out


def test_the_graph_takes_the_place_of_the_old_one_alone() -> None:
    other = "# A\n\n```text\nother\n```\n"
    document = f"{other}\n## Import graph\n\nWords.\n\n```text\nold\nlines\n```\n\n## B\n\n{other}"
    assert with_graph(document, ["new"]) == document.replace("old\nlines", "new")
