"""`python -m cloudrun.sources URL --out FOLDER`: the step of a run that gets its data, beside the job."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from cloudrun.errors import CloudrunError
from cloudrun.sources import parse_source
from cloudrun.sources.bring import bring
from cloudrun.stores.outage import through_outage


def main() -> int:
    """Fetch the data; print lines for the run's log.

    Returns 0 where the folder is there and whole; 1 where it is not, and the last lines say why.
    """
    parser = argparse.ArgumentParser(prog="python -m cloudrun.sources", description=__doc__)
    parser.add_argument("source", metavar="URL", help="https://..., kaggle://..., s3://...")
    parser.add_argument("--out", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("--endpoint", metavar="URL", help="the server of an s3:// source, where it is not AWS")
    options = parser.parse_args()
    try:
        source, out = parse_source(options.source), options.out.absolute()
        through_outage(lambda: bring(source, out, say=_say, endpoint=options.endpoint), _say)
    except CloudrunError as err:
        sys.stdout.write(f"error: {err.message}\n\nhint: {err.hint}\n")
        return 1
    except OSError as err:
        sys.stdout.write(f"error: the data cannot be written to {options.out}: {err.strerror or err}\n\n")
        sys.stdout.write("hint: ask for a larger disk: `resources: {disk: 200}` (GB)\n")
        return 1
    return 0


def _say(text: str) -> None:
    sys.stdout.write(f"data: {text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    raise SystemExit(main())
