"""The command `cloudrun notify`: what a job would tell whom, and a trial of it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cloudrun.cli.app import app
from cloudrun.cli.console import answer, answer_json, warn
from cloudrun.cli.groups import START
from cloudrun.errors import ExitCode, UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cloudrun.job.notify import Notify
    from cloudrun.state.run import Run


@app.command(rich_help_panel=START, epilog="Example:\n\n  cloudrun notify --test jobs/plants.yaml\n")
def notify(
    job_file: Annotated[Path, typer.Argument(metavar="JOB.yaml", help="The job file.")],
    test: Annotated[bool, typer.Option("--test", help="Send each channel a trial message from this computer.")] = False,
    overrides: Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="As for launch.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")] = False,
) -> int:
    """Show who is told how a run goes; `--test` sends a trial message."""
    from cloudrun.job.job_file import load_job
    from cloudrun.job.notify import as_plain, channels_of
    from cloudrun.notices.channel import Event
    from cloudrun.notices.payload import Notice
    from cloudrun.notices.send import NotDelivered, deliver

    spec = load_job(job_file, overrides=overrides or []).spec
    channels = channels_of(spec.notify)
    if not channels:
        raise UsageError(
            f"{job_file} has no `notify`", hint="add `notify: $SLACK_URL`; docs/guides/notify.md has every service"
        )
    shown = as_plain(channels)
    is_told = True
    for channel, row in zip(channels, shown, strict=True):
        if test:
            text = "a trial message of cloudrun: this channel will be told how the run goes"
            try:
                deliver(channel, Notice(spec.name, Event.TEST, text))
                row["delivered"] = True
            except NotDelivered as err:
                row["delivered"], is_told = False, False
                warn(f"{channel}: not delivered: {err}")
            else:
                if not as_json:
                    answer(f"{channel}: delivered")
    if as_json:
        answer_json(shown)
    elif not test:
        for line in notify_lines(spec.notify):
            answer(line)
    return ExitCode.DONE if is_told else ExitCode.FAILED


def notify_lines(asked: Sequence[Notify]) -> list[str]:
    """Return a line for each channel: its service, its host, and what it is told. Raises JobFileError."""
    from cloudrun.job.notify import channels_of

    return [
        f"notify: {channel}: {', '.join(event.value.replace('_', ' ') for event in channel.events)}"
        for channel in channels_of(asked)
    ]


def show_on_desktop(run: Run) -> None:
    """Show the end of a run on this computer's desktop, where the job asks for it and rents its machine elsewhere."""
    from cloudrun.catalog.infras import CAPABILITIES
    from cloudrun.notices.channel import Channel, Event, Kind
    from cloudrun.notices.payload import Notice
    from cloudrun.notices.send import NotDelivered, deliver

    asked = run.job.get("notify") or []
    if not CAPABILITIES[run.backend].is_remote or not any("desktop" in (one["url"], one["kind"]) for one in asked):
        return  # on this computer the run's own watchdog shows it
    event = Event.FINISHED if run.exit_code == 0 else Event.FAILED
    try:
        deliver(Channel(Kind.DESKTOP, ""), Notice(run.run_id, event, run.message or run.phase.value))
    except NotDelivered as err:
        warn(f"desktop: {err}")
