"""Run processes that end with the process that started them, even if that is killed: nothing goes on using the GPU.

python -m benchmarks.gpu.with_parent MODULE_OR_FILE ...      as `python -m MODULE ...`, or as `python FILE ...`
"""

from __future__ import annotations

import ctypes
import os
import runpy
import signal
import sys

_PR_SET_PDEATHSIG = 1
_STARTED_BY = "GPU_BENCHMARK_PARENT"


def command_with_parent(*words: str) -> list[str]:
    """Return the command that runs a module or a file so that it ends with this process.

    To be started with `environment_with_parent`.
    """
    return [sys.executable, "-m", "benchmarks.gpu.with_parent", *words]


def environment_with_parent() -> dict[str, str]:
    """Return the environment for `command_with_parent`, which names this process as the parent."""
    return {**os.environ, "PYTHONUNBUFFERED": "1", _STARTED_BY: str(os.getpid())}


def main() -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.environ.pop(_STARTED_BY, str(os.getppid())) != str(os.getppid()):
            sys.exit(1)  # the parent has ended meanwhile
    sys.argv = sys.argv[1:]
    if sys.argv[0].endswith(".py"):
        runpy.run_path(sys.argv[0], run_name="__main__")
    else:
        runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
