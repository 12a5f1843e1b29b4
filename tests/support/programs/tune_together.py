"""Measure in two processes, take a step, and print what each chose, its gradients' buffers, and its weights' hash."""

import hashlib
import os
import socket
import sys
from pathlib import Path

from cloudrun.recipe.train_config import TrainConfig
from tests.support.trainer_runs import TINY
from trainer.autotune import compiling
from trainer.autotune.tuning import tune
from trainer.distributed.ranks import Ranks
from trainer.distributed.stop import StopFlag
from trainer.session.build import build_setup
from trainer.session.device import choose_device
from trainer.session.step import train_step


def main(data: Path, compiles: str) -> int:
    held = socket.socket()  # to the end: nobody else is given its port
    held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    held.bind(("127.0.0.1", 0))
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(held.getsockname()[1]), WORLD_SIZE="2")
    children = []
    for rank in range(2):
        child = os.fork()
        if child == 0:
            train(rank, data, compiles)
            os._exit(0)
        children.append(child)
    return max(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children)


def train(rank: int, data: Path, compiles: str) -> None:
    """Be one of the two processes."""
    os.environ["RANK"] = str(rank)
    config = TrainConfig.model_validate(TINY | {"batch_size": 11, "compile": compiles})
    ranks, compiling.BACKEND, compiling.STANCE = Ranks(rank, 2, rank, 2), "aot_eager", "fail_on_recompile"
    ranks.join(choose_device(config, ranks=ranks).torch_device, StopFlag(ranks))
    setup = build_setup(config, data, ranks=ranks)
    tune(setup, stop=StopFlag(ranks), say=lambda _: None, measures=True)
    buckets = setup.gradients._buckets
    fits = all(
        parameter.stride() == view.stride()
        for bucket in buckets
        for parameter, view in zip(bucket.parameters, bucket._views, strict=True)
    )
    setup.model.train()
    for batch in setup.train_loader.epoch(1):
        train_step(setup, batch, say=print, images=11)
    weights = b"".join(value.contiguous().numpy().tobytes() for value in setup.model.state_dict().values())
    chosen = setup.autotune.memory_formats, setup.micro_batch, fits, setup.model.compiled is not None
    os.write(1, f"{chosen} {hashlib.sha256(weights).hexdigest()}\n".encode())  # at once, whole
    ranks.leave()


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2]))
