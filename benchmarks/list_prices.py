"""Write `cloudrun/catalog/list_prices.csv` anew: the prices that are shown where no cloud is enabled.

python -m benchmarks.list_prices CATALOGS --as-of 2025-01-01 --source "what the prices are, and how they were read"

CATALOGS is a folder of SkyPilot's catalogs (`~/.sky/catalogs/v8` where SkyPilot fetched them a moment ago, or
`tests/catalogs/v8`, whose README says what its prices are). SkyPilot itself reads them, so that the price of a machine
of GCP holds its host. Markets without a list price (Vast) and spot prices, which change by the hour, are left out.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from cloudrun.catalog.gpus import MEMORY_GB
from cloudrun.catalog.list_prices import COLUMNS, LIST_PRICES

CLOUDS = ("aws", "gcp", "lambda", "runpod")

_READ = """
import json, sys
from sky import catalog

rows = []
for cloud in sys.argv[1:]:
    for infos in catalog.list_accelerators(gpus_only=True, clouds=cloud, all_regions=False).values():
        rows += [info._asdict() for info in infos]
print(json.dumps(rows))
"""


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("catalogs", type=Path, metavar="CATALOGS")
    options.add_argument("--as-of", required=True, metavar="DATE", help="the oldest that a price of them can be")
    options.add_argument("--source", required=True, help="one line, which is shown beside the prices")
    options.add_argument("--out", type=Path, default=LIST_PRICES)
    chosen = options.parse_args()
    rows = sorted(_row(info) for info in _infos(chosen.catalogs) if info["accelerator_name"] in MEMORY_GB)
    with chosen.out.open("w", encoding="utf-8", newline="") as file:
        file.write(f"# source: {chosen.source}\n# as of: {chosen.as_of}\n")
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        writer.writerows(rows)
    print(f"{len(rows)} machines of {', '.join(CLOUDS)}: {chosen.out}")


def _infos(catalogs: Path) -> list[dict[str, Any]]:
    """Return SkyPilot's rows of the cheapest region of each machine, read with these catalogs alone."""
    with tempfile.TemporaryDirectory() as home:
        shutil.copytree(catalogs, Path(home, ".sky", "catalogs", catalogs.resolve().name))
        done = subprocess.run(
            [sys.executable, "-c", _READ, *CLOUDS], env={**os.environ, "HOME": home}, stdout=subprocess.PIPE, check=True
        )
    rows: list[dict[str, Any]] = json.loads(done.stdout.splitlines()[-1])
    return rows


def _row(info: dict[str, Any]) -> tuple[str, str, int, str, str, str, str, str]:
    """Return one line of the file, in the order of `COLUMNS`."""
    return (
        str(info["cloud"]).lower(),
        str(info["accelerator_name"]),
        int(info["accelerator_count"]),
        str(info["instance_type"]),
        str(info["region"]),
        f"{info['cpu_count'] or 0:g}",
        f"{info['memory'] or 0:g}",
        f"{info['price']:.4f}",
    )


if __name__ == "__main__":
    main()
