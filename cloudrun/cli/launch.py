"""The commands `cloudrun launch` and `cloudrun resume`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cloudrun.catalog.infras import CAPABILITIES
from cloudrun.cli import completion
from cloudrun.cli.app import app
from cloudrun.cli.console import agree, answer, answer_json, ask_for, may_ask, note, say, warn
from cloudrun.cli.dataset import warn_of
from cloudrun.cli.forecast import warn_of_list_prices
from cloudrun.cli.groups import RUN
from cloudrun.cli.machines import warn_of_unaccounted
from cloudrun.cli.notify import show_on_desktop
from cloudrun.errors import CloudrunError, ExitCode
from cloudrun.protocol.outputs import REPORT

if TYPE_CHECKING:
    from cloudrun.cli.live_view import LaunchView
    from cloudrun.job.job_file import Job
    from cloudrun.job.plan import Plan
    from cloudrun.runs.console import Ask, Console
    from cloudrun.runs.prepared import Examined, Prepared
    from cloudrun.state.ledger import Ledger
    from cloudrun.state.run import Run

_EXAMPLE = """Example:

  cloudrun launch --gpu A100:1 --gpu RTX4090:1 --max-cost 3 jobs/plants.yaml
"""


@app.command(rich_help_panel=RUN, epilog=_EXAMPLE)
def launch(  # noqa: PLR0913 - each is an option of the command
    job_file: Annotated[Path, typer.Argument(metavar="JOB.yaml", help="The job file.")],
    gpu: Annotated[
        list[str] | None,
        typer.Option(metavar="GPU", help="NAME:COUNT; repeat it: tried in this order.", autocompletion=completion.gpus),
    ] = None,
    nodes: Annotated[
        int | None, typer.Option(metavar="N", help="Machines that train together, each with that GPU.")
    ] = None,
    infra: Annotated[
        str | None,
        typer.Option(
            envvar="CLOUDRUN_INFRA",
            metavar="INFRA",
            autocompletion=completion.infras,
            help="local, slurm, aws, runpod, ... or aws/us-east-1. [default: the cheapest]",
        ),
    ] = None,
    spot: Annotated[bool | None, typer.Option("--spot/--no-spot", help="Use a spot machine.")] = None,
    max_cost: Annotated[
        float | None,
        typer.Option(envvar="CLOUDRUN_MAX_COST", metavar="USD", help="Stop the run at this cost."),
    ] = None,
    max_hours: Annotated[
        float | None,
        typer.Option(envvar="CLOUDRUN_MAX_HOURS", metavar="H", help="Stop the run after this time."),
    ] = None,
    name: Annotated[str | None, typer.Option(metavar="NAME", help="Name of the run. [default: the job file's]")] = None,
    notify: Annotated[
        list[str] | None,
        typer.Option(metavar="URL", help="Tell this address, or $NAME that holds it, how the run goes; repeat it."),
    ] = None,
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Any key of the job file: train.epochs=3."),
    ] = None,
    detach: Annotated[bool, typer.Option("-d", "--detach", help="Return once the job runs by itself.")] = False,
    yes: Annotated[bool, typer.Option("-y", "--yes", envvar="CLOUDRUN_YES", help="Do not ask.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the plan and stop.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")] = False,
) -> int:
    """Rent a machine, train, bring the results home, end the bill."""
    from cloudrun.cli.forecast import is_agreed, show
    from cloudrun.job.job_file import load_job
    from cloudrun.render.tables import second_run_text
    from cloudrun.runs.launch import launch as execute
    from cloudrun.runs.live import live_runs_of
    from cloudrun.runs.prepare import check_store, on_this_computer
    from cloudrun.runs.prepared import examine, prepare
    from cloudrun.runs.tend import keep_going
    from cloudrun.runs.weights_check import check_hub, hub_problem
    from cloudrun.state.home import home_folder
    from cloudrun.state.ledger import Ledger
    from cloudrun.state.records import now_utc

    options: dict[str, Any] = {
        "gpu": list(gpu) if gpu else None,
        "nodes": nodes,
        "infra": infra,
        "spot": spot,
        "budget.max_cost": max_cost,
        "budget.max_hours": max_hours,
        "name": name,
        "notify": list(notify) if notify else None,
    }
    job = load_job(job_file, overrides=overrides or [], options={k: v for k, v in options.items() if v is not None})
    job = on_this_computer(job)
    ledger = Ledger(home_folder())
    _warn_of_job(job)
    if not dry_run:
        ledger.refuse_read_only()
    examined = examine(job, ledger, note)
    if examined.findings is not None:
        warn_of(examined.findings)
    if job.spec.capabilities.rents:
        say("asking SkyPilot for a machine and its price ...")
    elif job.spec.is_own_machine:
        say(f"looking at {job.spec.infra} ...")
    prepared = _priced(examined, ledger) if dry_run else prepare(examined, ledger)
    if dry_run:
        if unreachable := hub_problem(job):
            warn(f"{unreachable.message}; a launch would end here: {unreachable.hint}")
        return _show(prepared, ledger, as_json=as_json)
    check_store(job)
    check_hub(job)
    show(prepared.forecast)
    if prepared.interrupted is not None:
        note(f"left     {prepared.interrupted.run_id} was launched before and cut short: this goes on with it")
    if prepared.plan.capabilities.rents:
        warn_of_unaccounted(ledger)
    live = live_runs_of(job, ledger) if prepared.interrupted is None else []
    for run in live:
        warn(second_run_text(run, now_utc()))
    if not is_agreed(prepared.forecast, _question(prepared.plan), yes=yes, is_second=bool(live)):
        return ExitCode.FAILED
    with _view(prepared.plan.run_id, ledger, files=examined.images) as view:
        console = _console(view, yes=yes, detach=detach)
        run = keep_going(execute(prepared, ledger, console, detach=detach), ledger, console, detach=detach)
    return _conclude(run, as_json=as_json)


@app.command(rich_help_panel=RUN, epilog="Example:\n\n  cloudrun resume plants-1124-x7k2m --set train.epochs=40\n")
def resume(  # noqa: PLR0913 - each is an option of the command
    run_id: Annotated[
        str, typer.Argument(metavar="RUN", help="Run id or its start.", autocompletion=completion.run_ids)
    ],
    infra: Annotated[
        str | None,
        typer.Option(
            envvar="CLOUDRUN_INFRA", metavar="INFRA", help="Go on elsewhere.", autocompletion=completion.infras
        ),
    ] = None,
    gpu: Annotated[
        list[str] | None, typer.Option(metavar="GPU", help="As for launch.", autocompletion=completion.gpus)
    ] = None,
    overrides: Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="As for launch.")] = None,
    detach: Annotated[bool, typer.Option("-d", "--detach", help="Return once the job runs by itself.")] = False,
    yes: Annotated[bool, typer.Option("-y", "--yes", envvar="CLOUDRUN_YES", help="Do not ask.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")] = False,
) -> int:
    """Go on from the last complete checkpoint, on the same machine or another one."""
    from cloudrun.cli.forecast import is_agreed, show
    from cloudrun.job.job_file import reload_job
    from cloudrun.runs.context import Context
    from cloudrun.runs.prepare import check_store, on_this_computer
    from cloudrun.runs.prepared import examine, prepare_to_resume
    from cloudrun.runs.refresh import refresh
    from cloudrun.runs.resume import resume as execute
    from cloudrun.runs.tend import keep_going
    from cloudrun.state.home import home_folder
    from cloudrun.state.ledger import Ledger

    ledger = Ledger(home_folder())
    run = ledger.find(run_id)
    if not run.phase.is_final:
        run = refresh(run, Context.of(run.backend, ledger))
    options = {key: value for key, value in {"infra": infra, "gpu": list(gpu) if gpu else None}.items() if value}
    job = on_this_computer(reload_job(run.job, Path(run.job_path), overrides=overrides or [], options=options))
    _warn_of_job(job)
    examined = examine(job, ledger, note, closely=False)
    check_store(job)
    prepared = prepare_to_resume(run, examined, ledger)
    show(prepared.forecast)
    if not is_agreed(prepared.forecast, "Go on?", yes=yes):
        return ExitCode.FAILED
    with _view(run.run_id, ledger, files=examined.images) as view:
        console = _console(view, yes=yes, detach=detach)
        run = keep_going(execute(prepared, ledger, console, detach=detach), ledger, console, detach=detach)
    return _conclude(run, as_json=as_json)


def _view(run_id: str, ledger: Ledger, *, files: int | None) -> LaunchView:
    """Return what shows the launch of a run; the run is not in the ledger before its launch begins."""
    from cloudrun.cli.live_view import LaunchView

    def read() -> Run | None:
        try:
            return ledger.get(run_id)
        except (CloudrunError, OSError):
            return None

    return LaunchView(read, files=files)


def _console(view: LaunchView, *, yes: bool, detach: bool) -> Console:
    """Return the launch's console; it can ask where somebody is at the terminal and has not agreed in advance."""
    from cloudrun.runs.console import Console

    def paused(ask: Ask) -> Ask:
        def asked(question: str, wait_s: float) -> bool:
            with view.paused():
                return ask(question, wait_s)

        return asked

    is_there = may_ask() and not yes
    return Console(
        say,
        note,
        view.on_bytes,
        view.on_progress,
        ask=paused(ask_for) if is_there and not detach else None,
        agree=paused(agree) if is_there else None,
    )


