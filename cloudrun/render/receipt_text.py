"""Write receipts as a person reads them, as CSV, and added up by month. Pure; returns strings."""

from __future__ import annotations

import csv
import io
from collections import defaultdict
from collections.abc import Sequence
from typing import TypedDict

from cloudrun.billing.receipt import Receipt
from cloudrun.render.tables import table
from cloudrun.text.units import duration, times

_COLUMNS = (
    "run_id", "infra", "region", "gpu", "spot", "hourly_usd", "billed_from", "billed_to", "is_final", "hours",
    "cost_usd",
)  # fmt: skip


def receipt_text(cost: Receipt) -> str:
    """Return the receipt of one run as lines of text."""
    rate = cost["hourly_usd"]
    if rate is None and cost["billed_from"] is None:
        return f"{cost['run_id']}  no machine was rented  $0.00"
    if rate is None:
        billed = f"billed from {cost['billed_from']} to {cost['billed_to'] or 'now'}{_end(cost)}"
        return f"{cost['run_id']}  a machine may have been rented, at an unknown price; {billed}"
    place = "/".join(filter(None, (cost["infra"], cost["region"])))
    disk = f" and ${cost['disk_hourly_usd']:.4f} for its disk" if cost["disk_hourly_usd"] else ""
    lines = [
        f"{cost['run_id']}  {times(cost['nodes'], str(cost['machine']))}  {place}{'  spot' if cost['spot'] else ''}",
        f"  price     ${rate:.4f} an hour{disk} ({cost['price_source']}, as of {cost['price_as_of']})",
        f"  billed    {cost['billed_from']} .. {cost['billed_to']}{_machines(cost)}{_end(cost)}",
    ]
    lines += [
        f"  {phase['name']:<9} {duration(phase['duration_s']):>10}  ${phase['cost_usd']:.4f}"
        for phase in cost["phases"]
    ]
    if cost["stopped_disk_usd"]:
        lines.append(f"  {'disk':<9} {'':>10}  ${cost['stopped_disk_usd']:.4f} since the machine was stopped")
    total = duration(float(cost["hours"]) * 3600)
    most = f" to ${cost['cost_high_usd']:.4f}" if cost["cost_high_usd"] > cost["cost_usd"] else ""
    lines.append(f"  {'total' if cost['is_final'] else 'so far':<9} {total:>10}  ${cost['cost_usd']:.4f}{most}")
    return "\n".join([*lines, *_own(cost), *_estimated(cost), *_worth(cost), *_compared(cost), *_elsewhere(cost)])


def _own(cost: Receipt) -> list[str]:
    """The cost in the currency in which the user pays for a machine of their own."""
    own = cost["own"]
    if own is None:
        return []
    paid = f"{own['cost']:.2f} {own['currency']} at {own['hourly']:g} {own['currency']} an hour"
    lines = [] if own["currency"] == "USD" else [f"  {'':<9} {'':>10}  {paid}"]
    return lines + (["            the machine stays on, and its bill with it"] if own["stays_on"] else [])


def _machines(cost: Receipt) -> str:
    """The time between two machines of a run that was resumed is not billed."""
    return f", on {cost['machines']} machines one after another" if cost["machines"] > 1 else ""


def _end(cost: Receipt) -> str:
    if not cost["is_final"]:
        return "  (still billing)" if cost["hourly_usd"] != 0 else "  (still running; this computer costs nothing)"
    if cost["billed_from"] and cost["billed_to"] and cost["billed_to"] < cost["billed_from"]:
        return "  (a clock was set back meanwhile: nobody knows these hours, and the provider's bill tells them)"
    if cost["end_is"] == "not seen":
        return f"  (it was up then; found gone at {cost['billed_to_latest']}, and nobody saw it go)"
    return "" if cost["end_is"] == "proven" else "  (the machine was found gone; its provider tells this end)"


def _estimated(cost: Receipt) -> list[str]:
    made = cost["estimate"]
    if made is None:
        return []
    lines = []
    if made["low_s"] is not None:
        money = "" if not made["high_usd"] else f"${made['low_usd']:.4f} to ${made['high_usd']:.4f}, "
        hours = f"{duration(made['low_s'])} to {duration(made['high_s'])}"
        lines.append(f"  estimate  {money}{hours}{_off(made['off'])}")
        lines.append(f"            from {made['rests_on']}")
    if made["corrected_s"] is not None:
        money = f"${made['corrected_usd']:.4f}, " if made["corrected_usd"] else ""
        lines.append(
            f"  corrected {money}{duration(made['corrected_s'])} from timed steps{_off(made['corrected_off'])}"
        )
    return lines


def _off(part: float | None) -> str:
    return "" if part is None else f" ({part:+.0%} of what it took)"


def _elsewhere(cost: Receipt) -> list[str]:
    offers = cost["alternatives"][:3]
    return [
        f"  {'elsewhere' if place == 0 else '':<9} {duration(one['duration_s']):>10}  ${one['cost_usd']:.4f}"
        f"  on {one['gpu']} of {one['infra']}{', spot' if one['spot'] else ''} (by listed speeds)"
        for place, one in enumerate(offers)
    ]


def _worth(cost: Receipt) -> list[str]:
    accuracy = cost["accuracy"]
    if accuracy is None:
        return []
    best = f"{accuracy['best']:.1%} on validation at epoch {accuracy['best_epoch']}"
    lines = [f"  accuracy  {best}"]
    if accuracy["usd_per_point"] is not None:
        lines.append(f"            ${accuracy['usd_per_point']:.4f} a point gained over the first epoch")
    if accuracy["usd_after_best"] > 0:
        lines.append(
            f"            after epoch {accuracy['best_epoch']} ${accuracy['usd_after_best']:.4f} bought nothing"
        )
    return lines


def _compared(cost: Receipt) -> list[str]:
    theirs = cost["skypilot"]
    if theirs is None:
        return []
    verdict = "the same rate" if theirs["agrees_to_the_cent"] else "ANOTHER RATE"
    lines = [f"  SkyPilot  {duration(theirs['duration_s']):>10}  ${theirs['cost_usd']:.4f}  ({verdict})"]
    return lines + ([f"            {theirs['why']}"] if theirs["why"] else [])


def receipts_csv(costs: Sequence[Receipt]) -> str:
    """Return a CSV file with a header and a line a run; `cost_usd` and `hours` can be added up."""
    text = io.StringIO()
    writer = csv.DictWriter(text, _COLUMNS, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(costs)
    return text.getvalue().rstrip("\n")


class Month(TypedDict):
    """Runs, hours and USD of a month: of the runs whose bill began in it (UTC)."""

    month: str
    runs: int
    hours: float
    cost_usd: float


def months(costs: Sequence[Receipt]) -> list[Month]:
    """Return runs, hours and USD of each month in which a bill began (UTC), oldest first."""
    by_month: dict[str, list[Receipt]] = defaultdict(list)
    for cost in costs:
        if cost["billed_from"] is not None:
            by_month[str(cost["billed_from"])[:7]].append(cost)
    return [
        {
            "month": month,
            "runs": len(several),
            "hours": round(sum(cost["hours"] for cost in several), 4),
            "cost_usd": round(sum(cost["cost_usd"] for cost in several), 4),
        }
        for month, several in sorted(by_month.items())
    ]


def months_text(costs: Sequence[Receipt]) -> str:
    """Return the table of `months`."""
    rows = [[row["month"], str(row["runs"]), f"{row['hours']:.2f}", f"${row['cost_usd']:.4f}"] for row in months(costs)]
    return table(["MONTH", "RUNS", "HOURS", "COST"], rows)
