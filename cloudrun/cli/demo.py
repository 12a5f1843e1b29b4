"""`demo`: the main job in miniature, from wherever cloudrun is installed."""

from __future__ import annotations

from typing import Annotated

import typer

from cloudrun.catalog.infras import LOCAL
from cloudrun.cli.app import app
from cloudrun.cli.console import note
from cloudrun.cli.groups import START
from cloudrun.cli.launch import launch
from cloudrun.errors import ExitCode


@app.command(rich_help_panel=START, epilog="Example:\n\n  cloudrun demo\n")
def demo(
    detach: Annotated[bool, typer.Option("-d", "--detach", help="Return once the job runs by itself.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the plan and stop.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")] = False,
) -> int:
    """Train on drawn leaves on this computer, free, in some minutes: the whole path of a rented run."""
    from cloudrun.job.staging import demo_job

    code = launch(demo_job(), infra=LOCAL, detach=detach, dry_run=dry_run, as_json=as_json)
    if code == ExitCode.DONE and not detach and not dry_run:
        note("\nthe leaves are drawn: their accuracy says that the whole path works, and nothing more")
        note("your own images: `cloudrun init FOLDER` writes a job file for them")
    return code