def _question(plan: Plan) -> str:
    return "Rent it?" if plan.capabilities.rents else "Start it?"


def _priced(examined: Examined, ledger: Ledger) -> Prepared:
    """What `--dry-run` shows where no cloud is enabled: public list prices. Raises NoMachine where none is listed."""
    from cloudrun.backends import NoCloudEnabled
    from cloudrun.runs.prepared import at_list_price, prepare

    try:
        return prepare(examined, ledger)
    except NoCloudEnabled as err:
        listed = at_list_price(examined, ledger)
        if listed is None:
            raise
        warn_of_list_prices(err)
        return listed


def _show(prepared: Prepared, ledger: Ledger, *, as_json: bool) -> int:
    """Write the answer of `--dry-run`: the plan, the forecast, and what would be sent. Returns the exit code."""
    from cloudrun.runs.datasets import would_send
    from cloudrun.text.units import size

    plan, forecast = prepared.plan, prepared.forecast
    sends = would_send(plan, ledger.home)
    if as_json:
        counts = None
        if sends is not None:
            counts = {"files": sends.new_files, "size_bytes": sends.sent_bytes, "of_files": sends.files}
        answer_json({**plan.as_plain(), **forecast.as_plain(), "would_send": counts})
        return ExitCode.DONE
    answer(forecast.text())
    if sends is not None:
        new = f"{sends.new_files} of {sends.files} files, {size(sends.sent_bytes)}"
        answer(f"sends    {new}{' (the others are in the store)' if sends.new_files < sends.files else ''}")
    return ExitCode.DONE


