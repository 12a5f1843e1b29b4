"""Turn runs, plans and costs into text or JSON values. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from cloudrun.billing.agreed import rent_limit_s, waiting_bills
from cloudrun.billing.cost import cost_of, usd_for, worst_case
from cloudrun.catalog.endings import how_it_ends
from cloudrun.job.keys import KeysSent
from cloudrun.recipe.auto_epochs import are_auto
from cloudrun.state.machines import Machine, Scan
from cloudrun.state.records import Estimate, Quote
from cloudrun.state.run import Run
from cloudrun.text.units import age, brief_duration, duration, iso, times

if TYPE_CHECKING:  # so that `ps` starts without loading plans
    from cloudrun.job.plan import Plan
    from cloudrun.job.spec import Budget, JobSpec
    from cloudrun.recipe.train_config import TrainConfig


# Columns of `ps` that a narrow terminal does without, the first one first; `--json` has them all.
_LEFT_OUT = ("LEFT", "INFRA", "GPU", "SEEN")


def run_row(run: Run, now: datetime) -> dict[str, Any]:
    """Return one object of `ps --json`."""
    cost = cost_of(run, now)
    return {
        "run_id": run.run_id,
        "name": run.name,
        "phase": run.phase.value,
        "billing": run.may_bill,
        "infra": run.price.infra if run.price else run.infra,
        "gpu": run.price.gpu if run.price else (run.gpu[0] if run.gpu else None),
        "nodes": run.nodes,
        "hourly_usd": run.price.hourly_usd if run.price else None,
        "cost_usd": float(cost.usd),
        "estimate_usd": run.estimate.middle_usd if run.estimate else None,
        "started_at": iso(run.created_at),
        "epoch": run.epoch,
        "epochs": run.epochs,
        "eta_s": run.eta_s,
        "refreshed_at": iso(run.refreshed_at),
        "message": run.message,
    }


def launch_row(run: Run, exit_code: int | None, now: datetime) -> dict[str, Any]:
    """Return the object of `launch --json`."""
    return {
        "run_id": run.run_id,
        "phase": run.phase.value,
        "exit_code": exit_code,
        "cost_usd": float(cost_of(run, now).usd),
        "folder": run.folder if run.home_complete else None,
    }


def table(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return columns padded with spaces, which a person can read and a script can cut."""
    widths = [max(len(row[column]) for row in [headers, *rows]) for column in range(len(headers))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in [headers, *rows]]
    return "\n".join(line.rstrip() for line in lines)


def ps_table(
    runs: Sequence[Run], now: datetime, *, width: int | None = None, scores: Mapping[str, str] | None = None
) -> str:
    """Return the table of `ps`; for a terminal of `width` columns with short times and the columns that fit.

    `scores`: by run id, where runs are at home.
    """
    headers, *rows = _ps_rows(runs, now, duration, scores or {})
    if width is None or _width(table(headers, rows)) <= width:
        return table(headers, rows)
    headers, *rows = _ps_rows(runs, now, brief_duration, scores or {})
    for left_out in ("", *_LEFT_OUT):
        places = [place for place, name in enumerate(headers) if name != left_out]
        headers, rows = [headers[place] for place in places], [[row[place] for place in places] for row in rows]
        if _width(table(headers, rows)) <= width:
            break
    return table(headers, rows)


def ps_cells(runs: Sequence[Run], now: datetime) -> list[list[str]]:
    """Return the headers of `ps` and a row for each run, with short times."""
    return _ps_rows(runs, now, brief_duration, {})


def _width(text: str) -> int:
    return max(map(len, text.splitlines()))


def _ps_rows(
    runs: Sequence[Run], now: datetime, shown: Callable[[float], str], scores: Mapping[str, str]
) -> list[list[str]]:
    """Return the headers, then a row for each run; `shown` writes a time in seconds."""
    rows = []
    for run in runs:
        row = run_row(run, now)
        rows.append(
            [
                run.run_id,
                run.phase.value,
                _billing(run),
                str(row["infra"] or "-"),
                times(run.nodes, str(row["gpu"] or "-")),
                "unknown" if run.may_bill and run.price is None else f"${row['cost_usd']:.2f}",
                f"{run.epoch}/{run.epochs}" if run.epoch else "-",
                shown(run.eta_s) if run.eta_s and not run.phase.is_final else "-",
                _seen(run, now, shown),
                *([scores.get(run.run_id) or "-"] if any(scores.values()) else []),
            ]
        )
    score = ["VAL"] if any(scores.values()) else []
    return [["RUN", "PHASE", "BILLING", "INFRA", "GPU", "COST", "EPOCH", "LEFT", "SEEN", *score], *rows]


def second_run_text(run: Run, now: datetime) -> str:
    """What a launch says of a run of the same job file that goes on: it would be paid for twice."""
    where = run.price.infra if run.price else run.infra or "a machine"
    epoch = f" in epoch {run.epoch} of {run.epochs}" if run.epoch else ""
    usd = cost_of(run, now).usd
    cost = f", ${usd:.2f} so far" if usd else ""
    return (
        f"{run.run_id} of this job file is {run.phase.value} on {where}{epoch}{cost}: this launch is a second run, "
        f"beside it; `cloudrun logs {run.run_id}` follows the first, `cloudrun down {run.run_id}` ends it"
    )


