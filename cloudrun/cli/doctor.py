"""`doctor`: whether a run can be launched from this computer, and the next step for what is missing."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Annotated

import typer

from cloudrun.cli.app import app
from cloudrun.cli.clouds import check_command
from cloudrun.cli.console import answer, answer_json, paint, say
from cloudrun.cli.groups import START
from cloudrun.errors import ExitCode

if TYPE_CHECKING:
    from cloudrun.runs.doctor import CloudsAnswer, Diagnosis

_WAIT_S = 60.0  # SkyPilot starts its server for the first check: 20 s on an idle computer


@app.command(rich_help_panel=START, epilog="Example:\n\n  cloudrun doctor\n")
def doctor(
    wait_s: Annotated[
        float,
        typer.Option("--wait", metavar="SECONDS", min=0.0, help="For SkyPilot's check of the clouds; 0: skip it."),
    ] = _WAIT_S,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")] = False,
) -> int:
    """Show what is installed, which clouds are enabled, and the next step; ends with 1 where no run can be launched."""
    from cloudrun.runs.doctor import diagnose
    from cloudrun.state.home import home_folder

    found = diagnose(home_folder(), _ask_for_clouds(wait_s))
    if as_json:
        answer_json(_as_plain(found))
    else:
        _show(found)
    return ExitCode.DONE if found.can_launch else ExitCode.FAILED


def _ask_for_clouds(wait_s: float) -> CloudsAnswer:
    """Ask SkyPilot which clouds are enabled, and end the question after `wait_s` seconds."""
    from cloudrun.runs.doctor import CloudsAnswer

    if not wait_s:
        return CloudsAnswer(None, "not asked (`--wait 0`)")
    say(f"asking SkyPilot which clouds are enabled, for {wait_s:g} s at most ...")
    with subprocess.Popen(
        check_command([], as_json=True),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,  # so that what it starts ends with it
    ) as asked:
        try:
            out, err = asked.communicate(timeout=wait_s)
        except subprocess.TimeoutExpired:
            return CloudsAnswer(None, f"SkyPilot gave no answer within {wait_s:g} s")
        finally:
            if asked.poll() is None:
                with suppress(ProcessLookupError):
                    os.killpg(asked.pid, signal.SIGKILL)
    enabled = enabled_in(out)
    if enabled is None:
        said = (err or out).decode("utf-8", "replace").strip().splitlines()
        return CloudsAnswer(None, f"SkyPilot's check failed: {said[-1][:200] if said else 'it said nothing'}")
    return CloudsAnswer(enabled)


def enabled_in(content: bytes) -> tuple[str, ...] | None:
    """Return the clouds that can rent machines, by the JSON of `sky check`: {workspace: {cloud: [capability]}}.

    The first check on a computer starts SkyPilot's server, and says so in lines before the JSON.
    """
    try:
        workspaces = json.loads(content[max(content.find(b"{"), 0) :])
        found = {cloud.lower() for clouds in workspaces.values() for cloud, what in clouds.items() if "compute" in what}
    except (ValueError, AttributeError, TypeError):
        return None
    return tuple(sorted(found))


def _as_plain(found: Diagnosis) -> dict[str, object]:
    checks = [
        {
            "name": one.name,
            "state": one.state.value,
            "found": one.found,
            "next_step": one.next_step or None,
            "for_here": one.for_here,
            "for_rented": one.for_rented,
        }
        for one in found.findings
    ]
    return {
        "ok": found.can_launch,
        "launch_here": found.launch_here,
        "launch_rented": found.launch_rented,
        "checks": checks,
    }


def _show(found: Diagnosis) -> None:
    colours = {"ok": "32", "missing": "31", "unknown": "33"}
    for one in found.findings:
        state = paint(f"{one.state.value:<8}", colours[one.state.value], sys.stdout)
        answer(f"{one.name:<13}{state} {one.found}")
    words = {True: "possible", False: "not possible", None: "not known"}
    answer(f"\na run on this computer:     {words[found.launch_here]}")
    answer(f"a run on a rented machine:  {words[found.launch_rented]}")
    if found.next_steps:
        answer("\nnext steps:")
        for step in found.next_steps:
            answer(f"- {step}")
