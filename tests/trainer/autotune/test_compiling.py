"""torch.compile for training: when it pays, that it changes no result, and what happens where it does not work.

One test compiles with inductor and a C++ compiler, which takes half a minute; the others go through all of dynamo and
autograd's part of it, and leave the generated code out.
"""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from tests.support.checkout import CHECKOUT
from tests.support.trainer_runs import (
    CAN_COMPILE,
    COMPILED,
    TINY,
    Config,
    StopsAfter,
    Train,
    assert_same_predictions,
    assert_same_run,
    rows,
    weights,
)
from trainer.autotune import compiling
from trainer.autotune.compiling import (
    Compilation,
    Expectation,
    compile_model,
    expectation,
    heartbeats,
    layer_count,
    outcome,
    passes_an_epoch,
    sizes_worth_it,
)
from trainer.distributed.stop import StopFlag
from trainer.errors import StoppedEarly
from trainer.model.ensemble import build_model
from trainer.outputs import checkpoint
from trainer.outputs.progress import Progress
from trainer.session.autotune_result import AutotuneResult
from trainer.session.device import choose_device
from trainer.tools.predict import predict
from trainer.training.engine import train


@pytest.mark.skipif(not CAN_COMPILE, reason="needs a C++ compiler and Python's headers")
@pytest.mark.slow
def test_a_stop_while_it_compiles_is_heard_at_once(leaves: Path, tmp_path: Path) -> None:
    config, log = tmp_path / "c.yaml", tmp_path / "log"
    config.write_text(yaml.safe_dump({**TINY, **COMPILED}))
    command = [sys.executable, "-m", "trainer", "train", "--config", str(config)]
    with log.open("w") as said:
        process = subprocess.Popen(
            [*command, "--data", str(leaves), "--out", str(tmp_path / "out")],
            cwd=CHECKOUT,
            env={**os.environ, "TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "cache")},
            stderr=said,
        )
    try:
        deadline = time.monotonic() + 60
        while "compiling, some" not in log.read_text():
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.05)
        time.sleep(1)
        asked_at = time.monotonic()
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 75, log.read_text()
        assert time.monotonic() - asked_at < 10
    finally:
        process.kill()
    last = tmp_path / "out/checkpoints/last.pt"
    assert log.read_text().splitlines()[-1] == f"stopped by SIGTERM before the next step; {last} is complete"
    assert "Traceback" not in log.read_text()
    assert checkpoint.load(last)["step"] == 0


@pytest.fixture(autouse=True)
def nothing_compiled_before() -> None:
    torch.compiler.reset()


@pytest.fixture
def without_code(monkeypatch: pytest.MonkeyPatch) -> None:
    """And a step that were compiled anew in the middle of a run would raise."""
    monkeypatch.setattr(compiling, "BACKEND", "aot_eager")
    monkeypatch.setattr(compiling, "STANCE", "fail_on_recompile")


def losses(out: Path) -> list[float]:
    return [row["loss"] for row in rows(out)]


def test_an_epoch_has_passes_of_few_sizes() -> None:
    assert passes_an_epoch(1821, batch_size=64, micro_batch=64) == {63: 29}
    assert passes_an_epoch(128, batch_size=64, micro_batch=32) == {32: 4}
    assert passes_an_epoch(31, batch_size=10, micro_batch=3) == {3: 8, 2: 4}


def test_compiling_is_worth_it_for_sizes_that_save_more_than_it_takes() -> None:
    passes, expected = {63: 23, 62: 6}, Expectation(gain=0.1, size_s=100)
    worth = [sizes_worth_it(passes, epochs=epochs, image_s=0.01, expected=expected) for epochs in (1, 69, 70, 270)]
    assert worth == [[], [], [63], [63, 62]]


def test_what_compiling_gains_and_takes_is_cited_until_the_run_has_measured_it() -> None:
    assert expectation(100, None) == expectation(100, AutotuneResult("H100")) == Expectation(0.2, 60.0)
    failed = AutotuneResult("H100", compiled_sizes=(), compile_rates=None, size_s=90.0)
    assert expectation(100, failed) == Expectation(0.2, 90.0)
    measured = AutotuneResult("H100", compile_rates=(800.0, 600.0), size_s=90.0)
    assert expectation(100, measured) == Expectation(0.25, 90.0)
    assert expectation(100, measured.for_next_fold()) == Expectation(0.25, 5.0)
    slower = AutotuneResult("H100", compile_rates=(600.0, 800.0), size_s=90.0)
    assert sizes_worth_it({64: 9}, epochs=1e9, image_s=1.0, expected=expectation(100, slower)) == []


