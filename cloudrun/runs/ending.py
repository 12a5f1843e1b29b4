"""Find the runs and machines that `down` is to end, and end them all: an error at one does not spare the others."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from cloudrun.billing.receipt import Receipt, receipt
from cloudrun.catalog.infras import BILLED
from cloudrun.errors import CloudrunError, Interrupted, NoSuchRun, UsageError
from cloudrun.runs.console import Console
from cloudrun.runs.context import Context
from cloudrun.runs.down import down
from cloudrun.runs.results import metrics_at_home
from cloudrun.runs.scan import end_orphan, scan
from cloudrun.state.ledger import Ledger
from cloudrun.state.machines import Machine, find_machines, orphans
from cloudrun.state.records import now_utc
from cloudrun.state.run import MACHINE_PREFIX, Run


@dataclass(frozen=True, slots=True)
class Targets:
    """What a command is to end: runs of the ledger, and machines that the ledger does not know."""

    runs: tuple[Run, ...]
    machines: tuple[Machine, ...] = ()


@dataclass(frozen=True, slots=True)
class Ended:
    """What came of ending one run: its receipt, or the error that kept its bill from ending as it should."""

    run: Run
    receipt: Receipt | None = None
    error: Exception | None = None


@dataclass(frozen=True, slots=True)
class Unaccounted:
    """Orphaned machines (no run of the ledger is billed for them), and why there may be more than are listed."""

    machines: tuple[Machine, ...] = ()
    problems: tuple[str, ...] = ()
    unlistable: tuple[str, ...] = ()  # clouds that cannot be searched

    def left_up(self) -> tuple[str, ...]:
        """Return the problems, and a line for each machine with the command that ends it."""
        up = (f"{one.name} is still up on {one.infra}; `{one.stop_command}` ends it" for one in self.machines)
        return (*self.problems, *up)


def all_that_bill(ledger: Ledger) -> Targets:
    """Return every run that may cost money."""
    return Targets(tuple(run for run in ledger.all() if run.may_bill))


def named(ledger: Ledger, names: Sequence[str]) -> Targets:
    """Return the runs and machines of these names; the newest run where no name is given.

    Raises NoSuchRun, UsageError for an empty name.
    """
    if any(not name.removeprefix(MACHINE_PREFIX).strip() for name in names):
        raise UsageError(
            "the name of the run is empty, and nothing was ended",
            hint="is a variable of the shell not set? `cloudrun ps` lists what bills, `cloudrun down` ends the newest",
        )
    runs: list[Run] = []
    machines: list[Machine] = []
    for name in names:
        try:
            runs.append(ledger.find(name.removeprefix(MACHINE_PREFIX)))
        except NoSuchRun:
            found = find_machines(scan(Context.of(BILLED, ledger)).machines, name)
            if not found:
                raise NoSuchRun(
                    f"there is no run `{name}`, and no provider lists a machine of that name",
                    hint="`cloudrun ps --all --refresh` shows everything",
                ) from None
            machines += found
    return Targets(tuple(runs or ([] if machines else ledger.find_all(None))), tuple(machines))


def end_each(runs: Sequence[Run], ledger: Ledger, console: Console, *, force: bool) -> Iterator[Ended]:
    """End the runs one after another, and yield what came of each; after an error the next one is ended.

    Raises Interrupted on Ctrl-C.
    """
    for run in runs:
        try:
            ended = down(run, Context.of(run.backend, ledger, console), force=force)
            done = Ended(ended, receipt(ended, now_utc(), metrics_at_home(ended)))
        except KeyboardInterrupt:
            raise Interrupted(
                f"interrupted; `{run.run_id}` was asked to stop, and its machine may still bill",
                hint=f"`cloudrun down {run.run_id}` goes on; `cloudrun ps --refresh` shows what bills",
            ) from None
        except Exception as err:  # noqa: BLE001 - the others are still to be ended
            done = Ended(run, error=err)
        yield done


def unaccounted(ledger: Ledger) -> Unaccounted:
    """Ask the providers for machines of ours that the ledger does not know."""
    damaged = tuple(f"{one.message}; {one.hint}" for one in ledger.damaged())
    try:
        found = scan(Context.of(BILLED, ledger))
    except CloudrunError as err:
        unasked = f"nobody could be asked for machines that the ledger does not know: {err.message}"
        return Unaccounted(problems=(*damaged, unasked))
    silent = tuple(f"no answer about machines of ours: {one}" for one in found.unasked)
    return Unaccounted(tuple(orphans(found, ledger.all())), (*damaged, *silent), found.unlistable)


def end_machines(machines: Sequence[Machine], ledger: Ledger, console: Console) -> tuple[str, ...]:
    """End machines that the ledger does not know; return a message for each that could not be ended."""
    if not machines:
        return ()
    context = Context.of(BILLED, ledger, console)
    problems = []
    for machine in machines:
        try:
            end_orphan(machine, context)
            console.say(f"{machine.name} is gone")
        except CloudrunError as err:
            problems.append(f"{err.message}; {err.hint}")
    return tuple(problems)
