"""End runs for real, with the laptop off, in each way that is promised; on several machines at once, to save time."""

from __future__ import annotations

import os
import signal
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from tests.clouds.accounts import BUCKET, KEYS
from tests.clouds.box import Box, Rented
from tests.clouds.jobs import ENDLESS, QUICK, launch, on, wait_for
from tests.sky.jobs import read_until
from tests.support.shell import Shell, images

BUDGET_S = 300
# SkyPilot's daemon on the machine looks each minute; a provider takes some seconds to end a machine.
TICK_S = 75.0
# For two cores: with five launches at once, each took five minutes.
_AT_ONCE = 2
_SECRETS = "[AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY]"
_CRASH = QUICK[: QUICK.index("run: |")] + "run: exit 3\n"
_STALL = (
    QUICK
    + """\
  echo '{}' > $CLOUDRUN_OUTPUT/progress.json
  echo up
  sleep 3000
"""
)
_DONE = QUICK + "  echo up\n"


@dataclass(frozen=True)
class Ending:
    """A way in which a run ends, and the seconds within which its machine is promised to be gone.

    They count from when the log has `says` and the processes `kills` were killed; or `from_budget`: from its end.
    """

    name: str
    job: str
    promised_s: float
    words: tuple[str, ...] = ()
    from_budget: bool = False
    kills: str = ""
    kills_at_least: int = (
        1  # so many processes: the SkyPilot job comes up after the watchdog, and its job may be ahead of it
    )
    says: str = "up\n"
    is_cut_short: bool = False
    has_bucket: bool = False
    clouds: tuple[str, ...] = ("aws", "runpod")
    is_in_short: tuple[str, ...] = ()  # the clouds where `make test-clouds-short` does it, too


_BUDGET = ("--max-hours", str(BUDGET_S / 3600))
_RAY = "raylet|gcs_server|ray::"
_WATCHDOG = "cloudrun[.]worker .*RUN_ID( watch.*)?$"
_STALLS = ("--set", "budget.stall_minutes=0.25")
_AWS, _BOTH = ("aws",), ("aws", "runpod")
ENDINGS = [
    Ending("the budget is used", ENDLESS, TICK_S, _BUDGET, from_budget=True),
    Ending(
        "the budget is used, and Ray was killed",
        ENDLESS,
        TICK_S,
        _BUDGET,
        from_budget=True,
        kills=_RAY,
        is_in_short=_BOTH,
    ),
    Ending(
        "the watchdog and its holder are killed", ENDLESS, 60 + 180, kills=_WATCHDOG, kills_at_least=2, is_in_short=_AWS
    ),
    Ending("it crashed and left nothing but a log", _CRASH, 60 + TICK_S, says="exit code 3"),
    Ending("it is done, and nobody fetches", _DONE, TICK_S, _BUDGET, from_budget=True, clouds=_AWS),
    Ending("it is done, and all is in the bucket", _DONE, 120 + TICK_S, has_bucket=True, clouds=_AWS),
    Ending("set-up fails", "setup: exit 9\n" + QUICK, 120 + TICK_S, says="setup_failed", clouds=_AWS),
    Ending("no training step", _STALL, 15 + 120 + TICK_S, _STALLS, clouds=_AWS),
    Ending("the launch is killed half-way", ENDLESS, 60 + 180, is_cut_short=True, clouds=_AWS),
]


@dataclass(frozen=True)
class Ended:
    """A run that was ended. `late_s`: seconds from the promise's beginning to the bill's end; None: it bills on."""

    run_id: str
    shell: Shell
    machine: Rented
    late_s: float | None


def end_all(cloud: Box, folder: Path, endings: list[Ending]) -> dict[str, Ended | Exception]:
    """Carry out each ending on a laptop and a machine of its own; return name -> what happened, or the exception."""

    def one(place: int) -> Ended | Exception:
        try:
            return _carry_out(cloud, folder / str(place), endings[place])
        except Exception as err:  # noqa: BLE001 - the test of that ending raises it
            return err

    with ThreadPoolExecutor(_AT_ONCE) as pool:
        return dict(zip((ending.name for ending in endings), pool.map(one, range(len(endings))), strict=True))


def _carry_out(cloud: Box, folder: Path, ending: Ending) -> Ended:
    folder.mkdir(parents=True)
    shell = Shell(folder)
    shell.env.update(cloud.env)
    images(folder / "leaves")
    run_id = _begin(cloud, shell, ending)
    machine = cloud.machine_of(run_id)
    since = machine.began + timedelta(seconds=BUDGET_S) if ending.from_budget else datetime.now(UTC)
    until = (since - datetime.now(UTC)).total_seconds() + ending.promised_s + 60
    try:
        wait_for(lambda: not _now(cloud, machine).is_up, until, "the end of the machine")
    except AssertionError:
        return Ended(run_id, shell, machine, None)
    machine = _now(cloud, machine)
    assert machine.ended
    return Ended(run_id, shell, machine, (machine.ended - since).total_seconds())


def _begin(cloud: Box, shell: Shell, ending: Ending) -> str:
    """Launch, wait for what is to happen, and return the run's id."""
    job = on(cloud.cloud, ending.job)
    if ending.has_bucket:
        store = f"store: s3://{BUCKET}/{shell.folder.name}\nendpoint: {cloud.url}\nsecrets: {_SECRETS}\n"
        job = store + job
        shell.env.update(KEYS)
    if ending.is_cut_short:
        return _cut_short(shell, shell.job(job))
    code, run_id, said = launch(shell, "-d", *ending.words, shell.job(job))
    assert code == 0, said
    machine = cloud.machine_of(run_id)

    def has_said_it() -> bool:
        return ending.says in shell("logs", "--no-follow", run_id).out or not _now(cloud, machine).is_up

    wait_for(has_said_it, 180, f"the log says {ending.says!r}")
    if ending.kills:
        pattern = ending.kills.replace("RUN_ID", run_id)
        wait_for(
            lambda: int(cloud.on_machine(machine, "pgrep", "-c", "-f", pattern).stdout) >= ending.kills_at_least,
            60, "the processes to kill",
        )  # fmt: skip
        done = cloud.on_machine(machine, "pkill", "-KILL", "-f", pattern)
        assert done.returncode == 0, done
    return run_id


def _cut_short(shell: Shell, job: str) -> str:
    process = shell.start("launch", "--yes", job)
    read_until(process, "machine is up")
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    (row,) = shell("ps", "--json").json
    return str(row["run_id"])


def _now(cloud: Box, machine: Rented) -> Rented:
    return next(one for one in cloud.bill() if one.id == machine.id)
