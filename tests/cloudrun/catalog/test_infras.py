"""Which backend serves an infra, what its machines are, and that nobody asks for a backend by its name instead."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import pytest

import cloudrun
from cloudrun.backends import open_backend
from cloudrun.catalog.infras import BILLED, CAPABILITIES, BackendName, backend_for, is_own_cluster
from cloudrun.state.machines import Scan

PACKAGE = Path(cloudrun.__file__).parent


@pytest.mark.parametrize(
    ("infra", "backend", "is_own"),
    [
        ("local", "local", False),
        ("local/here", "local", False),
        (None, "sky", False),
        ("aws", "sky", False),
        ("aws/us-east-1", "sky", False),
        ("slurm/mine", "sky", True),
        ("kubernetes", "sky", True),
        ("k8s/context", "sky", True),
        ("SSH/pool", "sky", True),
    ],
)
def test_the_infra_names_its_backend_and_its_owner(infra: str | None, backend: str, is_own: bool) -> None:
    assert backend_for(infra) == backend
    assert is_own_cluster(infra) == is_own


@pytest.mark.parametrize("name", get_args(BackendName))
def test_each_backend_has_the_capabilities_of_its_name(name: BackendName, tmp_path: Path) -> None:
    assert open_backend(name, tmp_path).capabilities == CAPABILITIES[name]


def test_machines_that_the_ledger_does_not_know_are_looked_for_where_they_cost_money() -> None:
    assert [name for name, one in CAPABILITIES.items() if one.rents] == [BILLED]


def test_a_scan_that_an_older_version_has_remembered_is_still_read() -> None:
    machine = '{"name": "m", "infra": "aws", "handle": "h", "known_to_sky": true}'
    old = f'{{"at": "2026-07-01T12:00:00Z", "machines": [{machine}]}}'
    scan = Scan.model_validate_json(old)
    assert [machine.is_known_here for machine in scan.machines] == [True]
    assert Scan.model_validate_json(scan.model_dump_json()) == scan


# How machines of an infra end is written down by their names; the worker's order names who ends it.
MAY_COMPARE = ("backends", "worker", "catalog")


def _compared(source: str) -> Iterator[str]:
    """Yield each comparison with the name of a backend, or of the infra whose machines end otherwise."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Compare | ast.MatchValue):
            words = {one.value for one in ast.walk(node) if isinstance(one, ast.Constant)}
            if words & {"local", "sky", "slurm"}:
                yield ast.unparse(node)
        elif isinstance(node, ast.Attribute) and node.attr == "is_local":
            yield ast.unparse(node)


def test_capabilities_are_asked_for_and_no_names() -> None:
    found = []
    for path in sorted(PACKAGE.rglob("*.py")):
        name = path.relative_to(PACKAGE)
        if name.parts[0] not in MAY_COMPARE:
            found += [f"{name}: {text}" for text in _compared(path.read_text(encoding="utf-8"))]
    assert found == []
    assert list(_compared('plan.backend == "sky" or infra in ("slurm", "ssh")')) != []
