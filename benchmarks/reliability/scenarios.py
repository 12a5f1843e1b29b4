"""Carry out what can happen to a run: each function acts, and returns the moment from which the promise counts.

Moments are those of `time.monotonic`.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from benchmarks.reliability.grounds import Promise
from benchmarks.reliability.laptop import Laptop, interrupted_at_prompt, wait_for

Act = Callable[[Laptop], float]


@dataclass(frozen=True)
class Scenario:
    """Something that happens to a run, and what has to follow.

    `phases`: what the ledger may call the run afterwards. `saves`: whether there is a result to lose. `with_ray`: True
    only where the job is a Ray task, False only where it is not, None everywhere.
    """

    name: str
    act: Act
    promise: Promise
    phases: tuple[str, ...]
    saves: bool = False
    has_bucket: bool = True  # with a bucket, the data go through it, not over the link
    quiet_s: float = 10.0  # longer where SkyPilot may still be renting
    with_ray: bool | None = None


def clean_finish(laptop: Laptop) -> float:
    typing = laptop.start("launch", "--yes", laptop.job())
    typing.until("cloudrun: finished")
    finished = time.monotonic()
    assert typing.wait() == 0, typing.said
    return finished


def clean_finish_detached(laptop: Laptop) -> float:
    done = laptop.typed("launch", "--yes", "-d", laptop.job())
    assert done.returncode == 0, done.stderr
    wait_for(lambda: "cloudrun: finished" in laptop.typed("logs", "--no-follow").stdout, limit_s=300)
    return time.monotonic()


def trainer_crash(laptop: Laptop) -> float:
    run = "run: |\n  mkdir -p $CLOUDRUN_OUTPUT/checkpoints; echo x > $CLOUDRUN_OUTPUT/checkpoints/last.pt; exit 3\n"
    typing = laptop.start("launch", "--yes", laptop.job(run=run))
    typing.until("exit code 3")
    crashed = time.monotonic()
    assert typing.wait() == 1, typing.said
    return crashed


def failed_sync(laptop: Laptop) -> float:
    laptop.broken_link()
    typing = laptop.start("launch", "--yes", laptop.job())
    typing.until("the launch failed")
    failed = time.monotonic()
    assert typing.wait() == 1, typing.said
    return failed


def failed_setup(laptop: Laptop) -> float:
    typing = laptop.start("launch", "--yes", laptop.job(setup="exit 9"))
    typing.until("setup_failed")
    failed = time.monotonic()
    assert typing.wait() == 1, typing.said
    return failed


def failed_setup_detached(laptop: Laptop) -> float:
    laptop.typed("launch", "--yes", "-d", laptop.job(setup="sleep 5; exit 9"))
    time.sleep(5)
    return time.monotonic()


def killed(text: str, *, after_s: float = 0.0, slowly: bool = False) -> Act:
    """Return an act: `kill -9` of the launching command, `after_s` seconds after it said `text`."""

    def act(laptop: Laptop) -> float:
        if slowly:
            laptop.slow_link(kilobytes_s=500, megabytes=20)
        typing = laptop.start("launch", "--yes", laptop.job(steps=20))
        typing.until(text)
        time.sleep(after_s)
        typing.kill()
        return time.monotonic()

    return act


def killed_while_training(laptop: Laptop) -> float:
    typing = laptop.start("launch", "--yes", laptop.job(steps=20))
    typing.until("step 2")
    typing.kill()
    return time.monotonic() + 10  # when the job is done


def worker_killed(name: str) -> Act:
    """Return an act: `kill -9` of a process of the worker, while a launch follows the run."""

    def act(laptop: Laptop) -> float:
        typing = laptop.start("launch", "--yes", laptop.job(steps=200))
        typing.until("step 3")
        laptop.kill_on_machine(name)
        at = time.monotonic()
        assert typing.wait() == 1, typing.said
        return at

    return act


def worker_and_laptop_killed(*names: str) -> Act:
    """Return an act: `kill -9` of the launching command, then of processes of the worker."""

    def act(laptop: Laptop) -> float:
        typing = laptop.start("launch", "--yes", laptop.job(steps=200))
        typing.until("step 3")
        typing.kill()
        laptop.kill_on_machine(*names)
        return time.monotonic()

    return act


def budget_with_the_laptop_off(*killed_names: str, memory_is_full: bool = False) -> Act:
    """Return an act after which the budget is used. The promise counts from the budget's end: it is the overshoot."""

    def act(laptop: Laptop) -> float:
        hours = laptop.ground.budget_s / 3600
        done = laptop.typed("launch", "--yes", "-d", "--max-hours", str(hours), laptop.job(steps=2000))
        assert done.returncode == 0, done.stderr
        if killed_names or memory_is_full:
            wait_for(lambda: "step 3" in laptop.typed("logs", "--no-follow").stdout, limit_s=laptop.ground.budget_s)
        if killed_names:
            laptop.kill_on_machine(*killed_names)
        if memory_is_full:
            laptop.ground.fill_memory(laptop.run()["run_id"])
        billed_from = datetime.fromisoformat(laptop.run()["billed_from"])
        billed_s = (datetime.now(UTC) - billed_from).total_seconds()
        return time.monotonic() + hours * 3600 - billed_s

    return act


