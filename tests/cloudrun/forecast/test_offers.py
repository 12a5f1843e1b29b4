"""`cloudrun gpus JOB.yaml`: what could be rented, by what the whole job costs on it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import pytest

from cloudrun.backends import Offer
from cloudrun.backends.skypilot.offers import is_a_gpu, offer_of
from cloudrun.cli.offers import offer_row, offers_table
from cloudrun.forecast.offers import RankedOffer, rank
from cloudrun.forecast.workload import kind_of, workload_of
from cloudrun.job.plan import Plan, make_plan
from cloudrun.job.spec import JobSpec
from cloudrun.state.records import Measured
from tests.support.shell import Shell

AS_OF = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
NAN = float("nan")
LARGE = {"image_size": 1024, "backbones": "vit_large_patch16_224", "pretrained": False}


class Info(NamedTuple):
    """As SkyPilot's `InstanceTypeInfo`."""

    cloud: str = "RunPod"
    instance_type: str | None = "1x_RTX4090_SECURE"
    accelerator_name: str = "RTX4090"
    accelerator_count: float = 1.0
    cpu_count: float | None = 16.0
    device_memory: float | None = 0.0234
    memory: float | None = 62.0
    price: float = 0.69
    spot_price: float = 0.35
    region: str = "US"


def test_a_row_of_a_catalog_becomes_an_offer() -> None:
    assert offer_of(Info(), "a catalog", AS_OF) == Offer(
        infra="runpod", region="US", machine="1x_RTX4090_SECURE", gpu="RTX4090:1", memory_gb=24, cpus=16.0,
        host_memory_gb=62.0, hourly_usd=0.69, spot_usd=0.35, source="a catalog", as_of=AS_OF,
    )  # fmt: skip


def test_several_machines_cost_as_many_times_as_much() -> None:
    offer = offer_of(Info(), "a catalog", AS_OF, nodes=3)
    one = offer_of(Info(), "a catalog", AS_OF)
    assert (offer.nodes, offer.gpu) == (3, one.gpu)
    assert offer.hourly_usd == 3 * one.hourly_usd
    assert offer.spot_usd == 3 * (one.spot_usd or 0)


@pytest.mark.parametrize(
    ("changes", "field", "value"),
    [
        ({"spot_price": NAN}, "spot_usd", None),
        ({"spot_price": 0.69}, "spot_usd", None),
        ({"accelerator_name": "XYZ", "device_memory": 22.35}, "memory_gb", 24),
        ({"accelerator_name": "XYZ", "device_memory": 0.0}, "memory_gb", None),
        ({"cpu_count": NAN}, "cpus", None),
        ({"instance_type": None}, "machine", "RTX4090 machine"),
    ],
)
def test_what_a_catalog_does_not_know_is_left_open(changes: dict[str, Any], field: str, value: object) -> None:
    assert getattr(offer_of(Info()._replace(**changes), "s", AS_OF), field) == value


def test_tpus_and_rows_without_a_price_are_no_offers() -> None:
    assert is_a_gpu(Info())
    assert not is_a_gpu(Info(accelerator_name="tpu-v5e-8"))
    assert not is_a_gpu(Info(price=NAN))


def an_offer(gpu: str = "A100", count: int = 1, hourly_usd: float = 1.0, **changes: Any) -> Offer:
    info = Info(
        accelerator_name=gpu, accelerator_count=count, price=hourly_usd, spot_price=NAN, instance_type=f"m-{gpu}"
    )
    return offer_of(info._replace(**changes), "SkyPilot's catalog", AS_OF)


def a_plan(**job: Any) -> Plan:
    fields = {"name": "plants", "data": {"source": "/data"}, "gpu": "A100:1"}
    spec = JobSpec.model_validate({**fields, "train": {"backbones": "resnet50", "epochs": 300}, **job})
    return make_plan(spec, "plants-1", python="python", base={"setup": ""})


def ranked(*offers: Offer, history: tuple[Measured, ...] = (), **job: Any) -> list[RankedOffer]:
    plan = a_plan(**job)
    workload = workload_of(plan.spec, {"train": 5000, "val": 500}, 200_000_000)
    return rank(offers, plan, workload, history)


def names(found: list[RankedOffer]) -> list[str | None]:
    return [one.offer.gpu for one in found]