@pytest.mark.parametrize(("gain_is_enough", "sizes"), [(True, (6, 5)), (False, (6,))])
def test_another_number_of_images_is_compiled_where_the_first_has_shown_that_it_repays(
    tiny_config: Config, without_code: None, gain_is_enough: bool, sizes: tuple[int, ...]
) -> None:
    model = build_model(tiny_config(**COMPILED), classes=4)
    asked: list[tuple[int, Expectation]] = []

    def is_worth_it(count: int, measured: Expectation) -> bool:
        asked.append((count, measured))
        return gain_is_enough

    tried = compile_model(
        model, choose_device(tiny_config()), counts=[6, 5], size=32, must_be_faster=False, heartbeat=lambda: None,
        is_worth_it=is_worth_it,
    )  # fmt: skip
    assert tried.sizes == sizes
    [(count, measured)] = asked
    assert count == 5
    assert tried.rates is not None
    assert measured == Expectation(1 - tried.rates[1] / tried.rates[0], tried.size_s)


def test_layers_with_weights_are_counted(tiny_config: Config) -> None:
    assert layer_count(build_model(tiny_config(backbones="test_resnet"), classes=4)) == 15 + 1


@pytest.mark.parametrize(
    ("tried", "line"),
    [
        (Compilation(torch.relu, 74.0, (800.0, 640.0)),
         "compiled in 74 s: 800 against 640 images/s; pays for itself after 5 min of 33 min"),
        (Compilation(torch.relu, 600.0, (700.0, 650.0)),
         "compiled in 600 s: 700 against 650 images/s; does not pay for itself in the 38 min left"),
        (Compilation(None, 74.0, (640.0, 650.0)),
         "not compiled: tried for 74 s, and is no faster, 640 against 650 images/s"),
        (Compilation(None, 3.0, None, "OSError: no compiler"),
         "warning: the compiler failed after 3 s, so nothing is compiled: OSError: no compiler"),
        (Compilation(None, 3.0, None, "OutOfMemoryError: CUDA out of memory", ran_out=True),
         "warning: memory ran out while compiling, after 3 s, so nothing is compiled"),
    ],
)  # fmt: skip
def test_each_outcome_is_a_line_with_its_numbers(tried: Compilation, line: str) -> None:
    assert outcome(tried, images_left=1.6e6) == line


def test_a_compiled_run_is_the_eager_run_within_rounding_and_predicts(
    leaves: Path, tmp_path: Path, tiny_config: Config, train_quietly: Train, without_code: None
) -> None:
    changes = {**COMPILED, "ema_decay": 0.9, "mixup": 0.2}
    summary = train_quietly(tiny_config(**changes), leaves, tmp_path / "compiled")
    train_quietly(tiny_config(**changes | {"compile": False}), leaves, tmp_path / "eager")
    assert losses(tmp_path / "compiled") == pytest.approx(losses(tmp_path / "eager"), abs=1e-3)
    assert (summary["is_compiled"], summary["micro_batch"]) == (True, 6)
    assert 0 < summary["compile_seconds"] < 60
    assert weights(tmp_path / "compiled").keys() == weights(tmp_path / "eager").keys()
    predict(tmp_path / "compiled" / "checkpoints" / "best.pt", data=leaves, out=tmp_path / "again.csv", device="cpu")
    assert_same_predictions(tmp_path / "again.csv", tmp_path / "compiled" / "predictions.csv")


def test_a_compiled_run_that_is_stopped_is_the_one_that_never_stopped(
    leaves: Path, tmp_path: Path, tiny_config: Config, train_quietly: Train, without_code: None
) -> None:
    whole = train_quietly(tiny_config(**COMPILED), leaves, tmp_path / "whole")
    with pytest.raises(StoppedEarly):
        train_quietly(tiny_config(**COMPILED), leaves, tmp_path / "stopped", StopsAfter(9))
    before_s = checkpoint.load(tmp_path / "stopped" / "checkpoints" / "last.pt")["tuned"]["compile_s"]
    stopped = train_quietly(tiny_config(**COMPILED), leaves, tmp_path / "stopped")
    assert stopped["compile_seconds"] > before_s > 0  # both starts compiled
    assert_same_run(tmp_path / "stopped", tmp_path / "whole")
    assert whole["is_compiled"]
    assert stopped["is_compiled"]


