"""Run the uploader: `python -m cloudrun.uploader RUN_DIR`. It ends with 0 once the job has ended and all is stored."""

from __future__ import annotations

import argparse
import importlib.util
import os
import signal
import sys
from pathlib import Path

from cloudrun.protocol.order import read_order
from cloudrun.protocol.run_folder import RunFolder
from cloudrun.protocol.words import JobExit
from cloudrun.worker.status_files import last_word


def main(argv: list[str]) -> int:
    """Upload until all is stored; return the exit code: 1 where the watchdog ended first, NO_BOTO3 without boto3."""
    parser = argparse.ArgumentParser(prog="cloudrun.uploader")
    parser.add_argument("run_dir", type=Path)
    parser.add_argument("--every", type=float, default=10.0, metavar="SECONDS", help="How often to look for changes.")
    options = parser.parse_args(argv)
    if importlib.util.find_spec("boto3") is None:
        return JobExit.NO_BOTO3
    run_dir: Path = options.run_dir.absolute()
    parent = os.getppid()

    def is_over() -> bool:
        return os.getppid() != parent or last_word(run_dir) is not None

    def end_if_over(*_: object) -> None:
        if is_over():  # while the job saves, a signal to everybody on the machine is not for this process
            raise SystemExit(1)

    signal.signal(signal.SIGTERM, end_if_over)
    signal.signal(signal.SIGINT, end_if_over)
    os.nice(10)  # training first
    from cloudrun.stores.s3 import S3Store
    from cloudrun.uploader.watch import Watch

    order = read_order(RunFolder(run_dir).order)
    assert order.store_uri is not None
    store = S3Store(order.store_uri, order.endpoint, journal=RunFolder(run_dir).uploads)
    watch = Watch(run_dir, store, order.store_uri, every_s=options.every)
    return 0 if watch.until_stored(go_on=lambda: os.getppid() == parent) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
