"""Print which package imports which, floor by floor; exits with 1 where packages import one another in a circle.

python -m benchmarks.import_graph              (`make graph`)
python -m benchmarks.import_graph --write      also puts it into ARCHITECTURE.md
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import grimp

PACKAGES = ("cloudrun", "trainer")
ARCHITECTURE = Path(__file__).parents[1] / "ARCHITECTURE.md"
_WIDTH = 118

Imports = Mapping[str, frozenset[str]]


def main(packages: Sequence[str] = PACKAGES, *, write_to: Path | None = None) -> int:
    """Print the graph of `packages` and return the exit code."""
    imports = by_package(modules_of(packages))
    cycle = find_cycle(imports)
    if cycle:
        print(f"{len(imports)} packages and loose modules, with a cycle: {' -> '.join(cycle)}")
        return 1
    arrows = sum(len(imported) for imported in imports.values())
    lines = [*as_lines(imports), ""]
    lines += [f"{len(imports)} packages and loose modules, {arrows} imports between them, no cycle"]
    for_types = find_cycle(by_package(modules_of(packages, with_types=True)))
    if for_types:
        lines += [f"a cycle of imports for type checkers alone, which nothing runs: {' -> '.join(for_types)}"]
    print("\n".join(lines))
    if write_to is not None:
        write_to.write_text(with_graph(write_to.read_text(encoding="utf-8"), lines), encoding="utf-8")
    return 0


def with_graph(document: str, lines: Sequence[str]) -> str:
    """Return the document with `lines` in place of the block of text under its heading "Import graph"."""
    before, heading, after = document.partition("\n## Import graph\n")
    introduction, _, rest = after.partition("```text\n")
    _, end, rest = rest.partition("\n```\n")
    assert heading
    assert end
    return "".join([before, heading, introduction, "```text\n", "\n".join(lines), end, rest])


def modules_of(packages: Sequence[str], *, with_types: bool = False) -> dict[str, frozenset[str]]:
    """Return what each module imports of `packages`, also inside functions.

    `with_types`: count imports under `if TYPE_CHECKING`, too.
    """
    first, *others = packages
    graph = grimp.build_graph(first, *others, cache_dir=None, exclude_type_checking_imports=not with_types)
    return {module: frozenset(graph.find_modules_directly_imported_by(module)) for module in graph.modules}


def by_package(modules: Imports) -> dict[str, frozenset[str]]:
    """Return what each package imports of the others: `cloudrun.cli.launch` counts as `cloudrun.cli`."""
    packages: dict[str, set[str]] = {}
    for module, imported in modules.items():
        package = package_of(module)
        packages.setdefault(package, set()).update(package_of(name) for name in imported)
    return {package: frozenset(imported - {package}) for package, imported in packages.items()}


def package_of(module: str) -> str:
    """Return the first two parts of a module's name: a package below the top level, or a loose module there."""
    return ".".join(module.split(".")[:2])


def find_cycle(imports: Imports) -> list[str]:
    """Return packages that import one another in a circle, the first one again at the end; empty without a cycle."""
    try:
        TopologicalSorter({package: sorted(imports[package]) for package in sorted(imports)}).prepare()
    except CycleError as err:
        found: list[str] = err.args[1]
        return found[::-1]  # graphlib names the imported package first
    return []


def floors(imports: Imports) -> list[list[str]]:
    """Return the packages by floor: those of floor 0 import none, every other stands just above all that it imports."""
    floor_of: dict[str, int] = {}
    for package in TopologicalSorter(imports).static_order():
        floor_of[package] = max((floor_of[name] + 1 for name in imports.get(package, ())), default=0)
    return [sorted(name for name in floor_of if floor_of[name] == floor) for floor in range(max(floor_of.values()) + 1)]


def as_lines(imports: Imports) -> list[str]:
    """Return the graph as text, the highest floor first: a package, an arrow, and all packages that it imports."""
    lines = []
    for floor, packages in reversed(list(enumerate(floors(imports)))):
        for package in packages:
            words = sorted(
                imports.get(package, ()), key=lambda name: (name.split(".")[0] != package.split(".")[0], name)
            )
            lines += _wrapped(f"{floor:2}  {package}", [_short(name, package) for name in words])
    return lines


def _short(name: str, importer: str) -> str:
    """Leave out the top-level package where both have the same: `cloudrun.cli -> runs`."""
    top, _, rest = name.partition(".")
    return rest if rest and top == importer.split(".")[0] else name


def _wrapped(head: str, words: Sequence[str]) -> list[str]:
    lines = [head + (" ->" if words else "")]
    for word in words:
        if len(lines[-1]) + 1 + len(word) > _WIDTH:
            lines.append(" " * 8)
        lines[-1] += f" {word}"
    return lines


if __name__ == "__main__":
    sys.exit(main(write_to=ARCHITECTURE if "--write" in sys.argv[1:] else None))
