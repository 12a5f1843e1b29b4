"""What is done in one module of `cloudrun`, and nowhere else: locks, renames, retries."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import cloudrun

# The order and the secrets, which the launch has written: each of their bytes counts.
TRUSTED = ("protocol/order.py", "worker/watchdog.py")
PACKAGE = Path(cloudrun.__file__).parent


def _nodes() -> Iterator[tuple[str, ast.AST]]:
    for path in sorted(PACKAGE.rglob("*.py")):
        name = path.relative_to(PACKAGE).as_posix()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            yield name, node


def _calls(node: ast.AST, *names: str) -> bool:
    return isinstance(node, ast.Call) and ast.unparse(node.func).rpartition(".")[2] in names


def _locks(node: ast.AST) -> bool:
    return _calls(node, "flock", "lockf")


def _renames(node: ast.AST) -> bool:
    """`os.replace(a, b)`, and `path.replace(target)`, which has one argument where a text's has two."""
    if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
        return False
    is_of_os = ast.unparse(node.func) in ("os.replace", "os.rename")
    return is_of_os or (node.func.attr == "replace" and len(node.args) == 1 and not node.keywords)


def _grows_pauses(node: ast.AST) -> bool:
    """`pause * 2`, `2**attempt`: a back-off by hand."""
    if not isinstance(node, ast.BinOp) or not isinstance(node.op, ast.Pow | ast.Mult):
        return False
    text = ast.unparse(node)
    return "pause" in text.lower() or ("attempt" in text and isinstance(node.op, ast.Pow))


@pytest.mark.parametrize(
    ("is_done", "place"),
    [(_locks, "files/locks.py"), (_renames, "files/atomic.py"), (_grows_pauses, "retry.py")],
    ids=["a lock is taken", "a finished file gets its name", "a pause grows"],
)
def test_is_done_in_one_module(is_done: Callable[[ast.AST], bool], place: str) -> None:
    found = {f"{name}:{getattr(node, 'lineno', 0)}" for name, node in _nodes() if is_done(node) and name != place}
    assert found == set()
    if place != "retry.py":
        assert any(is_done(node) for name, node in _nodes() if name == place), "the search finds nothing at all"


def test_a_json_object_of_a_file_is_read_by_one_function() -> None:
    """`json.loads(path.read_text())`: what a kill cut short, or a job has put there, would end the command."""
    found = {name for name, node in _nodes() if _calls(node, "loads") and ".read_text(" in ast.unparse(node)}
    assert found == set(TRUSTED)
