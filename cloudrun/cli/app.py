"""The Typer application, to which each command module adds its own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import typer

from cloudrun.cli import completion
from cloudrun.cli.console import answer
from cloudrun.cli.groups import MORE, Commands
from cloudrun.errors import UsageError

app = typer.Typer(
    name="cloudrun",
    cls=Commands,
    help="Rent a GPU for one training job, bring the results home, and end the bill.",
    epilog="Try it without an account: cloudrun demo. `cloudrun help COMMAND` explains a command.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _show_version(is_asked: bool) -> None:
    if is_asked:
        from importlib.metadata import PackageNotFoundError, version

        try:
            answer(f"cloudrun {version('cloudrun-gpu')}")
        except PackageNotFoundError:  # a copy of the source tree that nobody has installed
            answer("cloudrun, not installed")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_show_version, help="Show the version and exit.")
    ] = False,
) -> None:
    """Rent a GPU for one training job, bring the results home, and end the bill."""


@app.command(name="help", rich_help_panel=MORE, epilog="Example:\n\n  cloudrun help launch\n")
def explain(
    words: Annotated[
        list[str] | None,
        typer.Argument(metavar="COMMAND", help="[default: the list of commands]", autocompletion=completion.commands),
    ] = None,
) -> int:
    """Explain a command."""
    return int(app([*(words or []), "--help"], standalone_mode=False) or 0)


def refuse_shell_name(argv: Sequence[str]) -> None:
    """Raise UsageError for `--install-completion zsh`: Typer installs for the shell that runs it, whatever is named."""
    if len(argv) > 1 and argv[0] in ("--install-completion", "--show-completion"):
        raise UsageError(
            f"`{argv[0]}` is for the shell that it is typed in, and takes no `{argv[1]}`",
            hint=f"in {argv[1]}: `cloudrun {argv[0]}`",
        )
