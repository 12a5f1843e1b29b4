"""The Typer application, to which each command module adds its own."""

from __future__ import annotations

import typer

app = typer.Typer(
    name="cloudrun",
    help="Rent a GPU for one training job, bring the results home, and end the bill.",
    epilog="Try it without an account: cloudrun launch --infra local jobs/demo.yaml",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
