"""What can happen, one function each: it acts, and returns the moment from which the promise counts."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from benchmarks.reliability.laptop import IDLE_MINUTES, Laptop, interrupted_at_prompt, wait_for

# A machine on which nothing happens: its idle minutes, SkyPilot's look each minute, the time to end it.
IDLE_S = IDLE_MINUTES * 60 + 180
# An attached command ends it; the job gets 30 s to save.
NOW_S = 60
# Results that are in the bucket, and nobody there to end the machine: the switch's patience, then the same.
STORED_S = 120

Act = Callable[[Laptop], float]


@dataclass(frozen=True)
class Scenario:
    """`phases`: what the ledger may call the run afterwards. `saves`: whether there is a result to lose."""

    name: str
    act: Act
    promised_s: float
    phases: tuple[str, ...]
    saves: bool = False
    has_bucket: bool = True
    quiet_s: float = 10.0  # longer where SkyPilot may still be renting


def clean_finish(laptop: Laptop) -> float:
    typing = laptop.start("launch", "--yes", laptop.job())
    typing.until("cloudrun: finished")
    finished = time.monotonic()
    assert typing.wait() == 0, typing.said
    return finished


def clean_finish_detached(laptop: Laptop) -> float:
    done = laptop.typed("launch", "--yes", "-d", laptop.job())
    assert done.returncode == 0, done.stderr
    wait_for(lambda: "cloudrun: finished" in laptop.typed("logs", "--no-follow").stdout, limit_s=120)
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
    """`kill -9` of the launching command `after_s` it said `text`."""

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
    def act(laptop: Laptop) -> float:
        typing = laptop.start("launch", "--yes", laptop.job(steps=200))
        typing.until("step 3")
        laptop.kill_on_machine(name)
        at = time.monotonic()
        assert typing.wait() == 1, typing.said
        return at

    return act


def worker_and_laptop_killed(laptop: Laptop) -> float:
    typing = laptop.start("launch", "--yes", laptop.job(steps=200))
    typing.until("step 3")
    typing.kill()
    laptop.kill_on_machine("switch")
    return time.monotonic()


def budget_with_the_laptop_off(laptop: Laptop) -> float:
    """The promise counts from the end of the budget: what is measured is the overshoot."""
    hours = 0.03
    done = laptop.typed("launch", "--yes", "-d", "--max-hours", str(hours), laptop.job(steps=2000))
    assert done.returncode == 0, done.stderr
    from datetime import UTC, datetime

    billed_from = datetime.fromisoformat(laptop.run()["billed_from"])
    billed_s = (datetime.now(UTC) - billed_from).total_seconds()
    return time.monotonic() + hours * 3600 - billed_s


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
    """Nobody is there, and the store is away when the job ends: the machine waits for it, and then goes."""
    assert laptop.bucket is not None
    done = laptop.typed("launch", "--yes", "-d", laptop.job(steps=10))
    assert done.returncode == 0, done.stderr
    laptop.bucket.stop()
    time.sleep(25)
    assert laptop.machines(), "it went before its results were safe"
    laptop.bucket.start()
    return time.monotonic()


def interrupted(text: str, *, slowly: bool = False) -> Act:
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
    """Nothing is changed by it: the run goes on to its end, and the machine with it."""
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
    typing = laptop.start("launch", "--yes", laptop.job(steps=200))
    typing.until("step 3")
    laptop.cluster.scancel(f"cloudrun-{laptop.run()['run_id']}")
    at = time.monotonic()
    assert typing.wait() == 1, typing.said
    return at


_LEFT = ("launching", "preparing", "failed", "stopped", "lost")

SCENARIOS = (
    Scenario("clean finish", clean_finish, NOW_S, ("succeeded",), saves=True),
    Scenario("clean finish, no bucket", clean_finish, NOW_S, ("succeeded",), saves=True, has_bucket=False),
    Scenario("clean finish, laptop off", clean_finish_detached, STORED_S, ("succeeded",), saves=True),
    Scenario("the trainer crashes", trainer_crash, NOW_S, ("failed",), saves=True),
    Scenario("the sync fails", failed_sync, NOW_S, ("failed",)),
    Scenario("the set-up fails", failed_setup, NOW_S, ("failed",)),
    Scenario("the set-up fails, laptop off", failed_setup_detached, STORED_S, ("failed",)),
    Scenario("kill -9 of launch 1: asked SkyPilot", killed("renting"), IDLE_S, _LEFT, quiet_s=90),
    Scenario("kill -9 of launch 2: 2 s later", killed("renting", after_s=2), IDLE_S, _LEFT, quiet_s=90),
    Scenario("kill -9 of launch 3: 6 s later", killed("renting", after_s=6), IDLE_S, _LEFT, quiet_s=90),
    Scenario("kill -9 of launch 4: instance is up", killed("Instance is up"), IDLE_S, _LEFT),
    Scenario("kill -9 of launch 5: machine is up", killed("machine is up"), IDLE_S, _LEFT),
    Scenario("kill -9 of launch 6: code is sent", killed("machine is up", after_s=0.7), IDLE_S, _LEFT),
    Scenario("kill -9 of launch 7: worker is started", killed("machine is up", after_s=2.5), IDLE_S, _LEFT),
    Scenario("kill -9 of launch 8: in mid-sync", killed("set-up: machine", after_s=4, slowly=True), IDLE_S, _LEFT),
    Scenario("kill -9 of launch 9: data are there", killed("data sent"), IDLE_S, (*_LEFT, "succeeded")),
    Scenario("kill -9 of launch 10: it trains", killed_while_training, STORED_S, ("succeeded",), saves=True),
    Scenario("kill -9 of the shift", worker_killed("shift"), 90, ("failed",), saves=True),
    Scenario("kill -9 of the switch", worker_killed("switch"), 90, ("failed", "stopped"), saves=True),
    Scenario("kill -9 of the switch, laptop off", worker_and_laptop_killed, IDLE_S, _LEFT),
    Scenario("the budget is used, laptop off", budget_with_the_laptop_off, 60, ("over_budget",), saves=True),
    Scenario("the trainer stalls", stalled_trainer, 90, ("failed",), saves=True),
    Scenario("no network to the store", no_network_to_the_store, 120, ("succeeded",), saves=True),
    Scenario("the store comes back, laptop off", store_comes_back, 240, ("succeeded",), saves=True),
    Scenario("the machine is taken away", taken_away, 60, ("preempted", "lost"), saves=True),
    Scenario("Ctrl-C at launch's question", interrupted_at_launch_prompt, 0, ()),
    Scenario("Ctrl-C at down's question", interrupted_at_down_prompt, STORED_S, ("succeeded",), saves=True),
    Scenario("Ctrl-C at resume's question", interrupted_at_resume_prompt, 5, ("succeeded",), saves=True),
    Scenario("Ctrl-C while it rents", interrupted("renting"), NOW_S, ("stopped",), quiet_s=90),
    Scenario("Ctrl-C in mid-sync", interrupted("set-up: machine", slowly=True), NOW_S, ("stopped",)),
)
