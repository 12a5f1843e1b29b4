"""The ledger's record of one run, its life, and the pure rules about its phase.

A run has two lifetimes, and mixing them up is how money leaks: the *job* (`started_at` ..
`finished_at`) and the *machine* (`billed_from` .. `released_at`). Billing follows the machine.
`billed_from` set and `released_at` not means "may be costing money", whatever the phase says.

A record changes by the methods below `its life` alone, each of which returns the next record:

    estimated -> asking_for_machine -> noticed -> rented -> begun -> left_to_itself -> looked_at ... -> came_home
    -> released -> closed; and from there, or from an earlier place, reopened
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal

from cloudrun.catalog.infras import BackendName
from cloudrun.errors import ExitCode
from cloudrun.protocol.words import OnFinish, WorkerPhase, word_of
from cloudrun.state.records import (
    Alternative,
    BilledElsewhere,
    Count,
    DataCheck,
    Estimate,
    Interval,
    Job,
    JobState,
    Measured,
    Moment,
    Phase,
    Phases,
    Progress,
    Quote,
    Record,
    Result,
)

MACHINE_PREFIX = "cloudrun-"
_ID_LETTERS = "abcdefghjkmnpqrstuvwxyz23456789"  # none that are mistaken for one another
# The most by which this computer's clock and a provider's may differ.
_CLOCKS_DIFFER = timedelta(seconds=5)
_LONGEST_REASON = 500


@dataclass(frozen=True, slots=True)
class Ending:
    """The moment when a machine ended: `at`; or some moment between `at` and `by` where nobody saw the end."""

    at: datetime
    by: datetime | None = None


@dataclass(frozen=True, slots=True)
class Assignment:
    """The part of a run's record that its plan decides: the job, and where it runs."""

    job: dict[str, Any]
    backend: BackendName
    infra: str | None
    gpu: tuple[str, ...]
    store_uri: str | None
    endpoint: str | None


@dataclass(frozen=True, slots=True)
class Sighting:
    """The findings of one look at a run, made at `at`."""

    at: datetime
    job: JobState
    progress: Progress | None = None
    result: Result | None = None
    why: str = ""  # the reason why the job left no result, where it left none
    ended_at: datetime | None = None  # the provider's record of the machine's end


