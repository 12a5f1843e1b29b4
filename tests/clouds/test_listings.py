"""Ask what a provider lists, bills and ends, through SkyPilot's own client for it; no machine is rented."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.clouds import box
from tests.clouds.box import CHECKOUT, BoxUnavailable

pytestmark = pytest.mark.clouds


def looked(folder: Path, cloud: str) -> dict[str, Any]:
    """Return what cloudrun saw of a provider, in a network of its own."""
    try:
        box.refuse_what_is_missing()
    except BoxUnavailable as err:
        pytest.skip(f"no cloud in a box here: {err}")
    done = subprocess.run(
        ["unshare", "-m", "-n", sys.executable, "-m", "tests.clouds.rest_provider", str(folder), cloud],
        cwd=CHECKOUT, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    said: dict[str, Any] = json.loads(done.stdout)
    return said


def test_lambda_is_asked_for_machines_of_ours_and_ends_them(tmp_path: Path) -> None:
    said = looked(tmp_path, "lambda")
    name = "cloudrun-leaves-1127-abcde-12345678-head"
    assert said["seen"] == [[name, "leaves-1127-abcde", "0920582c7ff041399e34823a0be62549"]]
    assert said["left"] == []
    assert said["refused"] == "global/invalid-api-key: API key was invalid"


def test_runpods_price_is_asked_at_its_own_address(tmp_path: Path) -> None:
    assert looked(tmp_path, "runpod") == {"hourly_usd": 0.81, "why": "", "is_called_out": True}


@pytest.fixture(scope="module")
def vast(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return looked(tmp_path_factory.mktemp("vast"), "vast")


def test_vast_is_asked_for_machines_of_ours_and_ends_them(vast: dict[str, Any]) -> None:
    assert vast["seen"] == [
        ["cloudrun-leaves-1127-abcde-12345678-head", "leaves-1127-abcde", "8801", 0.46, None],
        ["cloudrun-older-1126-vwxyz-12345678-head", "older-1126-vwxyz", "8802", 0.3, "EXITED"],
        ["cloudrun-newer-1127-klmno-12345678-head", "newer-1127-klmno", "8803", 0.3, None],
    ]
    assert vast["up_since"] == [1795521480.0]
    assert vast["left"] == []
    assert vast["not ours"] == [8804, 8805]


def test_vasts_price_of_the_machine_that_is_up_is_read_back_and_held_against_the_agreed(vast: dict[str, Any]) -> None:
    assert vast["billed"] == [0.46, "what vast bills", True]


def test_vasts_market_is_asked_for_the_cheapest_machine_that_would_do(vast: dict[str, Any]) -> None:
    assert vast["live"] == [0.42, ""]


@pytest.mark.parametrize("fault", ["wrong key", "throttled", "away"])
def test_a_vast_that_gives_no_list_is_not_taken_for_an_account_without_machines(
    vast: dict[str, Any], fault: str
) -> None:
    """Vast's client turns each error into an empty answer, of which SkyPilot makes an empty list."""
    assert vast[fault] == (
        "Vast's client gave no list of machines, and does not say why: is the key in ~/.config/vastai/vast_api_key"
        " right, does console.vast.ai answer?"
    )


def test_no_machine_of_vast_is_proven_gone_while_vast_is_away(vast: dict[str, Any]) -> None:
    assert vast["proven gone"] is True
    assert vast["proven gone while away"] is False


def test_vast_is_asked_again_where_it_is_asked_too_often(vast: dict[str, Any]) -> None:
    assert vast["throttled twice"] == ["8801", "8802", "8803"]


def test_an_end_is_what_vast_lists_and_not_what_it_answered(vast: dict[str, Any]) -> None:
    assert vast["left after an end that nobody heard"] == ["8801", "8802", "8803"]
    assert vast["left after an end whose answer was lost"] == ["8802", "8803"]
