"""The Typer application and its one error boundary."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import typer
from typer.exceptions import TyperException

from cloudrun.cli.console import note, show_error
from cloudrun.errors import CloudrunError, ExitCode, UsageError

app = typer.Typer(
    name="cloudrun",
    help="Rent a GPU for one training job, bring the results home, and end the bill.",
    epilog="Try it without an account: cloudrun launch --infra local jobs/demo.yaml",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def main(argv: Sequence[str]) -> int:
    """Run one command; returns the exit code. Nothing else in `cloudrun` decides it."""
    _register()
    try:
        code = app(list(argv), standalone_mode=False)
    except CloudrunError as err:
        show_error(err)
        return err.exit_code
    except TyperException as err:
        if not argv:
            note(err.format_message())  # the help
            return ExitCode.USAGE
        show_error(_as_usage(err))
        return ExitCode.USAGE
    except BrokenPipeError:
        sys.stderr.close()
        return ExitCode.DONE
    except Exception:  # noqa: BLE001 - the last line of defence: a bug of ours
        import traceback

        traceback.print_exc()
        note("\nerror: this is a bug in cloudrun\n")
        note("hint: please report it with the lines above; `cloudrun ps` shows what bills")
        return ExitCode.BUG
    if code == ExitCode.INTERRUPTED:
        note("\ninterrupted; `cloudrun ps` shows what bills")
    return code if isinstance(code, int) else ExitCode.DONE


def _register() -> None:
    """Import the command modules: each adds itself to `app`."""
    from cloudrun.cli import jobs, launch, machines, results, watch  # noqa: F401


def _as_usage(err: TyperException) -> UsageError:
    text = err.format_message().strip().rstrip(".")
    context = getattr(err, "ctx", None)
    command = context.command_path if context is not None else "cloudrun"
    return UsageError(text[:1].lower() + text[1:], hint=f"`{command} --help` shows how it is used")