def test_a_run_stopped_before_its_first_step_has_a_checkpoint_and_goes_on_as_if_it_never_was(
    leaves: Path, tmp_path: Path, tiny_config: Config, train_quietly: Train, without_code: None
) -> None:
    train_quietly(tiny_config(**COMPILED), leaves, tmp_path / "whole")
    for time_it_is_stopped in (1, 2):
        with pytest.raises(StoppedEarly, match=r"before the next step; .*last.pt is complete"):
            train_quietly(tiny_config(**COMPILED), leaves, tmp_path / "stopped", StopsAfter(time_it_is_stopped))
        assert checkpoint.load(tmp_path / "stopped/checkpoints/last.pt")["step"] == 0
    train_quietly(tiny_config(**COMPILED), leaves, tmp_path / "stopped")
    assert_same_run(tmp_path / "stopped", tmp_path / "whole")


@pytest.mark.slow
def test_smaller_images_and_other_batches_are_eager_and_compile_nothing(
    leaves: Path, tmp_path: Path, tiny_config: Config, train_quietly: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compiling, "BACKEND", "aot_eager")
    config = tiny_config(**COMPILED | {"image_size": 64, "start_image_size": 32})
    assert train_quietly(config, leaves, tmp_path)["is_compiled"]
    monkeypatch.setattr(compiling, "STANCE", "fail_on_recompile")
    with pytest.raises(RuntimeError, match="recompile"):
        train_quietly(config, leaves, tmp_path / "again")


@pytest.mark.slow
def test_weights_statistics_and_random_numbers_are_as_before(tiny_config: Config, without_code: None) -> None:
    model = build_model(tiny_config(**COMPILED), classes=4)
    before, random = {key: value.clone() for key, value in model.state_dict().items()}, torch.get_rng_state()
    tried = compile_model(
        model, choose_device(tiny_config()), counts=[6, 5], size=32, must_be_faster=False, heartbeat=lambda: None
    )
    assert tried.compiled is not None
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), random)


def test_what_is_no_faster_than_eager_is_dropped(tiny_config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    def slow(graph: torch.fx.GraphModule, inputs: Sequence[torch.Tensor]) -> Callable[..., Any]:
        def run(*arguments: Any) -> Any:
            time.sleep(0.1)
            return graph(*arguments)

        return run

    monkeypatch.setattr(compiling, "BACKEND", slow)
    model = build_model(tiny_config(**COMPILED), classes=4)
    tried = compile_model(
        model, choose_device(tiny_config()), counts=[6], size=32, must_be_faster=True, heartbeat=lambda: None
    )
    assert (tried.compiled, tried.failure) == (None, None)
    assert outcome(tried, images_left=100).startswith("not compiled: tried for ")


def test_what_takes_long_is_no_stall_until_it_takes_too_long() -> None:
    beaten, often = threading.Semaphore(0), 3
    with heartbeats(beaten.release, every_s=0.001):
        assert all(beaten.acquire(timeout=10) for _ in range(often))
    shortage: list[None] = []
    with heartbeats(lambda: shortage.append(None), every_s=0.001, most_s=0):
        time.sleep(0.05)
    assert shortage == []


@pytest.mark.slow
def test_without_a_working_compiler_a_run_says_so_and_goes_on(leaves: Path, tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text(yaml.safe_dump({**TINY, **COMPILED, "epochs": 1}))
    command = [sys.executable, "-m", "trainer", "train", "--config", "c.yaml", "--data", str(leaves), "--out", "out"]
    environment = {**os.environ, "CXX": "/bin/false", "PYTHONPATH": str(CHECKOUT), "TORCHINDUCTOR_CACHE_DIR": "cache"}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    [line] = [line for line in done.stderr.splitlines() if line.startswith("warning: the compiler")]
    assert ", so nothing is compiled: " in line
    assert "epoch 1/1: train loss" in done.stderr
    assert '"is_compiled": false' in (tmp_path / "out" / "summary.json").read_text()


@pytest.mark.skipif(not CAN_COMPILE, reason="inductor needs g++ and Python's headers")
@pytest.mark.slow
def test_inductor_compiles_a_run_before_its_first_step(
    leaves: Path, tmp_path: Path, tiny_config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "cache"))
    for wish in ("on", "off"):
        config = tiny_config(**COMPILED | {"batch_size": 8, "epochs": 2, "compile": wish})
        (tmp_path / wish).mkdir()
        with (tmp_path / wish / "said.txt").open("w") as said:
            train(config, data=leaves, out=tmp_path / wish, stop=StopFlag(), progress=Progress(stream=said))
    assert losses(tmp_path / "on") == pytest.approx(losses(tmp_path / "off"), abs=2e-3)
    said_lines = (tmp_path / "on" / "said.txt").read_text().splitlines()
    [at] = [place for place, line in enumerate(said_lines) if line.startswith("compiled in ")]
    assert said_lines[at + 1].startswith("first step after ")
