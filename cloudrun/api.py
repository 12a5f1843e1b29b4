"""The Python API: `from cloudrun import launch, Run`. It does for a program or a notebook what the command line does.

Nothing is printed and nobody is asked: a call is the agreement, up to the budget of the job file. News and the job's
log go to the functions that the caller passes. Errors are those of `cloudrun.errors`, each with a `hint`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from cloudrun.billing.cost import Cost, cost_of
from cloudrun.billing.receipt import Receipt, receipt
from cloudrun.errors import StoreError
from cloudrun.files.untrusted import LARGEST_RESULT_BYTES
from cloudrun.job.job_file import load_job, reload_job
from cloudrun.protocol.metrics import MetricsRow, parse_metrics
from cloudrun.protocol.outputs import METRICS_KEY
from cloudrun.runs.console import Console
from cloudrun.runs.context import Context
from cloudrun.runs.down import down
from cloudrun.runs.fetch import fetch
from cloudrun.runs.forecast import Forecast
from cloudrun.runs.launch import launch as carry_out
from cloudrun.runs.logs import logs
from cloudrun.runs.prepare import check_store, on_this_computer
from cloudrun.runs.prepared import Prepared, examine, prepare, prepare_to_resume
from cloudrun.runs.refresh import refresh
from cloudrun.runs.results import metrics_at_home
from cloudrun.runs.resume import resume as go_on
from cloudrun.runs.source import source_of
from cloudrun.runs.tend import keep_going
from cloudrun.runs.weights_check import check_hub
from cloudrun.state.home import home_folder
from cloudrun.state.ledger import Ledger
from cloudrun.state.records import Estimate, Phase, now_utc
from cloudrun.state.run import Run as Record

Listen = Callable[[str], None]
"""Takes one line of text."""


def _unheard(_: str) -> None:
    """Drop a line: nobody listens."""


def launch(  # noqa: PLR0913 - each is a key of the job file
    job_file: str | Path,
    *,
    gpu: str | Sequence[str] | None = None,
    infra: str | None = None,
    spot: bool | None = None,
    max_cost: float | None = None,
    max_hours: float | None = None,
    name: str | None = None,
    settings: Mapping[str, Any] | None = None,
    wait: bool = True,
    on_news: Listen = _unheard,
    on_line: Listen = _unheard,
) -> Run:
    """Rent a machine, train, bring the results home, and end the bill. Returns the run.

    `settings`: keys of the job file with their values (`{"train.epochs": 3}`); like the named options, they win over
    the file. With `wait=False` the call returns once the job goes on by itself; `Run.wait` then waits for its end.
    `on_news` gets lines about what happens, `on_line` the lines of the job's log.

    Raises JobFileError for a job that cannot be run as it is, NoMachine where no machine can be had; after both nothing
    is billed. KeyboardInterrupt while a machine is being rented ends the machine; after that the job goes on.
    """
    ledger = Ledger(home_folder())
    options = _options(gpu=gpu, infra=infra, spot=spot, max_cost=max_cost, max_hours=max_hours, name=name)
    job = on_this_computer(load_job(Path(job_file), options={**options, **(settings or {})}))
    for warning in job.warnings:
        on_news(warning)
    check_hub(job)
    prepared = prepare(examine(job, ledger, on_news, closely=False), ledger)
    _agree(prepared, on_news)
    console = Console(on_news, on_line)
    run = keep_going(carry_out(prepared, ledger, console, detach=not wait), ledger, console, detach=not wait)
    return Run(run.run_id)


def estimate(job_file: str | Path, *, settings: Mapping[str, Any] | None = None, **options: Any) -> Forecast:
    """Plan a job and estimate its hours and dollars, without renting. `options` as for `launch`."""
    ledger = Ledger(home_folder())
    job = on_this_computer(load_job(Path(job_file), options={**_options(**options), **(settings or {})}))
    return prepare(examine(job, ledger, _unheard, closely=False), ledger).forecast


class Run:
    """A run of this computer's ledger, by its id or the start of its id; without an id, the newest run."""

    def __init__(self, run_id: str | None = None) -> None:
        """Find the run in the ledger. Raises NoSuchRun."""
        self._ledger = Ledger(home_folder())
        self._id = self._ledger.find(run_id).run_id

    @staticmethod
    def all() -> list[Run]:
        """Return every run, oldest first."""
        return [Run(record.run_id) for record in Ledger(home_folder()).all()]

    def __repr__(self) -> str:
        return f"<cloudrun.Run {self._id}: {self.record.phase.value}>"

    @property
    def run_id(self) -> str:
        """The run's whole id."""
        return self._id

    @property
    def record(self) -> Record:
        """The ledger's record of the run, as the run was seen last; `refresh` looks again."""
        return self._ledger.get(self._id)

    @property
    def phase(self) -> Phase:
        """The run's phase, as it was seen last."""
        return self.record.phase

    @property
    def estimate(self) -> Estimate | None:
        """The estimate that was made before the launch; None where none could be made."""
        return self.record.estimate

    @property
    def folder(self) -> Path | None:
        """The folder of the results that were fetched; None where there is no such folder."""
        folder = self.record.folder
        return None if folder is None or not Path(folder).is_dir() else Path(folder)

    def refresh(self) -> Run:
        """Look at the machine and the job now, and record what was found. Returns this run."""
        refresh(self.record, self._context())
        return self

    def logs(self, *, follow: bool = True, tail: int | None = None, since: datetime | None = None) -> Iterator[str]:
        """Yield the lines of the run's log, with `follow` until the job ends. Raises RunNotFinished without a log.

        `tail`: begin with the last so many lines; `since`: begin with the lines of that moment.
        """
        run = refresh(self.record, self._context())
        return logs(run, self._context(), follow=follow, tail=tail, since=since)

    def wait(self, *, on_line: Listen = _unheard) -> Phase:
        """Wait until the job has ended, and return its final phase. Machine and results are left as they are."""
        for line in self.logs():
            on_line(line)
        return self.refresh().phase

    def fetch(self, to: str | Path | None = None, *, best_only: bool = False, on_news: Listen = _unheard) -> Path:
        """Bring the run's results home and return the folder; `best_only`: the best checkpoint alone, of each fold.

        Then the machine of a run that has ended is given back, where the job file says `down`. Raises RunNotFinished
        where there is nothing yet, StoreError where a file does not arrive whole.
        """
        run = refresh(self.record, self._context())
        folder = None if to is None else Path(to)
        return fetch(run, self._context(on_news), to=folder, best_only=best_only).folder

    def down(self, *, force: bool = False, on_news: Listen = _unheard) -> None:
        """Stop the job, bring home the results that are not home yet, and end the bill; return once its end is proven.

        With `force` results that are not home are left behind; without it, ResultsNotHome is raised before anything is
        lost. Raises StillBilling where the end cannot be proven.
        """
        down(self.record, self._context(on_news), force=force)

    def resume(
        self,
        *,
        settings: Mapping[str, Any] | None = None,
        wait: bool = True,
        on_news: Listen = _unheard,
        on_line: Listen = _unheard,
    ) -> Run:
        """Go on from the last complete checkpoint, on the run's machine while that is up, else on another one.

        The arguments are those of `launch`. Raises StillRunning where the run has not ended or its machine has to be
        ended first, RunNotFinished where there is no checkpoint to go on from.
        """
        run = refresh(self.record, self._context())
        job = on_this_computer(reload_job(run.job, Path(run.job_path), overrides=(), options=dict(settings or {})))
        prepared = prepare_to_resume(run, examine(job, self._ledger, on_news, closely=False), self._ledger)
        _agree(prepared, on_news)
        go_on(prepared, self._ledger, Console(on_news, on_line), detach=not wait)
        return self

    def metrics(self) -> list[MetricsRow]:
        """Return the rows of `metrics.jsonl`: as they are now while the job runs, else as they were fetched."""
        run = refresh(self.record, self._context())
        store = None if run.home_complete else source_of(run)
        if store is not None:
            try:
                content = store.read(METRICS_KEY, limit=LARGEST_RESULT_BYTES)
            except StoreError:
                content = None  # the rows that were fetched are older, but here
            if content is not None:
                return parse_metrics(content.decode("utf-8", "replace"))
        return metrics_at_home(run)

    def cost(self) -> Cost:
        """Return what the run has cost so far; `is_final` once its machine is proven gone."""
        return cost_of(self.record, now_utc())

    def receipt(self) -> Receipt:
        """Return what `cloudrun cost --json` shows: the bill by phase and epoch, beside the estimate."""
        run = self.record
        return receipt(run, now_utc(), metrics_at_home(run))

    def _context(self, on_news: Listen = _unheard) -> Context:
        return Context.of(self.record.backend, self._ledger, Console(on_news))


def _agree(prepared: Prepared, on_news: Listen) -> None:
    """Report the warnings that are shown at a terminal before its question; nobody is asked here.

    Raises StartOverBudget, and StoreError for a store that fails.
    """
    prepared.forecast.refuse_hopeless()
    for warning in prepared.forecast.warnings():
        on_news(warning)
    check_store(prepared.job)


def _options(  # noqa: PLR0913 - each is a key of the job file
    *,
    gpu: str | Sequence[str] | None = None,
    infra: str | None = None,
    spot: bool | None = None,
    max_cost: float | None = None,
    max_hours: float | None = None,
    name: str | None = None,
) -> dict[str, Any]:
    named: dict[str, Any] = {
        "gpu": [gpu] if isinstance(gpu, str) else None if gpu is None else list(gpu),
        "infra": infra,
        "spot": spot,
        "budget.max_cost": max_cost,
        "budget.max_hours": max_hours,
        "name": name,
    }
    return {key: value for key, value in named.items() if value is not None}
