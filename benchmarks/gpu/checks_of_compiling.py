"""Check that torch.compile changes no result, and that later folds use what the first fold compiled.

On a CPU the code is traced and not generated, which takes seconds instead of a minute.
"""

from __future__ import annotations

import gc
import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from torch._dynamo.utils import counters

from benchmarks.gpu.checks import TINY, Bench, Check, NotHere, first_batches, step
from cloudrun.recipe.train_config import TrainConfig
from trainer.autotune import compiling
from trainer.autotune.compiling import compile_model
from trainer.distributed.stop import StopFlag
from trainer.outputs.progress import Progress
from trainer.session.setup import TrainingSetup
from trainer.training.engine import train


class CompilerFailed(Exception):
    """The compiler raised; the message is the compiler's."""


@contextmanager
def compiled_for(setup: TrainingSetup, counts: Sequence[int], *, fails_on_others: bool) -> Iterator[None]:
    """Compile the session's model for `counts` images while the block runs. Raises CompilerFailed.

    `fails_on_others`: raise where anything would be compiled again, or would run eagerly.
    """
    size, device = setup.config.image_size, setup.device
    with without_code_on_a_cpu(is_cuda=device.is_cuda):
        tried = compile_model(
            setup.model, device, counts=counts, size=size, must_be_faster=False, heartbeat=lambda: None
        )  # fmt: skip
        if tried.compiled is None:
            raise CompilerFailed(tried.failure)
        setup.model.compiled, stance = tried.compiled, compiling.STANCE
        compiling.STANCE = "fail_on_recompile" if fails_on_others else stance
        try:
            yield
        finally:
            compiling.STANCE = stance
            setup.model.compiled = None


@contextmanager
def without_code_on_a_cpu(*, is_cuda: bool) -> Iterator[None]:
    """Have code for a CPU traced, but not generated, while the block runs."""
    backend = compiling.BACKEND
    compiling.BACKEND = backend if is_cuda else "aot_eager"
    torch.compiler.reset()
    try:
        yield
    finally:
        compiling.BACKEND = backend
        torch.compiler.reset()


def compiled_against_eager(bench: Bench) -> float:
    """Return the largest relative difference of the losses of three steps, compiled and eager."""
    sessions = [bench.setup(), bench.setup()]
    batches = first_batches(sessions[0], 3)
    eager = [float(step(sessions[0], batch, number).loss_sum) for number, batch in enumerate(batches)]
    with compiled_for(sessions[1], [len(batches[0].labels)], fails_on_others=True):
        compiled = [float(step(sessions[1], batch, number).loss_sum) for number, batch in enumerate(batches)]
    return max(abs(one / other - 1) for one, other in zip(compiled, eager, strict=True))


def graphs_of_the_second_fold(bench: Bench) -> float:
    """Count the graphs that the second of two folds compiles anew."""
    return _two_folds(bench)[0]


def memory_after_the_second_fold(bench: Bench) -> float:
    """Return how many megabytes more lie on the device after the second of two compiled folds than after the first."""
    if not bench.is_cuda:
        raise NotHere("a GPU's memory")
    return _two_folds(bench)[1]


def _two_folds(bench: Bench) -> tuple[float, float]:
    graphs, megabytes = [], []
    with tempfile.TemporaryDirectory() as out, without_code_on_a_cpu(is_cuda=bench.is_cuda):
        counters.clear()
        for fold in (0, 1):
            config = TrainConfig.model_validate(
                {**TINY, "device": bench.device, "compile": "on", "epochs": 1, "folds": 2, "fold": fold}
            )
            with Path(os.devnull).open("w") as nowhere:
                train(
                    config, data=bench.data, out=Path(out, str(fold)), stop=StopFlag(),
                    progress=Progress(stream=nowhere), runs_after=1 - fold,
                )  # fmt: skip
            gc.collect()
            graphs.append(counters["stats"]["unique_graphs"])
            megabytes.append(torch.cuda.memory_allocated() / 1e6 if bench.is_cuda else 0.0)
    if not graphs[0]:
        raise CompilerFailed("nothing was compiled in the first fold")
    return graphs[1] - graphs[0], megabytes[1] - megabytes[0]


CHECKS_OF_COMPILING = (
    Check("compiled against eager", 1e-2, compiled_against_eager),
    Check("second fold: graphs compiled anew", 0, graphs_of_the_second_fold),
    Check("second fold: megabytes kept of the first", 20, memory_after_the_second_fold),
)