def orphan_row(machine: Machine, now: datetime) -> dict[str, Any]:
    """Return the object of `ps --json` for a machine that the ledger does not account for."""
    return {
        "run_id": machine.run_id,
        "name": machine.name,
        "phase": "unknown",
        "billing": True,
        "infra": machine.infra,
        "gpu": machine.gpu,
        "nodes": None,
        "hourly_usd": machine.hourly_usd,
        "cost_usd": machine.cost_usd(now),
        "estimate_usd": None,
        "started_at": iso(machine.up_since),
        "epoch": None,
        "epochs": None,
        "eta_s": None,
        "stop_command": machine.stop_command,
    }


def orphans_text(machines: Sequence[Machine], now: datetime) -> list[str]:
    """Return a line for each machine that the ledger does not account for."""
    lines = []
    for machine in machines:
        cost = machine.cost_usd(now)
        since = duration((now - machine.up_since).total_seconds()) if machine.up_since else "an unknown time"
        money = f"${cost:.2f} so far" if cost is not None else "at an unknown price"
        lines.append(
            f"NOT IN THE LEDGER: {machine.name} on {machine.infra}, up for {since}, {money}: `{machine.stop_command}`"
        )
    return lines


def scan_text(known: Scan | None, now: datetime) -> str:
    """Return a line on how old the list of machines is, and which providers did not answer or cannot be searched."""
    if known is None:
        return "the providers were never asked for machines of ours; `cloudrun ps --refresh` asks them"
    unasked = f"; no answer: {'; '.join(known.unasked)}" if known.unasked else ""
    unasked += f"; cannot be searched by name: {', '.join(known.unlistable)}" if known.unlistable else ""
    return f"providers asked {duration((now - known.at).total_seconds())} ago (`--refresh` asks them){unasked}"


def plan_text(  # noqa: PLR0913 - parts of one page, each by its name
    plan: Plan,
    quote: Quote | None,
    now: datetime,
    *,
    estimate: Estimate | None = None,
    no_estimate: str = "",
    live: str = "",
    keys: KeysSent | None = None,
) -> str:
    """Return what `launch` is about to do, in a few lines.

    `quote` is None where no price is known yet. `no_estimate` says why there is no estimate; `live` is the provider's
    own price of now.
    """
    spec = plan.spec
    wanted = " or ".join(spec.gpu) if spec.gpu else "no GPU"
    lines = [f"run      {plan.run_id}"]
    if quote is None:
        wanted = times(spec.nodes, wanted if spec.nodes == 1 or len(spec.gpu) < 2 else f"({wanted})")
        lines.append(
            f"machine  {wanted}, {spec.infra or 'the cheapest enabled cloud'}; the price is known when it is rented"
        )
        lines.append(f"at most  ${spec.budget.max_cost:g} or {spec.budget.max_hours:g} h, whichever comes first")
    else:
        place = "/".join(part for part in (quote.infra, quote.region) if part)
        what = quote.gpu or ("no GPU" if plan.capabilities.is_remote else "")
        machine = ", ".join(part for part in (quote.machine, what, place) if part)
        lines.append(f"machine  {times(quote.nodes, machine)}")
        lines += _price_lines(plan, quote, now, live)
    if plan.capabilities.rents:
        lines.append(_waits(spec.budget, quote))
        lines += _choices(spec.gpu, spec.gpu_choices)
    if estimate is not None:
        lines += _estimate_lines(estimate)
    elif no_estimate:
        lines.append(f"estimate none: {no_estimate}")
    lines.append(f"data     {spec.data.source} ({plan.data_route.value.replace('_', ' ')})")
    if plan.store_uri is not None:
        lines.append(f"store    {plan.store_uri}{f' at {spec.endpoint}' if spec.endpoint else ''}")
    if spec.notify:
        lines.append(f"notify   {', '.join(str(one) for one in spec.notify)}")
    lines.append(_work(spec, estimate))
    if plan.capabilities.ends_machines:
        ends = how_it_ends(quote.infra if quote else spec.infra, idle_minutes=spec.lifecycle.idle_minutes)
        lines.append(f"ends     {spec.lifecycle.on_finish} when done; with this computer off, {ends}")
    elif spec.is_own_machine:
        lines.append(f"ends     {_how_it_is_left(spec)}")
    if keys is not None:
        lines += [f"{'keys' if place == 0 else '':8} {line}" for place, line in enumerate(keys.lines())]
    return "\n".join(lines)


def _work(spec: JobSpec, estimate: Estimate | None) -> str:
    """Return the line on the job's command: the recipe of the bundled trainer, or the first line of the user's own."""
    if spec.run is not None:
        return f"run      {spec.run.strip().splitlines()[0]}"
    train = spec.train
    recipe = f"{train.image_size} px, {_epochs(train, estimate)}, batch {train.batch_size}"
    return f"train    {' + '.join(train.backbones)}, {recipe}"


