"""One large file to a bucket and back over a slow line, with a `kill -9` in the middle: it costs what was in flight."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from cloudrun.stores.directory import DirectoryStore
from cloudrun.stores.s3 import S3Store
from tests.support.relay import Relay, relay
from tests.support.seaweedfs import BUCKET, SeaweedFS

SIZE = 100_000_000
IN_FLIGHT = 48_000_000  # that a cut may cost


@pytest.fixture
def line(seaweedfs: SeaweedFS, monkeypatch: pytest.MonkeyPatch) -> Iterator[Relay]:
    for name, value in seaweedfs.env.items():
        monkeypatch.setenv(name, value)
    with relay(int(seaweedfs.endpoint.rpartition(":")[2]), megabits=500, round_trip_ms=5) as running:
        yield running


def run_until(code: str, is_enough: object) -> int:
    """Run Python code in a process of its own; kill it outright when `is_enough()` says so. Its exit code."""
    process = subprocess.Popen([sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": str(Path.cwd())})
    until = time.monotonic() + 60
    while process.poll() is None and time.monotonic() < until:
        if is_enough is not None and is_enough():  # type: ignore[operator]
            process.kill()
        time.sleep(0.01)
    return process.wait(1)


def test_an_upload_that_was_killed_goes_on_with_the_parts_that_arrived(line: Relay, tmp_path: Path) -> None:
    (tmp_path / "best.pt").write_bytes(os.urandom(SIZE))
    journal = tmp_path / "uploads.json"
    store = f"S3Store('s3://{BUCKET}/{tmp_path.name}', 'http://127.0.0.1:{line.port}', journal=Path('{journal}'))"
    code = "from pathlib import Path; from cloudrun.stores.s3 import S3Store; "
    code += f"{store}.upload(Path('{tmp_path}/best.pt'), 'out/best.pt')"
    assert run_until(code, lambda: line.up_bytes > 0.6 * SIZE) == -9
    assert run_until(code, None) == 0
    assert line.up_bytes < SIZE + IN_FLIGHT
    assert journal.read_text() == "{}"
    there = S3Store(f"s3://{BUCKET}/{tmp_path.name}", f"http://127.0.0.1:{line.port}")
    there.get("out/best.pt", tmp_path / "again.pt")
    assert (tmp_path / "again.pt").read_bytes() == (tmp_path / "best.pt").read_bytes()


def test_a_changed_file_does_not_go_on_with_the_parts_of_the_old_one(line: Relay, tmp_path: Path) -> None:
    (tmp_path / "best.pt").write_bytes(os.urandom(30_000_000))
    journal = tmp_path / "uploads.json"
    store = S3Store(f"s3://{BUCKET}/{tmp_path.name}", f"http://127.0.0.1:{line.port}", journal=journal)
    code = "from pathlib import Path; from cloudrun.stores.s3 import S3Store; "
    code += f"S3Store('s3://{BUCKET}/{tmp_path.name}', 'http://127.0.0.1:{line.port}', journal=Path('{journal}'))"
    code += f".upload(Path('{tmp_path}/best.pt'), 'out/best.pt')"
    assert run_until(code, lambda: line.up_bytes > 12_000_000) == -9
    (tmp_path / "best.pt").write_bytes(os.urandom(30_000_000))
    entry = store.upload(tmp_path / "best.pt", "out/best.pt")
    assert store.entries("out") == [entry]
    store.get("out/best.pt", tmp_path / "again.pt")
    assert (tmp_path / "again.pt").read_bytes() == (tmp_path / "best.pt").read_bytes()


def test_a_download_that_was_killed_fetches_only_what_is_missing(
    line: Relay, seaweedfs: SeaweedFS, tmp_path: Path
) -> None:
    (tmp_path / "best.pt").write_bytes(os.urandom(SIZE))
    S3Store(f"s3://{BUCKET}/{tmp_path.name}", seaweedfs.endpoint).upload(tmp_path / "best.pt", "out/best.pt")
    code = "from pathlib import Path; from cloudrun.stores.s3 import S3Store; "
    code += f"S3Store('s3://{BUCKET}/{tmp_path.name}', 'http://127.0.0.1:{line.port}')"
    code += f".get('out/best.pt', Path('{tmp_path}/again.pt'))"
    assert run_until(code, lambda: line.down_bytes > 0.6 * SIZE) == -9
    assert run_until(code, None) == 0
    assert line.down_bytes < SIZE + IN_FLIGHT
    assert (tmp_path / "again.pt").read_bytes() == (tmp_path / "best.pt").read_bytes()
    assert [path.name for path in tmp_path.iterdir() if "range" in path.name] == []


def test_a_download_does_not_mix_two_versions(line: Relay, seaweedfs: SeaweedFS, tmp_path: Path) -> None:
    direct = S3Store(f"s3://{BUCKET}/{tmp_path.name}", seaweedfs.endpoint)
    (tmp_path / "best.pt").write_bytes(os.urandom(50_000_000))
    direct.upload(tmp_path / "best.pt", "out/best.pt")
    code = "from pathlib import Path; from cloudrun.stores.s3 import S3Store; "
    code += f"S3Store('s3://{BUCKET}/{tmp_path.name}', 'http://127.0.0.1:{line.port}')"
    code += f".get('out/best.pt', Path('{tmp_path}/again.pt'))"
    assert run_until(code, lambda: line.down_bytes > 25_000_000) == -9
    (tmp_path / "best.pt").write_bytes(os.urandom(50_000_000))
    direct.upload(tmp_path / "best.pt", "out/best.pt")
    assert run_until(code, None) == 0
    assert (tmp_path / "again.pt").read_bytes() == (tmp_path / "best.pt").read_bytes()


def test_a_file_that_a_bucket_has_filled_with_gaps_comes_whole_from_a_machine(
    line: Relay, seaweedfs: SeaweedFS, tmp_path: Path
) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "best.pt").write_bytes(os.urandom(50_000_000))
    S3Store(f"s3://{BUCKET}/{tmp_path.name}", seaweedfs.endpoint).upload(tmp_path / "run" / "best.pt", "best.pt")
    code = "from pathlib import Path; from cloudrun.stores.s3 import S3Store; "
    code += f"S3Store('s3://{BUCKET}/{tmp_path.name}', 'http://127.0.0.1:{line.port}')"
    code += f".get('best.pt', Path('{tmp_path}/again.pt'))"
    assert run_until(code, lambda: line.down_bytes > 25_000_000) == -9
    DirectoryStore(tmp_path / "run").get("best.pt", tmp_path / "again.pt")
    assert (tmp_path / "again.pt").read_bytes() == (tmp_path / "run" / "best.pt").read_bytes()
    assert not (tmp_path / "again.pt.ranges").exists()