def stalled_trainer(laptop: Laptop) -> float:
    run = (
        "run: |\n  mkdir -p $CLOUDRUN_OUTPUT/checkpoints; echo x > $CLOUDRUN_OUTPUT/checkpoints/last.pt\n"
        "  echo '{}' > $CLOUDRUN_OUTPUT/progress.json; echo stalls; sleep 3000\n"
    )
    words = ["--set", "budget.stall_minutes=0.25"]
    typing = laptop.start("launch", "--yes", *words, laptop.job(run=run))
    typing.until("stalls")
    stalled = time.monotonic() + 15
    assert typing.wait() == 1, typing.said
    return stalled


def no_network_to_the_store(laptop: Laptop) -> float:
    assert laptop.bucket is not None
    typing = laptop.start("launch", "--yes", laptop.job(steps=10))
    typing.until("step 1")
    laptop.bucket.stop()
    typing.until("cloudrun: finished")
    finished = time.monotonic()
    assert typing.wait() == 0, typing.said
    laptop.bucket.start()
    return finished


def store_comes_back(laptop: Laptop) -> float:
    """Stop the store before the job ends, with the laptop off, and start it later: the machine waits for the store."""
    assert laptop.bucket is not None
    done = laptop.typed("launch", "--yes", "-d", laptop.job(steps=30))
    assert done.returncode == 0, done.stderr
    laptop.until_log_has("step 1")  # the data came out of the bucket, too
    laptop.bucket.stop()
    time.sleep(25)
    assert laptop.machines(), "it went before its results were safe"
    laptop.bucket.start()
    return time.monotonic()


def interrupted(text: str, *, slowly: bool = False) -> Act:
    """Return an act: Ctrl-C in the launching command, two seconds after it said `text`."""

    def act(laptop: Laptop) -> float:
        if slowly:
            laptop.slow_link(kilobytes_s=500, megabytes=20)
        typing = laptop.start("launch", "--yes", laptop.job(steps=20))
        typing.until(text)
        time.sleep(2)
        typing.interrupt()
        at = time.monotonic()
        assert typing.wait() == 130, typing.said
        return at

    return act


def interrupted_at_launch_prompt(laptop: Laptop) -> float:
    code, shown = interrupted_at_prompt(laptop, ["launch", laptop.job()], r"Rent it\? \[")
    assert code == 130, shown
    assert not list((laptop.home / "ledger").glob("*.json"))
    return time.monotonic()


def interrupted_at_down_prompt(laptop: Laptop) -> float:
    """Press Ctrl-C at the question of `down`, which changes nothing: the run goes on to its end."""
    laptop.typed("launch", "--yes", "-d", laptop.job(steps=40))
    code, shown = interrupted_at_prompt(laptop, ["down", "--force"], r"behind\? \[")
    assert code == 130, shown
    assert laptop.machines()
    return time.monotonic() + 25  # when the job is done


def interrupted_at_resume_prompt(laptop: Laptop) -> float:
    typing = laptop.start("launch", "--yes", laptop.job())
    assert typing.wait() == 0, typing.said
    code, shown = interrupted_at_prompt(laptop, ["resume", laptop.run()["run_id"]], r"Go on\? \[")
    assert code == 130, shown
    return time.monotonic()


def taken_away(laptop: Laptop) -> float:
    """Preempt the machine without a warning: only what is in the bucket by then is left."""
    run = (
        "run: |\n  mkdir -p $CLOUDRUN_OUTPUT/checkpoints; echo x > $CLOUDRUN_OUTPUT/checkpoints/last.pt\n"
        "  while :; do echo trains; sleep 1; done\n"
    )
    typing = laptop.start("launch", "--yes", laptop.job(run=run))
    typing.until("trains")
    wait_for(lambda: laptop.where_results_are() == "store", limit_s=60)
    laptop.ground.take_away(laptop.run()["run_id"])
    at = time.monotonic()
    assert typing.wait() == 1, typing.said
    return at


_LEFT = ("launching", "preparing", "failed", "stopped", "lost")
_OR_DONE = (*_LEFT, "succeeded")  # the machine gets its data from the store by itself


def _killed_launch(number: int, what: str, act: Act, phases: tuple[str, ...] = _LEFT, **words: Any) -> Scenario:
    """Return the scenario of one of the moments at which the launching command is killed."""
    return Scenario(f"kill -9 of launch {number}: {what}", act, words.pop("promise", Promise.TIMER), phases, **words)


