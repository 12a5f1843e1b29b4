"""Commands about job files, before any run: `check`, `init`, `gpus`, `sweep`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cloudrun.cli import completion
from cloudrun.cli.app import app
from cloudrun.cli.console import answer, answer_json, note, warn
from cloudrun.cli.dataset import warn_of
from cloudrun.cli.groups import START
from cloudrun.errors import CloudrunError, ExitCode, NoMachine, UsageError

if TYPE_CHECKING:
    from cloudrun.dataset.audit import Findings
    from cloudrun.imagedata.layout import ClassFolders
    from cloudrun.job.job_file import Job

UNUSED_HEADER = ["NOT USED", "REASON", "EXAMPLES"]
_MOST_SHOWN = 20  # problems of one job file


@app.command(rich_help_panel=START, epilog="Example:\n\n  cloudrun check jobs/plants.yaml\n")
def check(
    job_file: Annotated[Path, typer.Argument(metavar="JOB.yaml", help="The job file.")],
    overrides: Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="As for launch.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")] = False,
) -> int:
    """Find everything that can be found wrong before money is spent."""
    from cloudrun.dataset.duplicates import find_duplicates
    from cloudrun.job.job_file import JobFileProblems, load_job
    from cloudrun.job.notify import as_plain, channels_of
    from cloudrun.runs.clouds_check import clouds_known
    from cloudrun.runs.prepare import check_job, check_store, on_this_computer
    from cloudrun.runs.weights_check import hub_problem
    from cloudrun.state.home import home_folder

    try:
        job = on_this_computer(load_job(job_file, overrides=overrides or []))
        for warning in job.warnings:
            warn(warning)
        survey = check_job(job)
        findings = find_duplicates(survey, home_folder(), note) if survey is not None else None
        check_store(job)
        if unreachable := hub_problem(job):
            warn(f"{unreachable.message}; `launch` would end here: {unreachable.hint}")
    except JobFileProblems as err:
        problems = sorted(err.problems, key=lambda one: _line_of(one[0]))
        for place, message, hint in problems[:_MOST_SHOWN]:
            note(f"error: {place}: {message}\n\nhint: {hint}\n")
        if len(problems) > _MOST_SHOWN:
            note(f"and {len(problems) - _MOST_SHOWN} more: `cloudrun check {job_file} --json` lists them")
        if as_json:
            found = [{"place": place, "message": message, "hint": hint} for place, message, hint in problems]
            answer_json({"job": str(job_file), "ok": False, "problems": found})
        return err.exit_code
    except CloudrunError as err:
        if as_json:
            found = [{"place": str(job_file), "message": err.message, "hint": err.hint}]
            answer_json({"job": str(job_file), "ok": False, "problems": found})
        raise
    clouds = clouds_known(job.spec)
    if clouds is not None:
        (warn if clouds.is_missing else note)(clouds.text())
    if as_json:
        answer_json(
            {
                "job": str(job.path),
                "ok": True,
                "warnings": [*job.warnings, *([clouds.text()] if clouds is not None and clouds.is_missing else [])],
                "clouds": clouds and clouds.as_plain(),
                "data": findings and findings.as_plain(),
                "notify": as_plain(channels_of(job.spec.notify)),
            }
        )
    else:
        _show_checked(job, findings, lacks_cloud=clouds is not None and clouds.is_missing)
    return ExitCode.DONE


def _show_checked(job: Job, findings: Findings | None, *, lacks_cloud: bool) -> None:
    """Write the answer of `check` for a job without mistakes."""
    from cloudrun.cli.notify import notify_lines
    from cloudrun.render.tables import table

    if findings is not None:
        answer(table(findings.header(), findings.rows()))
        if unused := findings.unused_rows():
            answer(f"\n{table(UNUSED_HEADER, unused)}")
        _tell(findings)
    for line in notify_lines(job.spec.notify):
        answer(line)
    answer(f"{job.path}: ready to launch{', but for a cloud to rent from' if lacks_cloud else ''}")


def _class_folders(text: str) -> ClassFolders:
    match text:
        case "auto" | "top" | "deepest":
            return text
        case _:
            raise UsageError(f"`--classes {text}` is not known", hint="write top or deepest, or leave it out")


def _tell(findings: Findings) -> None:
    warn_of(findings)
    for fact in findings.facts():
        note(fact)


def _gpu_name(text: str) -> str:
    from cloudrun.catalog.gpus import parse_gpu

    try:
        return parse_gpu(text).name
    except ValueError as err:
        raise UsageError(str(err), hint="`cloudrun gpus` lists them") from None


def _line_of(place: str) -> int:
    """Return the line of a place: `jobs/plants.yaml:14` -> 14; 0 for an option, so that options come first."""
    number = place.rpartition(":")[2]
    return int(number) if number.isdigit() else 0


@app.command(rich_help_panel=START, epilog="Example:\n\n  cloudrun init ../data/plants --out jobs/plants.yaml\n")
def init(  # noqa: PLR0913 - each is an option of the command
    data: Annotated[Path, typer.Argument(metavar="DATA_DIR", help="The folder of images.")],
    out: Annotated[Path | None, typer.Option(metavar="FILE", help="[default: jobs/<folder>.yaml]")] = None,
    gpu: Annotated[
        list[str] | None,
        typer.Option(
            metavar="GPU", help="As for launch. [default: an A100, else the next best]", autocompletion=completion.gpus
        ),
    ] = None,
    labels: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help="Labels of the images, or '{file: FILE, label: COLUMN}' as in a job file. [default: one in DATA_DIR]",
        ),
    ] = None,
    classes: Annotated[
        str, typer.Option(help="Which folders are the classes: top, or deepest (those that hold the images).")
    ] = "auto",
    force: Annotated[bool, typer.Option("--force", help="Overwrite the file.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")] = False,
) -> int:
    """Look at a data set and write a job file for it."""
    from cloudrun.catalog.gpus import is_known
    from cloudrun.dataset.duplicates import find_duplicates
    from cloudrun.dataset.job_template import DEFAULT_GPUS, job_text
    from cloudrun.dataset.label_files import look_for_labels, told_labels
    from cloudrun.dataset.survey import survey_folder
    from cloudrun.imagedata.dataset import Reading
    from cloudrun.imagedata.folders import FolderProblem
    from cloudrun.job.job_file import load_job
    from cloudrun.render.tables import table
    from cloudrun.state.home import home_folder
    from cloudrun.text.names import name_from

    folders = _class_folders(classes)
    try:
        if labels is None:
            chosen = look_for_labels(data.absolute(), classes=folders)
        else:
            chosen = told_labels(labels, data.absolute())
    except FolderProblem as err:
        raise UsageError(err.message, hint=err.hint) from None
    survey = survey_folder(data.absolute(), custom=False, reading=Reading(chosen.path, chosen.columns, folders))
    assert survey is not None
    survey = replace(survey, notes=(*survey.notes, *chosen.notes))
    for one in gpu or []:
        if not is_known(_gpu_name(one)):
            raise UsageError(f"no cloud has a GPU `{one}`", hint="`cloudrun gpus` lists them")
    path = out or Path("jobs") / f"{name_from(data.absolute())}.yaml"
    if path.exists() and not force:
        raise UsageError(f"{path} exists already", hint="name another file with `--out`, or overwrite it: `--force`")
    findings = find_duplicates(survey, home_folder(), note)
    path.parent.mkdir(parents=True, exist_ok=True)
    text = job_text(findings, relative_to=path.parent, gpu=gpu or DEFAULT_GPUS, classes=folders, columns=chosen.columns)
    path.write_text(text, encoding="utf-8")
    job = load_job(path)
    if Path(job.spec.data.source) != data.absolute().resolve():
        raise AssertionError(f"{path} names the folder {job.spec.data.source}, and not {data.absolute()}")
    note(table(findings.header(), findings.rows()))
    if unused := findings.unused_rows():
        note(f"\n{table(UNUSED_HEADER, unused)}")
    _tell(findings)
    if as_json:
        answer_json({"job": str(path), "data": findings.as_plain()})
    else:
        answer(str(path))
    return ExitCode.DONE


@app.command(rich_help_panel=START, epilog="Example:\n\n  cloudrun gpus\n\n  cloudrun gpus jobs/plants.yaml\n")
def gpus(
    job_file: Annotated[
        Path | None, typer.Argument(metavar="JOB.yaml", help="Rank what the enabled clouds offer for this job.")
    ] = None,
    overrides: Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="As for launch.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")] = False,
) -> int:
    """List the GPUs that can be asked for; with a job file, every offer by what the whole job costs on it."""
    from cloudrun.catalog.gpus import MEMORY_GB
    from cloudrun.catalog.prices import catalog_prices, gpu_cells, gpu_row, listed_prices, sources_text
    from cloudrun.render.tables import table
    from cloudrun.state.records import now_utc

    if job_file is not None:
        return _offers(job_file, overrides or [], as_json=as_json)
    prices = catalog_prices() or listed_prices()
    names = sorted(MEMORY_GB, key=lambda name: (MEMORY_GB[name], name))
    if as_json:
        answer_json([gpu_row(name, prices.get(name)) for name in names])
    else:
        headers = ["GPU", "MEMORY", "GOOD FOR", "$/H FROM", "ON"]
        answer(table(headers, [gpu_cells(name, prices.get(name)) for name in names]))
        for line in sources_text(prices, now_utc()):
            note(line)
    return ExitCode.DONE


def _offers(job_file: Path, overrides: list[str], *, as_json: bool) -> int:
    from cloudrun.backends import NoCloudEnabled, open_backend
    from cloudrun.cli.forecast import warn_of_list_prices
    from cloudrun.cli.offers import offer_row, offers_table
    from cloudrun.forecast.history import history
    from cloudrun.forecast.list_offers import list_offers
    from cloudrun.forecast.offers import rank, workload_for
    from cloudrun.job.job_file import load_job
    from cloudrun.runs.prepare import check_job, plan_for
    from cloudrun.state.home import home_folder
    from cloudrun.state.ledger import Ledger
    from cloudrun.state.records import now_utc

    job = load_job(job_file, overrides=overrides)
    for warning in job.warnings:
        warn(warning)
    survey = check_job(job)
    home = home_folder()
    plan = plan_for(job)
    try:
        offers = open_backend(plan.backend, home).offers(plan, warn)
    except NoCloudEnabled as err:
        offers = list_offers(plan)
        warn_of_list_prices(err)
    ranked = rank(offers, plan, workload_for(plan, survey), history(Ledger(home).all()))
    if not ranked:
        raise NoMachine(
            "the enabled clouds list no GPU",
            hint="`cloudrun clouds` shows which clouds are enabled, and what the others lack",
        )
    if as_json:
        answer_json([offer_row(one) for one in ranked])
    else:
        answer(offers_table(ranked, now_utc()))
    return ExitCode.DONE


@app.command(hidden=True)  # it only refuses
def sweep(
    sweep_file: Annotated[Path, typer.Argument(metavar="SWEEP.yaml", help="The sweep file.")],
) -> int:
    """Many runs of one job: not supported yet."""
    raise UsageError(
        f"`sweep` is not supported yet, so {sweep_file} was not read",
        hint="loop in the shell: `for s in 0 1 2; do cloudrun launch -d -y --set train.seed=$s JOB.yaml; done`",
    )
