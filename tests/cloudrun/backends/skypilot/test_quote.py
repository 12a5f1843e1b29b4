"""Prices that are no prices, and a list of GPUs at each one's own: SkyPilot's optimizer over small catalogs of ours."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.support.checkout import CHECKOUT
from tests.support.live_provider import serving
from tests.support.processes import program
from tests.support.shell import Shell

# SkyPilot's own optimizer and server take seconds a test.
pytestmark = pytest.mark.slow

JOB = "name: plants\ndata: {source: 'demo://leaves'}\n"
_INFO = "\"{'Gpus': [{'Name': 'x', 'Count': 1, 'MemoryInfo': {'SizeInMiB': 24576}}], 'TotalGpuMemoryInMiB': 24576}\""
_RUNPOD = [
    "InstanceType,AcceleratorName,AcceleratorCount,vCPUs,MemoryGiB,GpuInfo,Region,SpotPrice,Price,AvailabilityZone",
    f"1x_RTX4090_SECURE,RTX4090,1.0,16.0,62.0,{_INFO},US,0.35,0.69,US-TX-3",
    f"1x_A100-80GB_SECURE,A100-80GB,1.0,8.0,117.0,{_INFO},US,0.82,1.64,US-TX-3",
]
_VAST = [
    "InstanceType,AcceleratorName,AcceleratorCount,vCPUs,MemoryGiB,GpuInfo,Price,SpotPrice,Region,HostingType",
    f'1x-RTX_4090-32-65536,RTX4090,1,32,64.0,{_INFO},0.40,0.00,"Texas, US",1',
    f'1x-L40S-32-65536,L40S,1,32,64.0,{_INFO},0.00,0.00,"Texas, US",1',
]


def an_account(laptop: Shell, home: Path, *clouds: str) -> Shell:
    """A person whose SkyPilot has these clouds enabled."""
    catalogs = home / ".sky" / "catalogs" / "v8"
    for name, rows in (("runpod", _RUNPOD), ("vast", _VAST)):
        (catalogs / name).mkdir(parents=True)
        (catalogs / name / "vms.csv").write_text("\n".join([*rows, ""]))
    (catalogs / "common").mkdir()
    gpus = "\n".join(f"{gpu},\"['RunPod', 'Vast']\"" for gpu in ("RTX4090", "A100-80GB", "L40S"))
    (catalogs / "common" / "accelerators.csv").write_text(f"AcceleratorName,Clouds\n{gpus}\n")
    laptop.env.update(
        HOME=str(home),
        SKYPILOT_DISABLE_USAGE_COLLECTION="1",
        CLOUDRUN_RUNPOD_URL="http://127.0.0.1:9",
        CLOUDRUN_VAST_URL="http://127.0.0.1:9",
        PYTHONWARNINGS="ignore",
    )
    subprocess.run(
        program("enable_clouds", *clouds),
        cwd=CHECKOUT,
        env={**os.environ, **laptop.env},
        check=True,
        capture_output=True,
    )
    return laptop


def test_a_spot_machine_at_nothing_an_hour_is_not_rented(shell: Shell, tmp_path: Path) -> None:
    account = an_account(shell, tmp_path / "home", "vast")
    done = account("launch", "--dry-run", "--spot", "--gpu", "RTX4090:1", shell.job(JOB))
    assert done.code == 3
    assert "lists a spot machine of vast at $0.00 an hour, which is no price" in done.err
    on_demand = account("launch", "--dry-run", "--gpu", "RTX4090:1", shell.job(JOB), "--json").json
    assert on_demand["quote"]["hourly_usd"] == 0.4


def test_a_cloud_with_a_price_is_taken_before_one_at_nothing(shell: Shell, tmp_path: Path) -> None:
    account = an_account(shell, tmp_path / "home", "vast", "runpod")
    plain = account("launch", "--dry-run", "--spot", "--gpu", "RTX4090:1", shell.job(JOB), "--json").json
    assert (plain["quote"]["infra"], plain["quote"]["hourly_usd"]) == ("runpod", 0.35)


def test_nothing_an_hour_is_no_offer(shell: Shell, tmp_path: Path) -> None:
    account = an_account(shell, tmp_path / "home", "vast")
    offers = account("gpus", shell.job(JOB + "gpu: RTX4090:1\n"), "--json").json
    assert [(one["gpu"], one["hourly_usd"], one["spot_hourly_usd"]) for one in offers] == [("RTX4090:1", 0.4, None)]


def test_each_gpu_of_a_list_is_shown_at_its_own_price_before_anybody_agrees(shell: Shell, tmp_path: Path) -> None:
    account = an_account(shell, tmp_path / "home", "runpod")
    done = account("launch", "--dry-run", shell.job(JOB + "gpu: [RTX4090:1, L40S:1, A100-80GB:1]\n"))
    assert "machine  1x_RTX4090_SECURE, RTX4090:1, runpod/US" in done.out
    assert "or       A100-80GB:1 of runpod at $1.6537 an hour, where there is none" in done.out
    assert "L40S" not in done.out


def test_an_api_server_elsewhere_is_refused_before_anything_is_rented(shell: Shell, tmp_path: Path) -> None:
    account = an_account(shell, tmp_path / "home", "runpod")
    with serving() as elsewhere:
        account.env["SKYPILOT_API_SERVER_ENDPOINT"] = elsewhere.url
        done = account("launch", "--yes", "--gpu", "RTX4090:1", "--infra", "runpod", shell.job(JOB))
        assert elsewhere.asked == []
    assert done.code == 2
    assert f"error: SkyPilot's API server is on another machine ({elsewhere.url})" in done.err
    assert "nothing was rented" in done.err
