"""Find the files of a trained run at home, and run the trainer on them, on this computer."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from cloudrun.errors import CloudrunError, ExitCode, NoSuchRun, RunNotFinished
from cloudrun.protocol.outputs import CHECKPOINTS, STACKING, SUMMARY
from cloudrun.runs.environments import trainer_command, trainer_python
from cloudrun.runs.results import default_folder
from cloudrun.state.ledger import Ledger
from cloudrun.state.run import Run

NEWEST = "last"
"""The word for the newest run, where a command needs a word before others."""

_SIGNS_OF_A_RUN = (CHECKPOINTS, "fold-0", STACKING, SUMMARY)


@dataclass(frozen=True, slots=True)
class TrainedRun:
    """A run whose results are at home. `run` is None for a folder that the ledger does not know."""

    folder: Path
    run: Run | None

    @property
    def name(self) -> str:
        return self.folder.name if self.run is None else self.run.run_id

    @property
    def data_source(self) -> str | None:
        """The folder or address of the images that the run was trained on; None where nobody knows."""
        job = {} if self.run is None else self.run.job
        data = job.get("data")
        return str(data["source"]) if isinstance(data, dict) and data.get("source") else None


class TrainerFailed(CloudrunError):
    """The trainer ended with an error, which it has printed itself."""

    def __init__(self, exit_code: int) -> None:
        super().__init__(f"the trainer ended with exit code {exit_code}", hint="the lines above say why")
        self.exit_code = exit_code


def trained_run(named: str, ledger: Ledger) -> TrainedRun:
    """Return the run by its id, its start, `last`, or its folder. Raises RunNotFinished where it is not at home."""
    place = Path(named)
    if place.is_dir() and any((place / sign).exists() for sign in _SIGNS_OF_A_RUN):
        return TrainedRun(place.absolute(), None)
    if "/" in named:
        raise NoSuchRun(
            f"{named} is not the folder of a fetched run: it has no checkpoints", hint="name a run, or runs/<run id>"
        )
    run = ledger.find(None if named == NEWEST else named)
    folder = default_folder(run)
    if not any((folder / sign).exists() for sign in _SIGNS_OF_A_RUN):
        raise RunNotFinished(
            f"the checkpoints of `{run.run_id}` are not at home in {folder}",
            hint=f"`cloudrun fetch {run.run_id}` brings them, if there is one yet",
        )
    return TrainedRun(folder, run)


def run_trainer(
    words: Sequence[str], home: Path, say: Callable[[str], None], *, extras: Sequence[tuple[str, str]] = ()
) -> str:
    """Run `python -m trainer` with `words`, its messages on stderr, and return what it wrote to stdout.

    In an environment of its own where this Python lacks its packages. Raises TrainerFailed.
    """
    return _run(trainer_python(home, say, extras=extras), words)


def run_here(words: Sequence[str]) -> str:
    """Run a command of the trainer that needs no torch, with this Python. Raises TrainerFailed."""
    return _run(Path(sys.executable), words)


def _run(python: Path, words: Sequence[str]) -> str:
    with trainer_command(python) as (command, env):
        done = subprocess.run(
            [*command, *words], env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, check=False
        )
    if done.returncode:
        code = done.returncode
        raise TrainerFailed(code if code in (ExitCode.FAILED, ExitCode.USAGE) else ExitCode.FAILED)
    return done.stdout