class Run(Record):
    """One run's record in the ledger: its names, its estimate, its machine and bill, its job, its results.

    The JSON is flat: the fields are its keys, so that `jq .billed_from` works, and a newer version adds keys only.
    """

    # The run's names, and the places of its files.
    run_id: str
    name: str
    created_at: Moment
    backend: BackendName
    infra: str | None
    gpu: tuple[str, ...]
    job: Job
    job_path: str
    commit: str | None = None  # of git, at the launch: of the job's `workdir`, else of the folder of its job file
    run_uri: str | None = None
    store_uri: str | None = None
    endpoint: str | None = None  # of the store; None: AWS
    # The estimate, and the measured values.
    estimate: Estimate | None = None  # made before the machine was asked for
    expected: Quote | None = None  # the machine that was agreed to; `quote` is the machine that was rented
    projected_s: float | None = None  # the worker's corrected estimate, from timed steps
    projected_usd: float | None = None
    corrected_rests_on: str | None = None
    measured: Measured | None = None
    alternatives: tuple[Alternative, ...] = ()  # made when the bill had ended
    data_check: DataCheck | None = None  # of the images, before the launch; None: they are not on this computer
    # The machine and its bill.
    quote: Quote | None = None
    rented_by: str | None = None  # the SkyPilot that knows the machine: the silence of another proves nothing
    billed_from: Moment | None = None
    # Where `billed_from` comes from: the provider's clock, or the moment of the request on this computer's clock.
    start_is: Literal["provider", "request"] | None = None
    last_seen_at: Moment | None = None  # the last moment that proves the machine was up
    stopped_at: Moment | None = None  # its provider stopped the machine: from then on its disk alone bills
    disk_until: Moment | None = None  # when the disk of a stopped machine was given back
    released_at: Moment | None = None
    # Where nobody saw the end: it was between `released_at` and this moment. None: `released_at` is exact.
    released_by: Moment | None = None
    end_is_proven: bool = False  # the provider has shown that the machine is gone
    sky_account: BilledElsewhere | None = None
    recovered: Count = 0  # how often the run went on by itself after its machine was taken away
    earlier: tuple[Interval, ...] = ()  # machines of the run before this one, each with its bill
    # The job: its phase, and its own reports.
    phase: Phase = Phase.LAUNCHING
    handed_over: bool = False  # whether the launch has done its part, so that the job goes on by itself
    refreshed_at: Moment | None = None
    started_at: Moment | None = None
    finished_at: Moment | None = None
    exit_code: int | None = None
    message: str = ""
    epoch: int | None = None
    epochs: int | None = None
    eta_s: float | None = None
    phases: Phases = ()
    past_phases: Phases = ()  # of the attempts before the run was resumed
    # The results at home.
    folder: str | None = None
    fetch_began_at: Moment | None = None  # the start of the fetch that brought the final results
    home_at: Moment | None = None
    home_complete: bool = False

    @property
    def machine_name(self) -> str:
        """The machine's name: it holds the run id, so that the run can be told from the machine."""
        return f"{MACHINE_PREFIX}{self.run_id}"

    @property
    def price(self) -> Quote | None:
        """The quote of the machine that was rented, else of the machine that was expected."""
        return self.quote or self.expected

    @property
    def nodes(self) -> int:
        """The number of machines that train together."""
        return self.price.nodes if self.price else int(self.job.get("nodes") or 1)

    @property
    def on_finish(self) -> OnFinish:
        """The word for what happens to the machine when the job has ended; `keep` where the job does not say."""
        lifecycle = self.job.get("lifecycle") or {}
        return word_of(OnFinish, lifecycle.get("on_finish")) or OnFinish.KEEP

    @property
    def attempt(self) -> tuple[object, ...]:
        """A value that changes when the run is resumed: what was seen of one attempt says nothing about the next."""
        return self.billed_from, self.earlier, self.past_phases

    @property
    def may_bill(self) -> bool:
        """Whether the run's machine may cost money now."""
        return self.billed_from is not None and self.released_at is None

    @property
    def recoveries_left(self) -> int:
        """How often the run may still go on by itself after its machine was taken away."""
        allowed = self.job.get("recoveries")
        return max(0, allowed - self.recovered) if isinstance(allowed, int) else 0

    @property
    def was_taken_away(self) -> bool:
        """Whether the run ended because its machine went away, and may go on by itself."""
        return self.phase in (Phase.PREEMPTED, Phase.LOST) and self.recoveries_left > 0

    @property
    def was_seen(self) -> bool:
        """Whether anybody has seen a machine of the present bill."""
        return self.start_is == "provider" or self.quote is not None or self.last_seen_at is not None

    def closed_intervals(self, released_at: datetime) -> tuple[Interval, ...]:
        """Return the run's machines so far; the bill of the present one is closed at `released_at`."""
        if self.billed_from is None:
            return self.earlier
        closed = Interval(
            quote=self.price, billed_from=self.billed_from, released_at=released_at, released_by=self.released_by
        )
        return (*self.earlier, closed)

    # --- its life: before there is a machine ---

    def estimated(self, estimate: Estimate | None, expected: Quote | None) -> Run:
        """Record the estimate, and the machine and price that were agreed to."""
        return _with(self, estimate=estimate, expected=expected)

    def made_from(self, commit: str | None) -> Run:
        """Record the git commit of the code, or of the job file."""
        return _with(self, commit=commit)

    def checked(self, data_check: DataCheck | None) -> Run:
        """Its images were looked at."""
        return _with(self, data_check=data_check)

    def asking_for_machine(self, *, rented_by: str | None, now: datetime) -> Run:
        """Open the bill before the cloud is called; an interrupted launch may have opened it already."""
        opened = {} if self.billed_from is not None else {"billed_from": now, "start_is": "request"}
        return _with(self, rented_by=rented_by, **opened)

    def noticed(self, since: datetime, hourly_usd: float | None, *, now: datetime) -> Run:
        """Take over the start (`since`) and the price that the provider lists for the machine.

        Its start counts only where it fits this computer's clock: not before the request, and not in the future. A bill
        that is closed stays as it is.
        """
        if not self.may_bill or self.billed_from is None:
            return self
        seen: dict[str, Any] = {"last_seen_at": now}
        if hourly_usd is not None and self.price is not None:
            seen["quote"] = self.price.at_its_providers(hourly_usd, now)
        if self.billed_from - _CLOCKS_DIFFER <= since <= now + _CLOCKS_DIFFER and self.start_is != "provider":
            seen.update(billed_from=min(since.replace(microsecond=0), now), start_is="provider")
        return _with(self, **seen)

    def priced(self, quote: Quote) -> Run:
        """Record the price of a machine that was found, and that may yet be given back."""
        return _with(self, quote=quote)

    def seen(self, at: datetime) -> Run:
        """Record that the machine was up at this moment."""
        return _with(self, last_seen_at=at)

    def next_machine(self, now: datetime) -> Run:
        """Close the bill of a machine that was given back or did not come in time, and open the bill of the next."""
        ended_at = self.last_seen_at or now
        earlier = self.closed_intervals(ended_at) if self.was_seen else self.earlier
        return _with(self.without_machine(earlier), billed_from=now, start_is="request")

    def not_rented(self, why: str, now: datetime) -> Run:
        """Record that there is no machine, as the backend has shown; what was there until now is billed.

        Where no machine was ever seen, the bill is taken back.
        """
        run = self
        if not run.phase.is_final:  # else another command has ended it, and says why
            run = _with(run, phase=Phase.FAILED, exit_code=int(ExitCode.NO_MACHINE), message=why, finished_at=now)
        if run.released_at is not None:
            return run
        if run.was_seen or self.phase.is_final:
            return run.gone(Ending(run.last_seen_at or now), is_proven=True)
        return _with(run, billed_from=None, start_is=None)

    # --- its life: on the machine ---

    def rented(self, quote: Quote, now: datetime) -> Run:
        """Record that the machine is up, at the price of `quote`."""
        return _with(self, quote=quote, last_seen_at=now)

    def begun(self, run_uri: str) -> Run:
        """Record that the worker is started, with the run's folder at `run_uri`."""
        return _with(self, run_uri=run_uri, phase=Phase.PREPARING)

    def preparing(self) -> Run:
        """Record that an interrupted launch goes on, with its worker started already."""
        return _with(self, phase=Phase.PREPARING)

    def left_to_itself(self) -> Run:
        """Record that the launch has done its part: the job goes on without this computer."""
        return _with(self, handed_over=True)

    def watched(self) -> Run:
        """Record that from here on only this command watches the machine."""
        return _with(self, handed_over=False)

    def looked_at(self, seen: Sighting) -> Run:
        """Record the findings of a look at the run; a final phase is never reopened."""
        phase = derive_phase(self.phase, seen.job, seen.progress, seen.result)
        proof = _latest((self.last_seen_at, _last_proof(seen)))
        found: dict[str, Any] = {"phase": phase, "refreshed_at": seen.at, "last_seen_at": proof}
        if seen.progress is not None:
            found.update(_of_progress(seen.progress))
        if seen.result is not None:
            found.update(_of_result(seen.result))
        elif phase.is_final and not self.phase.is_final:
            message = f"it left no result: {seen.why[:_LONGEST_REASON] or 'it was killed'}"
            found.update(finished_at=seen.at, exit_code=int(ExitCode.FAILED), message=message)
        run = _with(self, **found)
        if seen.job in (JobState.ACTIVE, JobState.IDLE):
            run = run.started_again()
        if seen.job is JobState.STOPPED and self.may_bill:
            return run.machine_stopped(ending_of_gone(run, seen.at, told=seen.ended_at))
        if seen.job is JobState.ABSENT and self.may_bill:
            return run.gone(ending_of_gone(run, seen.at, told=seen.ended_at))
        return run

    def machine_stopped(self, ending: Ending) -> Run:
        """Record that the provider stopped the machine: from then on only its disk bills. The first sight counts."""
        return self if self.stopped_at is not None else _with(self, stopped_at=ending.at)

    def started_again(self) -> Run:
        """Record that the machine is up, whether or not its provider had stopped it."""
        return self if self.stopped_at is None else _with(self, stopped_at=None)

    def fetched(self, folder: str, *, is_complete: bool) -> Run:
        """Record that results are in `folder`: all of them, or those that there were at the time."""
        return _with(self, folder=folder, home_complete=is_complete or self.home_complete)

    def came_home(self, *, began_at: datetime, now: datetime) -> Run:
        """Record when the final results came home; the first fetch that brings them counts."""
        return self if self.home_at is not None else _with(self, fetch_began_at=began_at, home_at=now)

    def took(self, measured: Measured) -> Run:
        """Record the measured times of the run's parts, for later estimates."""
        return _with(self, measured=measured)

    # --- its life: the end, and what comes after ---

    def stopped(self, message: str = "") -> Run:
        """Record that the run was stopped: by `down`, or because its launch was interrupted."""
        return _with(self, phase=Phase.STOPPED, message=message or self.message)

    def failed(self, message: str, *, by_budget: bool = False) -> Run:
        """Record that the launch broke, or was ended by its budget."""
        phase = Phase.OVER_BUDGET if by_budget else Phase.FAILED
        return _with(self, phase=phase, exit_code=int(phase.exit_code), message=message)

    def gone(self, ending: Ending, *, is_proven: bool | None = None) -> Run:
        """Record the end of the machine and of its bill; how the job ended is left open.

        `is_proven`: whether the provider has shown that end; None: as the record says already.
        """
        proven = self.end_is_proven if is_proven is None else is_proven
        return _with(self, released_at=ending.at, released_by=ending.by, end_is_proven=proven)

    def released(self, ending: Ending, *, disk_until: datetime, else_phase: Phase, now: datetime) -> Run:
        """Record the proven end of the machine.

        `disk_until`: when the disk of a stopped machine was given back. `else_phase`: the phase of a job that did not
        say how it ended.
        """
        return _with(
            self.gone(ending, is_proven=True),
            disk_until=disk_until if self.stopped_at is not None else None,
            phase=self.phase if self.phase.is_final else else_phase,
            finished_at=self.finished_at or now,
            eta_s=None,
        )

    def found_alive(self) -> Run:
        """Open the bill again of a machine that was taken for gone: it is up, and has billed all the time."""
        return _with(self, released_at=None, released_by=None, disk_until=None, end_is_proven=False)

    def closed(self, account: BilledElsewhere | None, measured: Measured | None, others: Iterable[Alternative]) -> Run:
        """Record the last parts of the receipt: SkyPilot's count, the measured times, the cost on other offers."""
        return _with(self, sky_account=account, measured=measured, alternatives=tuple(others))

    def going_on(self) -> Run:
        """Record that an interrupted launch is continued."""
        return _with(self, phase=Phase.LAUNCHING, message="", exit_code=None, finished_at=None)

    def without_machine(self, earlier: tuple[Interval, ...]) -> Run:
        """Forget the machine, whose closed bill is among the `earlier` ones, to make room for the next machine."""
        return _with(
            self,
            earlier=earlier,
            run_uri=None,
            billed_from=None,
            start_is=None,
            released_at=None,
            released_by=None,
            stopped_at=None,
            disk_until=None,
            last_seen_at=None,
            quote=None,
        )

    def reopened(self, assignment: Assignment) -> Run:
        """Record that the run is resumed: its phases begin anew, and its results at home are not the last ones."""
        return _with(
            self,
            **_assigned(assignment),
            phase=Phase.LAUNCHING,
            exit_code=None,
            message="",
            finished_at=None,
            home_complete=False,
            projected_s=None,
            projected_usd=None,
            corrected_rests_on=None,
            handed_over=False,
            fetch_began_at=None,
            home_at=None,
            sky_account=None,
            end_is_proven=False,
            past_phases=(*self.past_phases, *self.phases),
            phases=(),
        )

    def recovering(self) -> Run:
        """Record that the run goes on by itself, once more."""
        return _with(self, recovered=self.recovered + 1)

    def not_recovered(self) -> Run:
        """Record that there was no machine on which the run could go on: it is as it was before that try."""
        return _with(self, recovered=max(self.recovered - 1, 0), phase=Phase.PREEMPTED)

    def still_home(self, *, is_complete: bool) -> Run:
        """Record that the results at home are still the newest, since no machine was rented to go on with."""
        return _with(self, home_complete=is_complete)


