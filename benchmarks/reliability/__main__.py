"""Runs the scenarios on one ground, three at a time, and prints the table."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import threading
import traceback
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.machine import heading
from benchmarks.reliability.grounds import Ground, ground
from benchmarks.reliability.laptop import Laptop
from benchmarks.reliability.scenarios import SCENARIOS, Scenario
from tests.support.seaweedfs import SeaweedFS

# Seconds by which a receipt may differ from the provider's own times.
_RECEIPT_OFF_S = 10.0


@dataclass(frozen=True)
class Row:
    """A row of the table: what was promised in a scenario, and what was seen."""

    scenario: Scenario
    promised_s: float
    took_s: float | None
    phase: str
    results: str
    bill: str
    problem: str

    def __str__(self) -> str:
        took = "-" if self.took_s is None else f"{self.took_s:.0f}"
        verdict = f"**{self.problem}**" if self.problem else "yes"
        cells = [self.scenario.name, f"{self.promised_s:.0f}", took, self.phase, self.results, self.bill, verdict]
        return f"| {' | '.join(cells)} |"


def observe(scenario: Scenario, laptop: Laptop) -> Row:
    """Carry out a scenario, wait for the machine's end, and return what was seen."""
    promised_s = laptop.ground.promises[scenario.promise]
    since = scenario.act(laptop)
    if not list((laptop.home / "ledger").glob("*.json")):
        problem = "" if not scenario.phases else "no run in the ledger"
        return Row(scenario, promised_s, 0.0, "nothing was started", "-", "-", problem)
    took = laptop.seconds_until_gone(since=since, limit_s=promised_s + 240, quiet_s=scenario.quiet_s)
    listed = laptop.typed("ps", "--refresh", "--all", "--json")
    assert listed.returncode == 0, listed.stderr
    run_id = laptop.run()["run_id"]  # the other laptops' machines are listed, too
    (row,) = (one for one in json.loads(listed.stdout) if one["run_id"] == run_id)
    results = laptop.where_results_are() if scenario.saves else "-"
    bill, is_off = compared(laptop.receipt(), laptop.ground.billed_s(run_id))
    problems = []
    if took > max(promised_s, 1):
        problems.append("stayed too long")
    if row["billing"]:
        problems.append("the ledger says that it bills")
    if row["phase"] not in scenario.phases:
        problems.append(f"the ledger calls it {row['phase']}")
    if results == "none":
        problems.append("results were lost")
    if is_off:
        problems.append("the receipt is not the bill")
    return Row(scenario, promised_s, took, row["phase"], results, bill, ", ".join(problems))


def compared(receipt: dict[str, Any], billed_s: float | None) -> tuple[str, bool]:
    """Return how many seconds a receipt has more than its provider bills, in words, and whether that is too many."""
    if billed_s is None:
        return "-", False
    said_s = receipt["hours"] * 3600
    if receipt["end_is"] != "not seen":
        return f"{said_s - billed_s:+.0f} s", abs(said_s - billed_s) > _RECEIPT_OFF_S
    hourly = (receipt["hourly_usd"] or 0) + (receipt["disk_hourly_usd"] or 0)
    high_s = receipt["cost_high_usd"] / hourly * 3600 if hourly else said_s
    is_within = said_s - _RECEIPT_OFF_S <= billed_s <= high_s + _RECEIPT_OFF_S
    return f"a range of {high_s - said_s:.0f} s", not is_within


def carry_out(scenario: Scenario, place: int, base: Path, here: Ground) -> Row:
    """Observe a scenario on a laptop of its own, with a bucket where it has one; an exception is a row, too."""
    folder = base / f"l{place}"
    bucket = None
    try:
        if scenario.has_bucket:
            (base / f"s{place}").mkdir()
            bucket = SeaweedFS(base / f"s{place}")
            bucket.start()
        row = observe(scenario, Laptop(folder, here, bucket))
    except Exception as err:  # noqa: BLE001 - a scenario that breaks is a row of the table, and the others go on
        traceback.print_exc()
        said = f"{type(err).__name__}: {str(err).splitlines()[0] if str(err) else ''}"
        row = Row(scenario, here.promises[scenario.promise], None, "?", "?", "?", said)
    finally:
        if bucket is not None:
            bucket.stop()
    with _printing:
        print(row, file=sys.stderr, flush=True)
    return row


_printing = threading.Lock()


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.reliability", description=__doc__)
    parser.add_argument("--on", choices=["slurm", "aws", "runpod"], default="slurm")
    parser.add_argument("--at-once", type=int, help="machines side by side")
    parser.add_argument("words", nargs="*", metavar="WORD", help="only what has one of these in its name")
    options = parser.parse_args()
    base = Path(tempfile.mkdtemp(prefix="reliable-", dir="/tmp"))
    here = ground(options.on)
    chosen = [
        one
        for one in SCENARIOS
        if one.with_ray in (None, here.uses_ray)
        and (not options.words or any(word in one.name for word in options.words))
    ]
    at_once = options.at_once or here.at_once
    try:
        with ThreadPoolExecutor(at_once) as pool:
            rows = list(pool.map(lambda pair: carry_out(pair[1], pair[0], base, here), enumerate(chosen)))
        left = here.machines()
    finally:
        here.stop()
    print(f"{here.name}: {heading()}; {at_once} at a time\n")
    print("| what happens | promised s | gone after s | the ledger says | results | receipt - bill | kept |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for row in rows:
        print(row)
    print(f"\nleft in {here.billed}: {len(left)}")
    return 1 if left or any(row.problem for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
