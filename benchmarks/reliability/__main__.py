"""Runs the scenarios, three at a time (the cluster has three GPUs), and prints the table."""

from __future__ import annotations

import json
import sys
import tempfile
import threading
import traceback
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from benchmarks.machine import heading
from benchmarks.reliability.laptop import Laptop
from benchmarks.reliability.scenarios import SCENARIOS, Scenario
from tests.seaweedfs import SeaweedFS
from tests.sky import slurm_cluster

_AT_ONCE = 3


@dataclass(frozen=True)
class Row:
    scenario: Scenario
    took_s: float | None
    phase: str
    results: str
    problem: str

    def __str__(self) -> str:
        took = "-" if self.took_s is None else f"{max(self.took_s, 0):.0f}"
        verdict = f"**{self.problem}**" if self.problem else "yes"
        cells = [self.scenario.name, f"{self.scenario.promised_s:.0f}", took, self.phase, self.results, verdict]
        return f"| {' | '.join(cells)} |"


def observe(scenario: Scenario, laptop: Laptop) -> Row:
    since = scenario.act(laptop)
    if not list((laptop.home / "ledger").glob("*.json")):
        return Row(scenario, 0.0, "nothing was started", "-", "" if not scenario.phases else "no run in the ledger")
    took = laptop.seconds_until_gone(since=since, limit_s=scenario.promised_s + 240, quiet_s=scenario.quiet_s)
    listed = laptop.typed("ps", "--refresh", "--all", "--json")
    assert listed.returncode == 0, listed.stderr
    run_id = laptop.run()["run_id"]  # the other laptops' machines are listed, too
    (row,) = (one for one in json.loads(listed.stdout) if one["run_id"] == run_id)
    results = laptop.where_results_are() if scenario.saves else "-"
    problems = []
    if took > scenario.promised_s:
        problems.append("stayed too long")
    if row["billing"]:
        problems.append("the ledger says that it bills")
    if row["phase"] not in scenario.phases:
        problems.append(f"the ledger calls it {row['phase']}")
    if results == "none":
        problems.append("results were lost")
    return Row(scenario, took, row["phase"], results, ", ".join(problems))


def carry_out(scenario: Scenario, place: int, base: Path, cluster: slurm_cluster.SlurmCluster) -> Row:
    folder = base / f"l{place}"
    bucket = None
    try:
        if scenario.has_bucket:
            (base / f"s{place}").mkdir()
            bucket = SeaweedFS(base / f"s{place}")
            bucket.start()
        row = observe(scenario, Laptop(folder, cluster, bucket))
    except Exception as err:  # noqa: BLE001 - a scenario that breaks is a row of the table, and the others go on
        traceback.print_exc()
        row = Row(scenario, None, "?", "?", f"{type(err).__name__}: {str(err).splitlines()[0] if str(err) else ''}")
    finally:
        if bucket is not None:
            bucket.stop()
    with _printing:
        print(row, file=sys.stderr, flush=True)
    return row


_printing = threading.Lock()


def main(words: list[str]) -> int:
    chosen = [one for one in SCENARIOS if not words or any(word in one.name for word in words)]
    base = Path(tempfile.mkdtemp(prefix="reliable-", dir="/tmp"))
    cluster = slurm_cluster.start(Path(tempfile.mkdtemp(prefix="slurm-", dir="/tmp")))
    try:
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            rows = list(
                pool.map(
                    lambda pair: carry_out(pair[1], pair[0], base, cluster),
                    enumerate(chosen),
                )
            )
        left = cluster.squeue()
    finally:
        slurm_cluster.stop(cluster.base)
    print(f"{heading()}; {_AT_ONCE} at a time\n")
    print("| what happens | promised s | gone after s | the ledger says | results | kept |")
    print("| --- | --- | --- | --- | --- | --- |")
    for row in rows:
        print(row)
    print(f"\nleft in squeue: {len(left)}")
    return 1 if left or any(row.problem for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