def _budget(what: str, *killed_names: str, with_ray: bool | None = True, memory_is_full: bool = False) -> Scenario:
    act = budget_with_the_laptop_off(*killed_names, memory_is_full=memory_is_full)
    return Scenario(
        f"the budget is used, laptop off{what}", act, Promise.BUDGET, ("over_budget",), saves=True, with_ray=with_ray
    )


_RENTS: dict[str, Any] = {"promise": Promise.TIMER_AFTER_RENTING, "quiet_s": 90.0}
_DONE, _FAILED, _STOPPED = ("succeeded",), ("failed",), ("stopped",)
_BOTH_HALVES = ("watchdog", "SkyPilot job")

SCENARIOS = (
    Scenario("clean finish", clean_finish, Promise.COMMAND, _DONE, saves=True),
    Scenario("clean finish, no bucket", clean_finish, Promise.COMMAND, _DONE, saves=True, has_bucket=False),
    Scenario("clean finish, laptop off", clean_finish_detached, Promise.WATCHDOG, _DONE, saves=True),
    Scenario("the trainer crashes", trainer_crash, Promise.COMMAND, _FAILED, saves=True),
    Scenario("the sync fails", failed_sync, Promise.COMMAND, _FAILED, has_bucket=False),
    Scenario("the set-up fails", failed_setup, Promise.COMMAND, _FAILED),
    Scenario("the set-up fails, laptop off", failed_setup_detached, Promise.WATCHDOG, _FAILED),
    _killed_launch(1, "asked SkyPilot", killed("renting"), **_RENTS),
    _killed_launch(2, "2 s later", killed("renting", after_s=2), **_RENTS),
    _killed_launch(3, "6 s later", killed("renting", after_s=6), **_RENTS),
    _killed_launch(4, "instance is up", killed("Instance is up"), promise=Promise.TIMER_AFTER_RENTING),
    _killed_launch(5, "machine is up", killed("machine is up")),
    _killed_launch(6, "code is sent", killed("machine is up", after_s=0.7), _OR_DONE),
    _killed_launch(7, "worker is started", killed("machine is up", after_s=2.5), _OR_DONE),
    _killed_launch(8, "in mid-sync", killed("set-up: machine", after_s=4, slowly=True), has_bucket=False),
    _killed_launch(9, "data are there", killed("from the store in"), _OR_DONE),
    _killed_launch(10, "it trains", killed_while_training, _DONE, promise=Promise.WATCHDOG, saves=True),
    Scenario("kill -9 of the attempt", worker_killed("attempt"), Promise.CRASH, _FAILED, saves=True),
    Scenario("kill -9 of the watchdog", worker_killed("watchdog"), Promise.CRASH, ("failed", "stopped"), saves=True),
    Scenario(
        "kill -9 of the watchdog, laptop off",
        worker_and_laptop_killed("watchdog"),
        Promise.TIMER,
        _LEFT,
        with_ray=False,
    ),
    Scenario(
        "kill -9 of the watchdog and of the SkyPilot job, laptop off",
        worker_and_laptop_killed(*_BOTH_HALVES),
        Promise.TIMER,
        _LEFT,
        with_ray=True,
    ),
    Scenario(
        "kill -9 of the watchdog, laptop off: a second one ends it",
        worker_and_laptop_killed("watchdog"),
        Promise.WATCHDOG,
        _FAILED,
        saves=True,
        with_ray=True,
    ),
    _budget("", with_ray=None),
    _budget(", kill -9 of the SkyPilot job", "SkyPilot job"),
    _budget(", kill -9 of Ray", "Ray"),
    _budget(", 97 % of memory in use", memory_is_full=True),
    Scenario("the trainer stalls", stalled_trainer, Promise.CRASH, _FAILED, saves=True),
    Scenario("no network to the store", no_network_to_the_store, Promise.STORE_AWAY, _DONE, saves=True),
    Scenario("the store comes back, laptop off", store_comes_back, Promise.STORE, _DONE, saves=True),
    Scenario("the machine is taken away", taken_away, Promise.COMMAND, ("preempted", "lost"), saves=True),
    Scenario("Ctrl-C at launch's question", interrupted_at_launch_prompt, Promise.NOTHING, ()),
    Scenario("Ctrl-C at down's question", interrupted_at_down_prompt, Promise.WATCHDOG, _DONE, saves=True),
    Scenario("Ctrl-C at resume's question", interrupted_at_resume_prompt, Promise.ENDED, _DONE, saves=True),
    Scenario("Ctrl-C while it rents", interrupted("renting"), Promise.COMMAND, _STOPPED, quiet_s=90),
    Scenario(
        "Ctrl-C in mid-sync",
        interrupted("set-up: machine", slowly=True),
        Promise.COMMAND,
        _STOPPED,
        has_bucket=False,
    ),
)
