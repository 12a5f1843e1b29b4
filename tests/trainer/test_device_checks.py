"""What `python -m benchmarks.gpu` checks on a GPU. On a CPU, what can be seen there."""

from pathlib import Path

import pytest
import torch

from benchmarks.gpu.checks import CHECKS, Bench, Check, NotHere
from benchmarks.gpu.checks_of_compiling import CHECKS_OF_COMPILING
from benchmarks.gpu.checks_of_memory import CHECKS_OF_MEMORY
from benchmarks.gpu.command_line import Commands

NEEDS_A_GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU here")


def assert_right(check: Check, bench: Bench) -> None:
    try:
        found = check.act(bench)
    except NotHere as reason:
        pytest.skip(str(reason))
    assert found <= check.limit


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.name)
def test_on_a_cpu(check: Check, leaves: Path, plants: Path) -> None:
    assert_right(check, Bench("cpu", leaves, plants))


@pytest.mark.slow
@pytest.mark.parametrize("check", CHECKS_OF_COMPILING, ids=lambda check: check.name)
def test_compiled_on_a_cpu(check: Check, leaves: Path, plants: Path) -> None:
    assert_right(check, Bench("cpu", leaves, plants))


@pytest.mark.slow
def test_commands_on_a_cpu(leaves: Path, plants: Path, tmp_path: Path) -> None:
    found = list(Commands(Bench("cpu", leaves, plants), tmp_path).stopped_and_gone_on_with())
    assert len(found) == 5
    assert [one for one in found if one.value is None or not one.value <= one.limit] == []


@pytest.mark.gpu
@NEEDS_A_GPU
@pytest.mark.parametrize("check", [*CHECKS, *CHECKS_OF_COMPILING, *CHECKS_OF_MEMORY], ids=lambda check: check.name)
def test_on_a_gpu(check: Check, leaves: Path, plants: Path) -> None:
    assert_right(check, Bench("cuda", leaves, plants))


@pytest.mark.gpu
@NEEDS_A_GPU
def test_commands_on_a_gpu(leaves: Path, plants: Path, tmp_path: Path) -> None:
    commands = Commands(Bench("cuda", leaves, plants), tmp_path)
    found = [*commands.stopped_and_gone_on_with(), *commands.stopped_while_it_compiles()]
    assert [one for one in found if one.value is None or not one.value <= one.limit] == []
