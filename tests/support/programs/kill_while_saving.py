"""Fork children that save checkpoints in a loop, kill each a little later than the one before, and load the file."""

import os
import select
import signal
import sys
from pathlib import Path

import torch

from trainer.outputs import checkpoint


def main(folder: Path) -> None:
    path = folder / "last.pt"
    checkpoint.save({"model": torch.zeros(300_000)}, path)
    for kill in range(25):
        child = os.fork()
        if child == 0:
            while True:
                checkpoint.save({"model": torch.full((300_000,), float(kill))}, path)
        select.select([], [], [], 0.001 + kill * 0.001)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        values = checkpoint.load(path)["model"]
        assert values.shape == (300_000,) and len(values.unique()) == 1, kill  # noqa: PT018
    print("whole every time")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