def _epochs(train: TrainConfig, estimate: Estimate | None) -> str:
    if not are_auto(train.epochs):
        return f"{train.epochs} epochs"
    if estimate is None or estimate.epochs is None:
        return f"as many epochs as fit, at most {train.epochs:d}"
    low, high = estimate.epochs
    return f"{low:d} to {high:d} epochs (auto)" if low < high else f"{high:d} epochs (auto)"


def _price_lines(plan: Plan, quote: Quote, now: datetime, live: str) -> list[str]:
    """Return the lines on what the machine costs, and at what the run is stopped."""
    budget = plan.spec.budget
    if quote.hourly_usd:
        rate = quote.total_hourly_usd
        worst = worst_case(max_cost=budget.max_cost, max_hours=budget.max_hours, hourly_usd=rate)
        hours = worst.time.total_seconds() / 3600
        disk = f" and ${quote.disk_hourly_usd:.4f} for its disk" if quote.disk_hourly_usd else ""
        old = age(max((now - quote.as_of).total_seconds(), 0.0))
        return [
            f"price    ${quote.hourly_usd:.4f} an hour{disk} ({quote.source}, {old} old)",
            *([f"live     {live}"] if live else []),
            *(
                f"or       {one.gpu} of {one.infra} at ${one.total_hourly_usd:.4f} an hour, where there is none"
                for one in quote.fallbacks
            ),
            f"at most  ${worst.usd:.2f} in {hours:.1f} h, then it is stopped (budget.{worst.limit})",
        ]
    if not plan.capabilities.is_billed:
        return []
    none = (
        f"none: {quote.source}"
        if plan.spec.is_own_machine
        else f"none is known of {quote.infra}: `budget.max_cost` cannot end it"
    )
    return [f"price    {none}", f"at most  {budget.max_hours:g} h, then it is stopped (budget.max_hours)"]


def _how_it_is_left(spec: JobSpec) -> str:
    """Return what becomes of a machine of the user's own."""
    if spec.end_command is None:
        bill = "; its bill goes on until you end it" if spec.price is not None and spec.price.hourly else ""
        return f"the machine stays as it is (`end: leave`), without the run's files{bill}"
    return (
        f"`{spec.end}` on the machine once the results are here or in the store, and when the budget is used, with this"
        " computer off, too"
    )


def _waits(budget: Budget, quote: Quote | None) -> str:
    """Return the line on how long a machine is waited for, and what that can cost."""
    hourly = quote.total_hourly_usd if quote is not None else 0.0
    limit_s = rent_limit_s(budget, hourly, waiting_bills=quote is None or waiting_bills(quote.infra))
    cost = f", ${usd_for(limit_s, hourly):.2f} where it bills meanwhile" if hourly else ""
    return f"waits    {duration(limit_s)} at most for each machine that is asked for{cost} (budget.rent_minutes)"


def _choices(wanted: Sequence[str], choices: Sequence[Sequence[str]]) -> list[str]:
    """Return the line on the GPUs that will be tried; none where these are just the GPUs of the job file."""
    if all(len(names) == 1 for names in choices):
        return []
    shown = (
        gpu if len(names) == 1 else f"{gpu} ({', '.join(names)}: the cheapest)"
        for gpu, names in zip(wanted, choices, strict=True)
    )
    return [f"gpu      {' or '.join(shown)}"]


def estimate_text(estimate: Estimate) -> str:
    """Return `$0.07 to $0.46, 3 min 10 s to 21 min 14 s`; no dollars where nothing is billed."""
    hours = f"{duration(estimate.low_s)} to {duration(estimate.high_s)}"
    if not estimate.high_usd:
        return hours
    return f"{usd_range(estimate)}, {hours}"


def usd_range(estimate: Estimate) -> str:
    """Return `$0.07 to $0.46`; `-` where no dollars are estimated."""
    return "-" if estimate.low_usd is None else f"${estimate.low_usd:.2f} to ${estimate.high_usd:.2f}"


def _estimate_lines(estimate: Estimate) -> list[str]:
    parts = [
        f"{part.name} {duration(part.low_s)} to {duration(part.high_s)}"
        for part in estimate.parts
        if part.high_s >= 0.1
    ]
    return [
        f"estimate {estimate_text(estimate)} in all",
        f"         {', '.join(parts)}",
        f"         from {estimate.rests_on}",
    ]


def _billing(run: Run) -> str:
    if not run.may_bill:
        return "no"
    rate = run.price.hourly_usd if run.price else None
    return "?" if rate is None else f"${rate:.2f}/h" if rate else "free"


def _seen(run: Run, now: datetime, shown: Callable[[float], str]) -> str:
    """Return how old the ledger's knowledge of the run is: the cloud may know more by now."""
    if run.released_at is not None:
        return "ended"
    seen = run.refreshed_at or run.created_at
    return f"{shown((now - seen).total_seconds())} ago"
