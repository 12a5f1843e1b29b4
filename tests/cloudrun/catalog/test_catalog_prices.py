"""Prices that SkyPilot's catalogs on this computer hold, without SkyPilot."""

from __future__ import annotations

from pathlib import Path

from cloudrun.catalog.prices import catalog_prices

HEAD = "InstanceType,AcceleratorName,AcceleratorCount,vCPUs,MemoryGiB,Price,Region,GpuInfo,SpotPrice\n"


def test_the_cheapest_machine_with_one_card_gives_the_price(tmp_path: Path) -> None:
    for cloud, rows in {
        "aws": "a,A100,8,96,1152,32.77,us,,\nb,A100,1,12,85,4.10,us,,\nc,,,8,32,0.40,us,,\n",
        "runpod": "d,A100,1,8,60,1.19,US,,0.9\ne,RTX4090,1,8,60,,US,,\n",
    }.items():
        folder = tmp_path / "catalogs" / "v8" / cloud
        folder.mkdir(parents=True)
        (folder / "vms.csv").write_text(HEAD + rows)
    prices = catalog_prices(tmp_path)
    assert {name: (price.hourly_usd, price.cloud) for name, price in prices.items()} == {"A100": (1.19, "runpod")}


def test_without_catalogs_no_price_is_made_up(tmp_path: Path) -> None:
    assert catalog_prices(tmp_path) == {}
