"""Hold the lock of a file until standard input closes; `ok` is printed once it is held: `... PATH`."""

import sys
from pathlib import Path

from cloudrun.files import locks

if __name__ == "__main__":
    held = locks.take(Path(sys.argv[1]))
    print("ok", flush=True)
    sys.stdin.read()
