"""Read from source text what it uses of SkyPilot: each name below `sky`, and with what it is called."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Use:
    """A dotted name below `sky`; `positional` is None where the name is read, and not called."""

    name: str
    positional: int | None = None
    keywords: tuple[str, ...] = ()
    has_more: bool = False  # arguments by `*` or `**`

    def __str__(self) -> str:
        if self.positional is None:
            return self.name
        arguments = ["_"] * self.positional + [f"{keyword}=" for keyword in self.keywords]
        return f"{self.name}({', '.join([*arguments, *(['...'] if self.has_more else [])])})"

    def as_plain(self) -> dict[str, Any]:
        return asdict(self)


def uses_in(source: str) -> list[Use]:
    """Return each use once, sorted. A parameter, a target of `with` or `self._sky` is SkyPilot, too."""
    return sorted(set(_uses(ast.parse(source), {"sky": "sky"})), key=str)


def scripts_in(source: str) -> list[str]:
    """Return the string constants of a module that are Python programs which import SkyPilot."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and "sky" in node.value:
            try:
                script = ast.parse(node.value)
            except SyntaxError:
                continue
            if any(any(_imported(one)) for one in ast.walk(script)):
                found.append(node.value)
    return found


def _uses(node: ast.AST, names: dict[str, str]) -> Iterator[Use]:
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        names = dict(names)  # an import inside a function is that function's
    for name, bound, imported in _imported(node):
        names[name] = bound
        yield Use(imported)
    if isinstance(node, ast.Call):
        called = _dotted(node.func, names)
        if called is not None:
            keywords = tuple(sorted(word.arg for word in node.keywords if word.arg is not None))
            starred = [one for one in node.args if isinstance(one, ast.Starred)]
            has_more = bool(starred) or any(word.arg is None for word in node.keywords)
            yield Use(called, len(node.args) - len(starred), keywords, has_more)
            for argument in (*node.args, *node.keywords):
                yield from _uses(argument, names)
            return
    if isinstance(node, ast.Attribute):
        read = _dotted(node, names)
        if read is not None:
            yield Use(read)
            return
    for child in ast.iter_child_nodes(node):
        yield from _uses(child, names)


def _imported(node: ast.AST) -> Iterator[tuple[str, str, str]]:
    """Yield (name, what it stands for, what was imported) of an import statement that is of SkyPilot."""
    if isinstance(node, ast.Import):
        for one in node.names:
            if one.name.partition(".")[0] == "sky":
                yield one.asname or "sky", one.name if one.asname else "sky", one.name
    if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "sky":
        for one in node.names:
            yield one.asname or one.name, f"{node.module}.{one.name}", f"{node.module}.{one.name}"


def _dotted(node: ast.AST, names: dict[str, str]) -> str | None:
    if isinstance(node, ast.Name):
        return names.get(node.id)
    if isinstance(node, ast.Attribute):
        if ast.unparse(node) == "self._sky":
            return "sky"
        before = _dotted(node.value, names)
        return None if before is None else f"{before}.{node.attr}"
    return None
