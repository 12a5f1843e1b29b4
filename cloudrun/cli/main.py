"""Run one command, from its words to its exit code. This is the one error boundary."""

from __future__ import annotations

import errno
import shutil
import sys
from collections.abc import Callable, Sequence

from typer.exceptions import TyperException

from cloudrun.cli import (  # noqa: F401 - each adds its commands to `app`
    advise,
    clouds,
    data,
    demo,
    doctor,
    jobs,
    launch,
    machines,
    notify,
    results,
    tend,
    trained,
    ui,
    watch,
)
from cloudrun.cli.app import app, refuse_shell_name
from cloudrun.cli.console import note, show_error, warn
from cloudrun.errors import CloudrunError, ExitCode, UsageError
from cloudrun.interrupts import INTERRUPTED, as_interrupts
from cloudrun.text.names import shortened


def main(argv: Sequence[str]) -> int:
    """Run one command; return its exit code, which nothing else in `cloudrun` decides."""
    try:
        with as_interrupts() as interrupt:
            return _answered(argv, interrupt.was_met)
    except KeyboardInterrupt:
        return _interrupted()


def _answered(argv: Sequence[str], was_interrupted: Callable[[], bool]) -> int:
    try:
        refuse_shell_name(argv)
        _warn_of_overdue(argv)
        code = app(list(argv), standalone_mode=False)
    except CloudrunError as err:
        show_error(err)
        return err.exit_code
    except TyperException as err:
        if not argv or type(err).__name__ == "NoArgsIsHelpError":  # of Typer, which keeps its name private
            note(err.format_message())  # the help
            return ExitCode.USAGE
        show_error(_as_usage(err))
        return ExitCode.USAGE
    except BrokenPipeError:
        sys.stderr.close()
        return ExitCode.DONE
    except OSError as err:
        if err.errno not in _ENVIRONMENT and not _is_below_home(err) and not isinstance(err, shutil.Error):
            return _bug()
        show_error(_as_environment(err))
        return ExitCode.FAILED
    except Exception:  # noqa: BLE001 - the last line of defence: a bug of ours
        # A package that is interrupted while it is loaded may say so by an error of its own.
        return _interrupted() if was_interrupted() else _bug()
    if code == ExitCode.INTERRUPTED:
        return _interrupted()
    return code if isinstance(code, int) else ExitCode.DONE


def _interrupted() -> int:
    note(f"\n{INTERRUPTED}")
    return ExitCode.INTERRUPTED


# What the computer is to blame for: no room, no permission, a disk that cannot be written or read.
_ENVIRONMENT = (
    errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS, errno.EIO, errno.ENOTDIR, errno.ENAMETOOLONG,
    errno.ELOOP, errno.EMFILE, errno.ENFILE, errno.ENODEV, errno.ENXIO, errno.ESTALE,
)  # fmt: skip


def _is_below_home(err: OSError) -> bool:
    """Return whether the error is about the ledger's folder or one above it, which the user has chosen."""
    from cloudrun.state.home import home_folder

    return err.errno == errno.ENOENT and err.filename is not None and str(err.filename) in str(home_folder())


def _as_environment(err: OSError) -> CloudrunError:
    if isinstance(err, shutil.Error):
        # Of a whole folder: a list of (from, to, why), where not one of its files could be copied as it should.
        failed = err.args[0] if err.args and isinstance(err.args[0], list) else []
        source, _, why = failed[0] if failed and len(failed[0]) == 3 else ("some files", "", str(err))
        return CloudrunError(
            f"cannot copy {source}: {shortened(str(why), 300)}"
            + (f" (and {len(failed) - 1} more)" if failed[1:] else ""),
            hint="fix that (room on the disk? permissions?), then `cloudrun ps` shows what may bill",
        )
    where = f" {err.filename}" if err.filename else " to the output"
    return CloudrunError(
        f"cannot read or write{where}: {err.strerror}",
        hint="fix that (room on the disk? permissions? `CLOUDRUN_HOME`?), then `cloudrun ps` shows what may bill",
    )


def _bug() -> int:
    import traceback

    note(traceback.format_exc().rstrip())
    note("\nerror: this is a bug in cloudrun\n")
    note("hint: please report it with the lines above; `cloudrun ps` shows what bills")
    return ExitCode.BUG


def _warn_of_overdue(argv: Sequence[str]) -> None:
    """Warn of each other run that bills past its estimate, whatever the command is; `ps` shows it anyway."""
    if not argv or argv[0] == "ps" or {"-h", "--help"} & set(argv):
        return
    from cloudrun.state.home import home_folder, may_bill

    if not may_bill(home_folder()):
        return
    from cloudrun.billing.cost import cost_of
    from cloudrun.billing.overdue import overdue
    from cloudrun.state.ledger import Ledger
    from cloudrun.state.records import now_utc

    now = now_utc()
    for run, estimated in overdue(Ledger(home_folder()).all(), now):
        if not any(word and run.run_id.startswith(word) for word in argv[1:]):
            usd = cost_of(run, now).usd
            warn(
                f"{run.run_id} may be billing past its estimate: ${usd:.2f} so far, ${estimated:.2f} estimated; "
                f"`cloudrun down {run.run_id}` ends it"
            )


def _as_usage(err: TyperException) -> UsageError:
    text = err.format_message().strip().rstrip(".")
    context = getattr(err, "ctx", None)
    command = context.command_path if context is not None else "cloudrun"
    return UsageError(text[:1].lower() + text[1:], hint=f"`{command} --help` shows how it is used")
