"""`advise`: the cheapest machine for a deadline, the fastest for a budget, before anything is rented."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cloudrun.cli.app import app
from cloudrun.cli.console import answer, answer_json, note, warn
from cloudrun.cli.groups import START
from cloudrun.errors import ExitCode, NoMachine, UsageError

if TYPE_CHECKING:
    from cloudrun.forecast.advice import Advice, Choice

_WIDTH, _HEIGHT = 56, 12
_UNITS = {"m": 60.0, "min": 60.0, "h": 3600.0, "d": 86_400.0}


@app.command(
    rich_help_panel=START,
    epilog="Example:\n\n  cloudrun advise jobs/plants.yaml\n\n  cloudrun advise --deadline 2h --max-cost 3 job.yaml\n",
)
def advise(
    job_file: Annotated[Path, typer.Argument(metavar="JOB.yaml", help="The job file.")],
    deadline: Annotated[
        str | None, typer.Option(metavar="TIME", help="When it has to be done: 90m, 2h, 1d. Default: budget.max_hours.")
    ] = None,
    max_cost: Annotated[
        float | None, typer.Option(metavar="USD", min=0.01, help="What it may cost. Default: budget.max_cost.")
    ] = None,
    overrides: Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="As for launch.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")] = False,
) -> int:
    """Name the cheapest machine that is done by a deadline, and the fastest that a budget pays for."""
    from cloudrun.backends import NoCloudEnabled, open_backend
    from cloudrun.cli.forecast import warn_of_list_prices
    from cloudrun.forecast.advice import advise as make_advice
    from cloudrun.forecast.history import history
    from cloudrun.forecast.list_offers import list_offers
    from cloudrun.forecast.offers import workload_for
    from cloudrun.job.job_file import load_job
    from cloudrun.runs.prepare import check_job, plan_for
    from cloudrun.state.home import home_folder
    from cloudrun.state.ledger import Ledger

    asked_s = None if deadline is None else _seconds(deadline)
    job = load_job(job_file, overrides=overrides or [])
    for warning in job.warnings:
        warn(warning)
    budget = job.spec.budget
    deadline_s = budget.max_hours * 3600 if asked_s is None else asked_s
    max_usd = budget.max_cost if max_cost is None else max_cost
    survey = check_job(job)
    home = home_folder()
    plan = plan_for(job)
    try:
        offers = open_backend(plan.backend, home).offers(plan, warn)
    except NoCloudEnabled as err:
        offers = list_offers(plan)
        warn_of_list_prices(err)
    advice = make_advice(
        offers,
        plan,
        workload_for(plan, survey),
        history(Ledger(home).all()),
        deadline_s=deadline_s,
        max_usd=max_usd,
    )
    if not advice.choices:
        why = advice.unknown[0] if advice.unknown else "nothing that is offered fits the job"
        raise NoMachine(
            f"there is nothing to advise: {why}",
            hint="`cloudrun gpus JOB.yaml` lists every offer with what is wrong with it",
        )
    if as_json:
        answer_json(_plain(advice, deadline_s=deadline_s, max_usd=max_usd))
    else:
        _show(advice, job_file, deadline_s=deadline_s, max_usd=max_usd)
    return ExitCode.DONE


def _seconds(text: str) -> float:
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(m|min|h|d)", text.strip().lower())
    if match is None or not float(match[1]):
        raise UsageError(f"`--deadline {text}` is no time from now", hint="write 90m, 2h or 1d")
    return float(match[1]) * _UNITS[match[2]]


def _show(advice: Advice, job_file: Path, *, deadline_s: float, max_usd: float) -> None:
    from cloudrun.text.units import duration

    answer(_best("cheapest", f"done within {duration(deadline_s)}", advice.cheapest, job_file))
    answer(_best("fastest", f"for ${max_usd:g} at the most", advice.fastest, job_file))
    answer("\nNo other choice is faster for the same money (by the slow end of each estimate, and by 3 % or more):\n")
    answer(_frontier_table(advice.frontier))
    if len(advice.frontier) > 1:
        answer("\n" + scatter(advice, width=_WIDTH, height=_HEIGHT))
    if any(one.spot for one in advice.frontier):
        note("a spot machine may be taken back: its price buys no end by a certain time")
    if any(one.machines > 1 for one in advice.frontier):
        note("several machines: one launch for each fold, with `--set train.fold=0`, 1, 2, ...")
    for why in advice.unknown:
        note(f"some offers are left out, without an estimate: {why}")


def _best(word: str, limit: str, choice: Choice | None, job_file: Path) -> str:
    from cloudrun.text.units import duration

    if choice is None:
        return f"{word:<9} {limit}: none"
    return (
        f"{word:<9} {limit}: {_name(choice)}, ${choice.likely_usd:.2f} (up to ${choice.usd:.2f}),"
        f" {duration(choice.likely_s)} (up to {duration(choice.seconds)})\n{'':<9} `{_command(choice, job_file)}`"
    )


def _name(choice: Choice) -> str:
    from cloudrun.text.units import times

    gpu = times(choice.machines, choice.offer.gpu or choice.offer.machine)
    return f"{gpu} of {choice.offer.infra}{', spot' if choice.spot else ''}"


def _command(choice: Choice, job_file: Path) -> str:
    gpu = f" --gpu {choice.offer.gpu}" if choice.offer.gpu else ""
    fold = " --set train.fold=0" if choice.machines > 1 else ""
    return f"cloudrun launch{gpu} --infra {choice.offer.infra}{' --spot' if choice.spot else ''}{fold} {job_file}"


def _frontier_table(choices: Sequence[Choice]) -> str:
    from cloudrun.render.tables import table
    from cloudrun.text.units import duration, times

    rows = [
        [
            times(one.machines, one.offer.gpu or one.offer.machine),
            one.offer.infra,
            "spot" if one.spot else "on demand",
            f"${one.likely_usd:.2f}",
            f"${one.usd:.2f}",
            duration(one.likely_s),
            duration(one.seconds),
        ]
        for one in choices
    ]
    return table(["MACHINE", "WHERE", "PRICE", "LIKELY", "UP TO", "LIKELY TIME", "UP TO"], rows)


def scatter(advice: Advice, *, width: int, height: int) -> str:
    """Return a plot in letters: dollars upwards, time to the right; `*` the frontier, `.` the other choices.

    Both axes are logarithmic, and `width` and `height` count letters within them.
    """
    from math import log

    from cloudrun.text.units import brief_duration

    points = [(one.seconds, max(one.usd, 0.001)) for one in advice.choices]
    (left, right), (low, high) = (_span([one[axis] for one in points]) for axis in (0, 1))
    grid = [[" "] * width for _ in range(height)]
    best = {(one.seconds, max(one.usd, 0.001)) for one in advice.frontier}
    for seconds, usd in sorted(points, key=lambda point: point in best):
        column = round((log(seconds) - log(left)) / (log(right) - log(left)) * (width - 1))
        row = round((log(high) - log(usd)) / (log(high) - log(low)) * (height - 1))
        grid[row][column] = "*" if (seconds, usd) in best else "."
    labels = [f"${high:.2f}", *[""] * (height - 2), f"${low:.2f}"]
    lines = [f"{label:>9} |{''.join(row)}".rstrip() for label, row in zip(labels, grid, strict=True)]
    first, last = brief_duration(left), brief_duration(right)
    return "\n".join([*lines, f"{'':>9} +{'-' * width}", f"{'':>11}{first}{last:>{width - len(first)}}"])


def _span(values: Sequence[float]) -> tuple[float, float]:
    """Return the least and the largest value, apart from each other even where they are the same."""
    low, high = min(values), max(values)
    return (low, high) if high > low * 1.01 else (low / 2, high * 2)


def _plain(advice: Advice, *, deadline_s: float, max_usd: float) -> dict[str, Any]:
    def row(one: Choice | None) -> dict[str, Any] | None:
        return (
            None
            if one is None
            else {
                "infra": one.offer.infra,
                "region": one.offer.region,
                "gpu": one.offer.gpu,
                "machine": one.offer.machine,
                "machines": one.machines,
                "spot": one.spot,
                "cost_usd": one.likely_usd,
                "cost_high_usd": one.usd,
                "duration_s": one.likely_s,
                "duration_high_s": one.seconds,
                "rests_on": one.estimate.rests_on,
            }
        )

    return {
        "deadline_s": deadline_s,
        "max_cost_usd": max_usd,
        "cheapest": row(advice.cheapest),
        "fastest": row(advice.fastest),
        "frontier": [row(one) for one in advice.frontier],
        "choices": len(advice.choices),
    }
