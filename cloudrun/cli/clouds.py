"""`clouds`: SkyPilot's own check of the user's accounts, with the SkyPilot that this `cloudrun` uses."""

from __future__ import annotations

import subprocess
import sys
from typing import Annotated

import typer

from cloudrun.cli import completion
from cloudrun.cli.app import app
from cloudrun.cli.groups import START
from cloudrun.errors import CloudrunError, ExitCode

# SkyPilot's command `sky` is on PATH in an activated environment, but not after `uv tool install` without
# `--with-executables-from skypilot`. Its module is importable wherever `cloudrun` is.
_SKY = "import sys; sys.argv[0] = 'sky'; from sky.cli import cli; cli()"


@app.command(rich_help_panel=START, epilog="Example:\n\n  cloudrun clouds aws runpod\n")
def clouds(
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="CLOUD", help="[default: every cloud]", autocompletion=completion.clouds),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")] = False,
) -> int:
    """Check which clouds are ready to rent from, and what the others lack."""
    done = subprocess.run(check_command(names or [], as_json=as_json), check=False)
    if done.returncode != 0:
        raise CloudrunError(
            f"SkyPilot's check of the clouds ended with exit code {done.returncode}",
            hint="SkyPilot's own message is above; `cloudrun clouds` without a name checks every cloud",
        )
    return ExitCode.DONE


def check_command(names: list[str], *, as_json: bool) -> list[str]:
    """Return the command line of `sky check` for the clouds `names`; an empty list means every cloud."""
    output = ["--output", "json"] if as_json else []
    return [sys.executable, "-c", _SKY, "check", *output, "--", *names]
