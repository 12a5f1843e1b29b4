"""Run `python -m trainer`."""

import os
import sys

# Waiting threads sleep instead of spinning: with other programs on the same cores, spinning made a step up to
# ten times slower. OpenMP reads this once, when torch loads it.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
# torch's C++ warns of harmless things: that the address of a hired machine has no name, say.
os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
# Blocks of a GPU's memory that can grow: images of several sizes leave fewer holes that nothing fits into.
if "PYTORCH_CUDA_ALLOC_CONF" not in os.environ:  # its name until torch 2.8
    os.environ.setdefault("PYTORCH_ALLOC_CONF", "expandable_segments:True")

from trainer.cli import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
