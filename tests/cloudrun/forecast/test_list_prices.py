"""A price for whoever has no account: public list prices in the wheel, marked as such and with their age."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from cloudrun.catalog.endings import WITHOUT_AUTODOWN
from cloudrun.catalog.gpus import MEMORY_GB
from cloudrun.catalog.list_prices import list_prices
from cloudrun.forecast.list_offers import list_quote
from cloudrun.job.job_file import load_job
from cloudrun.job.plan import Plan
from cloudrun.runs.prepare import plan_for
from tests.support.shell import Shell

# SkyPilot itself is asked first whether a cloud is enabled: seconds of imports.
slow = pytest.mark.slow


def plan(tmp_path: Path, more: str) -> Plan:
    job = tmp_path / "job.yaml"
    job.write_text(f"name: p\ndata: {{source: 'demo://leaves'}}\n{more}\n")
    return plan_for(load_job(job))


def test_the_table_is_small_and_its_rows_are_machines_that_can_be_asked_for() -> None:
    known = list_prices()
    clouds = {row.infra for row in known.rows}
    assert {"aws", "gcp", "lambda", "runpod"} == clouds
    assert all(sum(row.infra == cloud for row in known.rows) <= 80 for cloud in clouds)
    assert not clouds & set(WITHOUT_AUTODOWN)
    assert {row.gpu for row in known.rows} <= MEMORY_GB.keys()
    assert all(row.hourly_usd > 0 and row.machine and row.region for row in known.rows)
    assert known.label.startswith("list price, not yours: ")


def test_the_price_of_a_card_that_a_cloud_lists_apart_holds_its_machine() -> None:
    (one,) = (row for row in list_prices().rows if (row.infra, row.gpu, row.count) == ("gcp", "A100", 1))
    assert one.machine == "a2-highgpu-1g"
    assert one.hourly_usd == pytest.approx(2.9339 + 0.7394)


def test_the_quote_is_of_the_cheapest_machine_with_the_first_gpu_that_is_listed(tmp_path: Path) -> None:
    quote = list_quote(plan(tmp_path, "gpu: [P4:1, A100:1, RTX4090:1]"))
    assert quote is not None
    assert (quote.infra, quote.gpu) == ("runpod", "A100-80GB:1")
    assert [one.gpu for one in quote.fallbacks] == ["RTX4090:1"]
    assert quote.source.startswith("list price, not yours")


@pytest.mark.parametrize(
    ("more", "machine"),
    [
        ("gpu: A10G:1\ninfra: aws", "g5.xlarge"),
        ("gpu: A10G:1\nresources: {cpus: 16+}", "g5.4xlarge"),
        ("gpu: A10G:1\nresources: {memory: 100+}", "g5.8xlarge"),
        ("gpu: A100:1\ninfra: lambda", "gpu_1x_a100_sxm4"),
    ],
)
def test_what_else_the_job_asks_for_rules_machines_out(tmp_path: Path, more: str, machine: str) -> None:
    quote = list_quote(plan(tmp_path, more))
    assert quote is not None
    assert quote.machine.removesuffix("_sxm4") == machine.removesuffix("_sxm4")


@pytest.mark.parametrize("more", ["gpu: A100:1\ninfra: vast", "gpu: A100:16", "gpu: RTX4090:1\ninfra: aws"])
def test_what_is_not_listed_has_no_price(tmp_path: Path, more: str) -> None:
    assert list_quote(plan(tmp_path, more)) is None


def test_gpus_without_skypilots_catalogs_shows_list_prices_with_their_age(shell: Shell) -> None:
    done = shell("gpus")
    assert re.search(r"^RTX4090 +24 GB +recommended +\$0\.\d\d +runpod$", done.out, re.MULTILINE)
    assert re.search(r"^prices: list price, not yours: .+; \d+ months old at most$", done.err, re.MULTILINE)
    (row,) = (row for row in shell("gpus", "--json").json if row["gpu"] == "RTX4090")
    assert row["price_source"] == list_prices().label
    assert row["price_as_of"] == "2025-01-01T00:00:00Z"


def test_catalogs_of_skypilot_are_believed_before_the_list(shell: Shell) -> None:
    folder = shell.folder / ".sky" / "catalogs" / "v8" / "runpod"
    folder.mkdir(parents=True)
    (folder / "vms.csv").write_text("InstanceType,AcceleratorName,AcceleratorCount,Price\n1x,A100,1,9.99\n")
    prices = {row["gpu"]: row["hourly_usd"] for row in shell("gpus", "--json").json}
    assert (prices["A100"], prices["RTX4090"]) == (9.99, None)


@slow
def test_a_dry_run_without_an_account_shows_a_plan_at_list_prices(shell: Shell) -> None:
    shell.env["CLOUDRUN_RUNPOD_URL"] = "http://127.0.0.1:9"
    job = shell.job("name: p\ndata: {source: 'demo://leaves'}\ngpu: A100:1\n")
    done = shell("launch", "--dry-run", job)
    assert done.code == 0, done.err
    assert re.search(r"^price +\$\d\.\d{4} an hour.* \(list price, not yours: .+, \d+ months old\)$", done.out, re.M)
    assert "warning: no cloud is enabled" in done.err
    assert "these are public list prices, not yours, and nothing can be rented yet" in done.err
    refused = shell("launch", "--yes", job)
    assert refused.code == 3


@slow
def test_a_job_is_ranked_on_list_prices_without_an_account(shell: Shell) -> None:
    done = shell("gpus", shell.job("name: p\ndata: {source: 'demo://leaves'}\ngpu: A100:1\n"), "--json")
    assert done.code == 0, done.err
    assert {row["price_source"] for row in done.json} == {list_prices().label}
    assert "these are public list prices, not yours" in done.err