def _warn_of_job(job: Job) -> None:
    for warning in job.warnings:
        warn(warning)


def _conclude(run: Run, *, as_json: bool) -> int:
    """Write the answer to stdout; to stderr how good the run is, where its results are, and its cost.

    Returns the exit code.
    """
    from cloudrun.billing.cost import cost_of
    from cloudrun.billing.own_price import stays_on
    from cloudrun.render.tables import launch_row
    from cloudrun.runs.summary import accuracy_text
    from cloudrun.state.records import now_utc
    from cloudrun.text.units import duration

    code = run.phase.exit_code if run.phase.is_final else None
    if code is not None:
        show_on_desktop(run)
    if as_json:
        answer_json(launch_row(run, code, now_utc()))
    else:
        answer(run.run_id)
    if code is None:
        note(f"it goes on by itself: `cloudrun logs {run.run_id}` follows it")
        note(f"`cloudrun down {run.run_id}` stops it and ends the bill")
        return ExitCode.DONE
    cost = cost_of(run, now_utc())
    note(f"\n{run.phase.value}{': ' + run.message if run.exit_code else ''}")
    if run.folder and Path(run.folder).is_dir():
        accuracy = accuracy_text(Path(run.folder))
        if accuracy:
            note(accuracy)
        note(f"results   {run.folder}")
        if (Path(run.folder) / REPORT).is_file():
            note(f"report    {Path(run.folder) / REPORT}")
    ended = "the machine stays on, and its bill with it" if stays_on(run) else "nothing is billing"
    if run.may_bill:
        ended = f"STILL BILLING: `cloudrun down {run.run_id}`"
    usd = f"${cost.usd:.4f}" if CAPABILITIES[run.backend].is_billed else "nothing"
    note(f"cost      {usd} for {duration(cost.hours * 3600)}; {ended}")
    return code
