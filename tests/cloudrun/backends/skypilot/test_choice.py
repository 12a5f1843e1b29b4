"""What can be rented, by SkyPilot's own optimizer over frozen catalogs: see tests/catalogs/README.md."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.checkout import CHECKOUT
from tests.support.shell import Shell, images
from tests.support.sky_accounts import SkyAccounts

# SkyPilot's own optimizer and server take seconds a test.
pytestmark = pytest.mark.slow

PLANTS = str(CHECKOUT / "jobs" / "plants.yaml")
CLOUDS = ["runpod", "vast", "lambda", "gcp", "aws", "nebius"]


@pytest.fixture(scope="module")
def accounts(tmp_path_factory: pytest.TempPathFactory) -> SkyAccounts:
    accounts = SkyAccounts(tmp_path_factory.mktemp("accounts") / "home")
    accounts.enable("runpod")
    return accounts


def quotes(accounts: SkyAccounts, *wanted: dict[str, Any]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = accounts.python("quote_jobs", json.dumps(wanted))
    return found


def shell_of(accounts: SkyAccounts, shell: Shell) -> Shell:
    """A person with these accounts types."""
    shell.env = accounts.env
    return shell


def test_the_user_reads_what_an_a100_may_be_before_agreeing(accounts: SkyAccounts, shell: Shell) -> None:
    job = shell.job("name: p\ndata: {source: 'demo://leaves'}\ngpu: [A100:1, RTX4090:1]\ninfra: runpod\n")
    done = shell_of(accounts, shell)("launch", "--dry-run", job)
    assert "gpu      A100:1 (A100:1, A100-80GB:1, A100-80GB-SXM:1: the cheapest) or RTX4090:1" in done.out
    assert "machine  1x_A100-80GB_SECURE, A100-80GB:1, runpod/" in done.out


def test_offers_leave_out_clouds_whose_machines_cannot_end_themselves(accounts: SkyAccounts, shell: Shell) -> None:
    accounts.enable("primeintellect", "runpod")
    job = shell.job("name: p\ndata: {source: 'demo://leaves'}\ngpu: A100:1\n")
    done = shell_of(accounts, shell)("gpus", job, "--json")
    assert {row["infra"] for row in done.json} == {"runpod"}
    assert "warning: primeintellect is left out: a machine there cannot end itself" in done.err


def test_a_catalog_that_cannot_be_fetched_is_said_to_be_that(tmp_path: Path, shell: Shell) -> None:
    accounts = SkyAccounts(tmp_path / "offline")
    accounts.enable("runpod")
    (accounts.home / ".sky" / "catalogs" / "v8" / "runpod" / "vms.csv").unlink()
    job = shell.job("name: p\ndata: {source: 'demo://leaves'}\ngpu: A100:1\n")
    done = shell_of(accounts, shell)("launch", "--dry-run", job)
    assert done.code == 3
    assert "error: SkyPilot's catalog `runpod/vms.csv` cannot be fetched: " in done.err
    assert "failed" not in done.err.split("hint:")[0].replace("Failed", "")
    assert "hint: SkyPilot reads machines and prices from raw.githubusercontent.com" in done.err
    done = shell("gpus", job)
    assert "SkyPilot's catalog `runpod/vms.csv` cannot be fetched" in done.err


def test_the_main_job_finds_a_machine_on_each_cloud(accounts: SkyAccounts) -> None:
    found = quotes(accounts, *({"clouds": [cloud], "job": PLANTS} for cloud in CLOUDS))
    assert {one.get("infra"): one.get("gpu") for one in found} == {
        "runpod": "A100-80GB:1",
        "vast": "A100:1",
        "lambda": "A100:1",
        "gcp": "A100:1",
        "aws": "L40S:1",
        "nebius": "L40S:1",
    }


def test_what_init_writes_finds_a_machine_on_each_cloud(accounts: SkyAccounts, shell: Shell) -> None:
    images(shell.folder / "leaves")
    assert shell("init", "leaves", "--out", "leaves.yaml").code == 0
    job = str(shell.folder / "leaves.yaml")
    found = quotes(accounts, *({"clouds": [cloud], "job": job} for cloud in CLOUDS))
    assert [one.get("infra") for one in found] == CLOUDS


@pytest.fixture(scope="module")
def found(accounts: SkyAccounts, tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """Some requests for an A100 and others, in one start of SkyPilot."""
    job = tmp_path_factory.mktemp("job") / "job.yaml"
    job.write_text("name: p\ndata: {source: 'demo://leaves'}\ngpu: A100:1\n")
    one = {"job": str(job)}
    wanted = {
        "any": {**one, "clouds": ["runpod", "gcp"]},
        "exactly": {**one, "clouds": ["runpod", "gcp"], "options": {"gpu": ["A100-40GB:1"]}},
        "80 GB": {**one, "clouds": ["gcp", "lambda"], "options": {"gpu": ["A100-80GB:1"]}},
        "at home": {**one, "clouds": ["vast"]},
        "many CPUs": {**one, "clouds": ["runpod"], "options": {"gpu": ["RTX4090:1"], "resources.cpus": "16+"}},
        "no such count": {**one, "clouds": ["runpod"], "options": {"gpu": ["H200:3", "A100-80GB:3"]}},
        "no autodown": {**one, "clouds": ["primeintellect", "runpod"]},
        "no autodown alone": {**one, "clouds": ["primeintellect"]},
        "no autodown, named": {
            **one,
            "clouds": ["primeintellect"],
            "options": {"infra": "primeintellect"},
        },
    }
    return dict(zip(wanted, quotes(accounts, *wanted.values()), strict=True))


def test_an_a100_is_any_a100_and_the_cheapest_of_them(found: dict[str, dict[str, Any]]) -> None:
    assert (found["any"]["infra"], found["any"]["gpu"]) == ("runpod", "A100-80GB:1")


def test_one_kind_of_a100_can_be_asked_for(found: dict[str, dict[str, Any]]) -> None:
    assert (found["exactly"]["infra"], found["exactly"]["gpu"]) == ("gcp", "A100:1")
    assert found["80 GB"]["gpu"] == "A100-80GB:1"


def test_machines_in_peoples_homes_are_not_taken(found: dict[str, dict[str, Any]]) -> None:
    cheapest_at_home = 0.48
    assert found["at home"]["hourly_usd"] > cheapest_at_home


def test_skypilots_did_you_mean_is_the_hint(found: dict[str, dict[str, Any]]) -> None:
    assert found["no such count"]["error"].startswith("there is no H200:3 or A100-80GB:3")
    hint = found["no such count"]["hint"]
    assert hint.startswith("did you mean `--gpu ")
    assert {"--gpu H200-SXM:4", "--gpu A100-80GB:4"} <= set(hint.split("`"))  # of both choices


def test_what_is_asked_beside_the_gpu_is_named_where_nothing_has_it(found: dict[str, dict[str, Any]]) -> None:
    assert found["many CPUs"]["error"].startswith("there is no RTX4090:1 with `cpus: 16+`")


def test_a_cloud_whose_machines_cannot_end_themselves_is_only_taken_by_name(found: dict[str, dict[str, Any]]) -> None:
    assert found["no autodown"]["infra"] == "runpod"
    assert "error" in found["no autodown alone"]
    assert found["no autodown, named"]["infra"] == "primeintellect"
