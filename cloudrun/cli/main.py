"""One command from its words to its exit code: the one error boundary."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from typer.exceptions import TyperException

from cloudrun.cli import jobs, launch, machines, results, watch  # noqa: F401 - each adds its commands to `app`
from cloudrun.cli.app import app
from cloudrun.cli.console import note, show_error
from cloudrun.errors import CloudrunError, ExitCode, UsageError


def main(argv: Sequence[str]) -> int:
    """Run one command; returns the exit code. Nothing else in `cloudrun` decides it."""
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


def _as_usage(err: TyperException) -> UsageError:
    text = err.format_message().strip().rstrip(".")
    context = getattr(err, "ctx", None)
    command = context.command_path if context is not None else "cloudrun"
    return UsageError(text[:1].lower() + text[1:], hint=f"`{command} --help` shows how it is used")
