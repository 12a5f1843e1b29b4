"""Before a dollar is spent: SkyPilot with an enabled RunPod and a small catalog of ours, a provider that answers.

Nothing is rented: each launch here is refused, or a dry run.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.checkout import CHECKOUT
from tests.support.live_provider import Provider, runpod, serving
from tests.support.processes import program
from tests.support.shell import Shell, images
from tests.support.terminal import OpenTerminal, terminals

JOB = """\
name: plants
gpu: RTX4090:1
infra: runpod
data: {source: leaves}
train: {epochs: 300}
"""
# `launch` up to its question; the next step would start SkyPilot's server, which would outlive the test.
ASK = ("-m", "tests.support.programs.ask_before_renting")
_HEAD = "InstanceType,AcceleratorName,AcceleratorCount,vCPUs,MemoryGiB,GpuInfo,Region,SpotPrice,Price,AvailabilityZone"
_INFO = "\"{'Gpus': [{'Name': 'x', 'Count': 1, 'MemoryInfo': {'SizeInMiB': 24}}], 'TotalGpuMemoryInMiB': 24}\""


@pytest.fixture(scope="module")
def sky_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The home folder of somebody whose SkyPilot has RunPod enabled."""
    home = tmp_path_factory.mktemp("home")
    catalogs = home / ".sky" / "catalogs" / "v8"
    for name in ("runpod", "common"):
        (catalogs / name).mkdir(parents=True)
    rows = [
        f"1x_RTX4090_SECURE,RTX4090,1.0,16.0,62.0,{_INFO},US,0.35,0.69,US-TX-3",
        f"2x_RTX4090_SECURE,RTX4090,2.0,32.0,124.0,{_INFO},US,0.70,1.38,US-TX-3",
        f"1x_A100-80GB_SECURE,A100-80GB,1.0,8.0,117.0,{_INFO},US,,1.64,US-TX-3",
    ]
    (catalogs / "runpod" / "vms.csv").write_text("\n".join([_HEAD, *rows, ""]))
    known = ["AcceleratorName,Clouds", *(f"{name},\"['RunPod']\"" for name in ("RTX4090", "A100-80GB")), ""]
    (catalogs / "common" / "accelerators.csv").write_text("\n".join(known))
    env = {"HOME": str(home), "SKYPILOT_DISABLE_USAGE_COLLECTION": "1", "PATH": "/usr/bin:/bin"}
    subprocess.run(program("enable_clouds", "runpod"), cwd=CHECKOUT, env=env, check=True, capture_output=True)
    return home


@pytest.fixture
def provider() -> Iterator[Provider]:
    with serving() as known:
        known.body = runpod(("RTX 4090", 0.70, 0.3))
        yield known


@pytest.fixture
def laptop(shell: Shell, sky_home: Path, provider: Provider) -> Shell:
    shell.env.update(
        HOME=str(sky_home),
        SKYPILOT_DISABLE_USAGE_COLLECTION="1",
        CLOUDRUN_RUNPOD_URL=provider.url,
        PYTHONPATH=str(CHECKOUT),
        PYTHONWARNINGS="ignore",
    )
    images(shell.folder / "leaves", count=30)
    return shell


@pytest.fixture
def at_terminal(laptop: Shell) -> Iterator[OpenTerminal]:
    with terminals(laptop) as open_terminal:
        yield open_terminal


def test_the_plan_shows_what_will_be_rented_for_how_long_and_how_much(laptop: Shell) -> None:
    done = laptop("launch", laptop.job(JOB), "--dry-run")
    assert done.code == 0, done.err
    shown = dict(line.split(None, 1) for line in done.out.splitlines() if not line.startswith(" "))
    assert shown["machine"] == "1x_RTX4090_SECURE, RTX4090:1, runpod/US"
    assert shown["price"].startswith("$0.6900 an hour and $0.0137 for its disk (SkyPilot's catalog, ")
    assert shown["live"] == "$0.7000 an hour, asked of runpod just now: 1% above the quoted $0.6900"
    assert shown["estimate"].startswith("$0.0")
    assert shown["at"].startswith("most  $2.81 in 4.0 h")
    assert "from the listed speed of RTX4090; typical times to start and set up a machine of runpod;" in done.out
    assert not list(laptop.home.glob("ledger/*.json"))


def test_the_plan_as_json_has_the_estimate_and_the_live_price(laptop: Shell) -> None:
    plain = laptop("launch", laptop.job(JOB), "--dry-run", "--json").json
    assert plain["quote"]["hourly_usd"] == 0.69
    assert plain["live_hourly_usd"] == 0.7
    assert 0 < plain["estimate"]["low_usd"] < plain["estimate"]["high_usd"]
    assert plain["fits_budget"] is True


def test_a_price_that_is_more_than_a_tenth_off_is_called_out(
    laptop: Shell, provider: Provider, at_terminal: OpenTerminal
) -> None:
    laptop.job(JOB)
    provider.body = runpod(("RTX 4090", 0.34, 0.2))
    terminal = at_terminal(*ASK)
    terminal.read_until("Rent it? [Y/n] ")
    called_out = "warning: the price is not the provider's: $0.3400 an hour, asked of runpod just now: 51% below"
    assert called_out in terminal.said
    terminal.type("n\n")
    terminal.read_until("declined")


@pytest.mark.parametrize(("typed", "outcome"), [("\n", "declined"), ("y\n", "agreed")])
def test_the_default_answer_is_no_where_the_estimate_exceeds_the_cap(
    laptop: Shell, at_terminal: OpenTerminal, typed: str, outcome: str
) -> None:
    laptop.job(JOB)
    terminal = at_terminal(*ASK, "budget.max_cost=0.05")
    terminal.read_until("Rent it? [y/N] ")
    assert "warning: the estimate goes over the budget of $0.05 and 4 h" in terminal.said
    terminal.type(typed)
    terminal.read_until(outcome)


def test_a_launch_whose_start_would_break_the_budget_is_refused_even_with_yes(laptop: Shell) -> None:
    done = laptop("launch", "--yes", laptop.job(JOB), "--max-cost", "0.01")  # 100 GB of disk are billed, too
    assert done.code == 2
    assert "error: renting, set-up and data take 1 min 40 s at the least, $0.0195 at $0.7037 an hour" in done.err
    assert "hint: raise it (`--max-cost`)" in done.err
    assert not list(laptop.home.glob("ledger/*.json"))


def test_the_offers_of_the_enabled_clouds_are_ranked_by_the_cost_to_finish(laptop: Shell) -> None:
    done = laptop("gpus", laptop.job(JOB.replace("infra: runpod\n", "")))
    assert done.code == 0, done.err
    head, first, second, *_ = done.out.splitlines()
    assert head.split("  ")[0] == "GPU"
    assert first.startswith("RTX4090:1    24 GB   recommended      runpod/US  $0.69  $0.35  $")
    assert second.startswith("A100-80GB:1  80 GB   large ensembles  runpod/US  $1.64  -      $")
    assert "prices of runpod: SkyPilot's catalog, " in done.out
