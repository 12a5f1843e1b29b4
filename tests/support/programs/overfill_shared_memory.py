"""Run the trainer's command line with loader processes that do not look how much shared memory there is."""

import sys

from trainer.cli import main
from trainer.data import loader
from trainer.data.loader_budget import LoaderBudget
from trainer.session import build

if __name__ == "__main__":
    build.loader_budget = lambda wanted, **_: LoaderBudget(wanted, 4)
    loader.WAIT_S, loader.WAITS = 1, 5
    sys.exit(main(sys.argv[1:]))
