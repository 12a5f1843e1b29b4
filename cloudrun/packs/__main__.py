"""Make FOLDER on the machine equal to a data set: `python -m cloudrun.packs STORE MANIFEST FOLDER`."""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path

from cloudrun.errors import CloudrunError
from cloudrun.packs.pull import pull
from cloudrun.packs.refs import read_manifest
from cloudrun.stores import open_objects
from cloudrun.stores.outage import through_outage
from cloudrun.text.pace import Pace
from cloudrun.text.units import duration, size


def main(argv: list[str]) -> int:
    """Pull the data set; print lines for the run's log. Returns 0, or 1 where it has failed, as the last lines say."""
    parser = argparse.ArgumentParser(prog="cloudrun.packs")
    parser.add_argument("store")
    parser.add_argument("manifest")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--endpoint")
    options = parser.parse_args(argv)
    began = time.monotonic()
    pace = Pace()

    def on_files(done: int, total: int, files: tuple[int, int]) -> None:
        if done < total and pace.is_due(done):
            _say(pace.text(done, total, files=files))

    try:
        store = open_objects(options.store, endpoint=options.endpoint)
        manifest = through_outage(lambda: read_manifest(store, options.manifest), _say)
        pulled = through_outage(lambda: pull(manifest, store, options.folder, on_files, exact=True), _say)
    except CloudrunError as err:
        sys.stdout.write(f"error: {err.message}\nhint: {err.hint}\n")
        return 1
    took_s = max(time.monotonic() - began, 1e-6)
    what = f"{pulled.files} files, {size(pulled.size_bytes)}"
    if pulled.new_files < pulled.files:
        what += f", of which {pulled.files - pulled.new_files} were here"
    _say(f"{what}, from the store in {duration(took_s)} ({size(pulled.fetched_bytes / took_s)}/s), each verified")
    return 0


def _say(text: str) -> None:
    sys.stdout.write(f"cloudrun: data: {text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    code = main(sys.argv[1:])
    sys.stdout.flush()
    os._exit(code)  # threads that a broken transfer has left behind are not waited for
