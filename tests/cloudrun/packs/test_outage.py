"""A bucket that does not answer for some seconds while a rented machine gets its data: the machine waits for it."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from cloudrun.errors import StoreError
from cloudrun.packs.folder import push_folder
from cloudrun.stores import outage
from cloudrun.stores.outage import through_outage
from cloudrun.stores.s3_errors import S3Place, StoreUnavailable, unreachable
from tests.support.console import Said, nothing
from tests.support.seaweedfs import BUCKET, SeaweedFS

AWAY = unreachable(S3Place("b", None), "read x", OSError())


def _command(program: str, seaweedfs: SeaweedFS, *words: str) -> list[str]:
    return [sys.executable, "-m", f"cloudrun.{program}", *words, "--endpoint", seaweedfs.endpoint]


@pytest.mark.parametrize("program", ["packs", "sources"])
def test_a_machine_waits_for_a_bucket_that_comes_back(
    program: str, seaweedfs: SeaweedFS, leaves: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in seaweedfs.env.items():
        monkeypatch.setenv(name, value)
    store, folder = f"s3://{BUCKET}/{tmp_path.name}", tmp_path / "data"
    if program == "packs":
        manifest = push_folder(leaves, store, tmp_path, nothing, endpoint=seaweedfs.endpoint, name="leaves").manifest
        words = [store, manifest, str(folder)]
    else:
        for path in leaves.rglob("*.jpg"):
            seaweedfs.client().put_object(
                Bucket=BUCKET, Key=f"{tmp_path.name}/{path.relative_to(leaves)}", Body=path.read_bytes()
            )
        words = [f"{store}/", "--out", str(folder)]
    seaweedfs.stop()
    pulling = subprocess.Popen(_command(program, seaweedfs, *words), stdout=subprocess.PIPE, text=True)
    try:
        time.sleep(3)
    finally:
        seaweedfs.start()
    said, _ = pulling.communicate(timeout=90)
    assert pulling.returncode == 0, said
    assert "does not answer (EndpointConnectionError); trying again in 1 s" in said
    assert len(list(folder.rglob("*.jpg"))) == 6


def test_what_is_no_outage_is_not_tried_again() -> None:
    tries = list[int]()

    def refused() -> None:
        tries.append(1)
        raise StoreError("no such key", hint="another")

    with pytest.raises(StoreError, match="no such key"):
        through_outage(refused, Said())
    assert len(tries) == 1


def test_an_outage_that_does_not_end_is_given_up_after_two_minutes(monkeypatch: pytest.MonkeyPatch) -> None:
    slept, said = list[float](), Said()
    monkeypatch.setattr(time, "sleep", slept.append)

    def away() -> None:
        raise AWAY

    with pytest.raises(StoreUnavailable):
        through_outage(away, said)
    assert sum(slept) == 120
    assert len(said) == len(outage._PAUSES_S)