def new_run(run_id: str, name: str, assignment: Assignment, *, job_path: str, folder: str, now: datetime) -> Run:  # noqa: PLR0913 - a record begins with all of these
    """Return the record of a run for which nothing was done yet."""
    return Run(run_id=run_id, name=name, job_path=job_path, folder=folder, created_at=now, **_assigned(assignment))


def new_run_id(name: str) -> str:
    """Return an id such as `plants-1124-x7k2m`: readable, sorted by day, and unique enough to be a machine's name."""
    day = time.strftime("%m%d", time.gmtime())
    return f"{name[:24].rstrip('-')}-{day}-{''.join(_ID_LETTERS[byte % 31] for byte in os.urandom(5))}"


def derive_phase(known: Phase, job: JobState, progress: Progress | None, result: Result | None) -> Phase:
    """Return the run's phase from what the ledger, the backend and the worker's files say. Final phases stay.

    An unanswered question changes nothing: a healthy job is never declared lost because a check failed.
    """
    if known.is_final:
        return known
    if result is not None:
        return result.phase
    match job:
        case JobState.UNKNOWN:
            return known
        case JobState.ABSENT | JobState.STOPPED:
            return Phase.LOST
        case JobState.IDLE:
            return known if known is Phase.LAUNCHING else Phase.FAILED
        case JobState.ACTIVE:
            if progress is None:
                return known
            return Phase.RUNNING if progress.phase == WorkerPhase.RUN else Phase.PREPARING