def test_offers_are_ranked_by_the_cost_to_finish_and_not_by_the_price_an_hour() -> None:
    found = ranked(an_offer("T4", hourly_usd=0.9), an_offer("A100", hourly_usd=1.5), an_offer("L4", hourly_usd=2.0))
    assert names(found) == ["A100:1", "T4:1", "L4:1"]


def test_a_second_gpu_that_the_trainer_does_not_use_is_not_paid_for() -> None:
    assert names(ranked(an_offer(count=8, hourly_usd=8), an_offer(count=1), an_offer(count=2, hourly_usd=2))) == [
        "A100:1"
    ]


def test_what_was_measured_moves_an_offer_up() -> None:
    slow, fast = an_offer("T4", hourly_usd=0.6), an_offer("A100", hourly_usd=1.5)
    seen = Measured(
        kind=kind_of(a_plan().spec), machine="T4:1", infra="aws", images_per_s=2000, evaluated_per_s=9000, start_s=9
    )
    found = ranked(slow, fast, history=(seen,))
    assert names(found) == ["T4:1", "A100:1"]
    assert offer_row(found[0])["rests_on"].startswith("your last run of this kind on T4:1")


@pytest.mark.parametrize(
    ("job", "why"),
    [
        ({"resources": {"cpus": "32+"}}, "16 CPUs, and the job asks for 32"),
        ({"resources": {"memory": "64+"}}, "62 GB of memory, and the job asks for 64"),
        ({"spot": True}, "no spot machines"),
        ({"infra": "aws"}, "the job's infra is aws"),
        ({"train": LARGE}, "8 images at once take about"),
    ],
)
def test_an_offer_that_would_not_do_says_why_and_comes_last(job: dict[str, Any], why: str) -> None:
    (only,) = ranked(an_offer(), **job)
    assert not only.fits
    assert only.why.startswith(why)
    better = an_offer("H200", hourly_usd=90, cpu_count=64, memory=512, spot_price=80, cloud="aws")
    assert names(ranked(an_offer(), better, **job)) == ["H200:1", "A100:1"]


def test_a_number_without_a_plus_is_met_by_that_many_alone() -> None:
    (few,) = ranked(an_offer(), resources={"cpus": "8"})
    assert few.why == "16 CPUs, and the job asks for exactly 8 (`8+` means at least)"
    (all_of_them,) = ranked(an_offer(), resources={"cpus": "16"})
    assert all_of_them.fits


@pytest.mark.parametrize(("infra", "fits"), [("runpod", True), ("runpod/us", True), ("runpod/CA", False)])
def test_an_offer_in_another_region_than_the_jobs_would_not_do(infra: str, fits: bool) -> None:
    (only,) = ranked(an_offer(), infra=infra)
    assert only.fits is fits


def test_a_job_on_spot_machines_pays_their_price() -> None:
    (only,) = ranked(an_offer(hourly_usd=2.0, spot_price=0.5), spot=True)
    assert only.hourly_usd == 0.5


def test_the_table_says_what_its_figures_rest_on_and_how_old_the_prices_are() -> None:
    text = offers_table(ranked(an_offer("A100"), an_offer("RTX4090", hourly_usd=0.7)), AS_OF + timedelta(hours=7))
    assert "the listed speed of A100" in text
    assert "recommended" in text
    assert "prices of runpod: SkyPilot's catalog, 7 h 00 min old" in text


def test_the_json_of_an_offer_has_price_tier_estimate_and_age() -> None:
    row = offer_row(ranked(an_offer())[0])
    assert (row["gpu"], row["tier"], row["hourly_usd"], row["fits"]) == ("A100:1", "recommended", 1.0, True)
    assert row["price_as_of"] == "2026-11-24T12:00:00Z"
    assert row["estimate"]["low_usd"] < row["estimate"]["high_usd"]


def test_a_job_on_this_computer_has_one_offer(shell: Shell) -> None:
    done = shell("gpus", shell.job("name: d\ninfra: local\ndata: {source: 'demo://leaves'}\n"), "--json")
    (row,) = done.json
    assert (row["infra"], row["gpu"], row["hourly_usd"]) == ("local", None, 0.0)
    assert row["estimate"]["low_s"] > 0
