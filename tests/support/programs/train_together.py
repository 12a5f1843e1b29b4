"""Read a list of runs from stdin, and train each in as many processes as it says; prints their exit codes.

The processes are forked, so that torch is imported once.
"""

import json
import os
import signal
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

import trainer.distributed.gradients
import trainer.training.engine
from trainer.cli import main as run_trainer


def stop_at(steps: int) -> None:
    """Have this process ask itself to stop before its step number `steps`."""
    count, real = [0], trainer.training.engine.train_step

    def counted(*arguments: Any, **named: Any) -> Any:
        count[0] += 1
        if count[0] == steps:
            os.kill(os.getpid(), signal.SIGTERM)
        return real(*arguments, **named)

    trainer.training.engine.train_step = counted


def keep_weights(path: str) -> None:
    """Have this process write the weights of its last step to `path`.weights."""
    real = trainer.training.engine.finish_run

    def keep(state: Any, **named: Any) -> Any:
        torch.save(state.setup.model.state_dict(), path + ".weights")
        return real(state, **named)

    trainer.training.engine.finish_run = keep


def small_buckets(size: int) -> None:
    trainer.distributed.gradients._FIRST_BUCKET_BYTES = trainer.distributed.gradients._BUCKET_BYTES = size


def run_out_of_memory_at(steps: int) -> None:
    """Raise in the middle of a backward pass, after some gradients have been sent."""
    count = [0]

    def fail(_: torch.Tensor) -> None:
        count[0] += 1
        if count[0] == steps:
            raise torch.OutOfMemoryError("CUDA out of memory")

    def watch(module: Any, _: Any, output: Any) -> None:
        if type(module).__name__ == "ConvNeXtStage" and module.training and output.requires_grad:
            output.register_hook(fail)

    torch.nn.modules.module.register_module_forward_hook(watch)


ACTS: dict[str, Callable[[Any], None]] = {
    act.__name__: act for act in (stop_at, keep_weights, small_buckets, run_out_of_memory_at)
}


def train(run: dict[str, Any], rank: int, port: int) -> int:
    """Be process `rank` of a run."""
    machines = run["machines"]
    if run["processes"] > 1:
        here = 1 if machines else run["processes"]
        os.environ.update(
            RANK=str(rank), WORLD_SIZE=str(run["processes"]), LOCAL_RANK=str(rank % here),
            LOCAL_WORLD_SIZE=str(here), MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port), GLOO_SOCKET_IFNAME="lo",
        )  # fmt: skip
    log = Path(f"{run['argv'][-1]}.rank-{rank}.log").open("a")  # noqa: SIM115 - to the end of the process
    os.dup2(log.fileno(), 2)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # the codes are printed there
    if machines:  # each has its own disk
        machine = (rank + run["main"]) % len(machines)
        os.environ["TMPDIR"] = f"{run['argv'][-1]}.machine-{machine}.tmp"
        Path(os.environ["TMPDIR"]).mkdir(exist_ok=True)
        run["argv"][-3:] = machines[machine], "--out", run["argv"][-1] + f".machine-{machine}"
    for name, argument in run.get("acts", {}).get(str(rank), ()):
        ACTS[name](argument)
    return run_trainer(run["argv"])


def main() -> None:
    for run in json.load(sys.stdin):
        held = socket.socket()  # until the next run: nobody else is given its port
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        held.bind(("127.0.0.1", 0))
        children = []
        for rank in range(run["processes"]):
            child = os.fork()
            if child == 0:
                os._exit(train(run, rank, held.getsockname()[1]))
            children.append(child)
        print(*(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children), flush=True)


if __name__ == "__main__":
    main()
