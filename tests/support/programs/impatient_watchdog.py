"""Watch a run as `python -m cloudrun.worker FOLDER` does, but wait only 1 second for a folder that was removed."""

import runpy
import sys

from cloudrun.worker import watchdog

if __name__ == "__main__":
    watchdog.WIPED_PATIENCE_S = 1.0
    sys.argv = ["cloudrun.worker", sys.argv[1]]
    runpy.run_module("cloudrun.worker", run_name="__main__")