def ending_of_gone(run: Run, found_gone_at: datetime, *, told: datetime | None = None) -> Ending:
    """Return the end of the bill of a machine that was found gone.

    `told`: its provider's record of the end, where there is one. Else the bill is closed at the last moment at which
    anything proves that the machine was up, and `by` is the moment when it was found gone. The end of its budget is not
    used: that is a promise of the watchdog on the machine, and no proof that the promise was kept.
    """
    since = run.billed_from or found_gone_at
    if told is not None:
        return Ending(min(max(told, since), found_gone_at))
    seen = min(max(run.last_seen_at or since, since), found_gone_at)
    return Ending(seen, found_gone_at if found_gone_at > seen else None)


def _with(run: Run, **fields: Any) -> Run:
    """Return the next record. Raises ValueError for a field that a run does not have, or a value that does not fit."""
    return Run.model_validate({**run.model_dump(), **fields})


def _assigned(assignment: Assignment) -> dict[str, Any]:
    return {
        "job": assignment.job,
        "backend": assignment.backend,
        "infra": assignment.infra,
        "gpu": assignment.gpu,
        "store_uri": assignment.store_uri,
        "endpoint": assignment.endpoint,
    }


def _of_progress(progress: Progress) -> dict[str, Any]:
    known: dict[str, Any] = {"epoch": progress.epoch, "epochs": progress.epochs, "eta_s": progress.eta_s}
    if progress.projected_s is not None:
        known.update(
            projected_s=progress.projected_s,
            projected_usd=progress.projected_usd,
            corrected_rests_on=progress.rests_on,
        )
    return known


def _of_result(result: Result) -> dict[str, Any]:
    return {
        "started_at": result.started_at,
        "finished_at": result.finished_at,
        "exit_code": result.exit_code,
        "message": result.message,
        "phases": result.phases,
        "eta_s": 0.0,
    }


def _last_proof(seen: Sighting) -> datetime | None:
    """Return the last moment at which the machine was up, as the sighting proves; None where it proves none."""
    if seen.job in (JobState.ACTIVE, JobState.IDLE):
        return seen.at
    moments = [seen.progress.heartbeat_at] if seen.progress is not None else []
    moments += [seen.result.finished_at] if seen.result is not None else []
    known = [moment for moment in moments if moment <= seen.at]
    return max(known).replace(microsecond=0) if known else None


def _latest(moments: Iterable[datetime | None]) -> datetime | None:
    return max((moment for moment in moments if moment is not None), default=None)
