"""What a provider lists and ends, asked through SkyPilot's own client of it; no machine is rented."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.clouds import box
from tests.clouds.box import CHECKOUT, BoxUnavailable

pytestmark = pytest.mark.clouds


def test_lambda_is_asked_for_machines_of_ours_and_ends_them(tmp_path: Path) -> None:
    try:
        box.refuse_what_is_missing()
    except BoxUnavailable as err:
        pytest.skip(f"no cloud in a box here: {err}")
    done = subprocess.run(
        ["unshare", "-m", "-n", sys.executable, "-m", "tests.clouds.rest_provider", str(tmp_path), "lambda"],
        cwd=CHECKOUT, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    name = "cloudrun-leaves-1127-abcde-12345678-head"
    assert said["seen"] == [[name, "leaves-1127-abcde", "0920582c7ff041399e34823a0be62549"]]
    assert said["left"] == []
    assert said["refused"] == "global/invalid-api-key: API key was invalid"
