"""The Typer application, to which each command module adds its own."""

from __future__ import annotations

from typing import Annotated

import typer

from cloudrun.cli.console import answer

app = typer.Typer(
    name="cloudrun",
    help="Rent a GPU for one training job, bring the results home, and end the bill.",
    epilog="Try it without an account: cloudrun launch --infra local jobs/demo.yaml",
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
