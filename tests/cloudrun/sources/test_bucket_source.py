"""`data.source: s3://`: counted from here by its names, fetched by the run itself, each object verified. SeaweedFS."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from cloudrun.errors import JobFileError
from cloudrun.sources import SourceProblem, parse_source
from cloudrun.sources.bring import bring
from tests.support.archives import names_in
from tests.support.console import Said
from tests.support.seaweedfs import BUCKET, SeaweedFS
from tests.support.shell import Shell
from tests.support.source_jobs import TRAINED, checked, job_for
from tests.support.tcp_proxy import Change, TcpProxy

Through = Callable[[Change], str]


@pytest.fixture
def source(seaweedfs: SeaweedFS, leaves: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Six leaves in the bucket, put there with another program than ours."""
    for name, value in {**seaweedfs.env, "AWS_ENDPOINT_URL": seaweedfs.endpoint}.items():
        monkeypatch.setenv(name, value)
    for path in leaves.rglob("*.jpg"):
        key = f"{tmp_path.name}/{path.relative_to(leaves).as_posix()}"
        seaweedfs.client().put_object(Bucket=BUCKET, Key=key, Body=path.read_bytes())
    return f"s3://{BUCKET}/{tmp_path.name}"


@pytest.fixture
def through(seaweedfs: SeaweedFS) -> Iterator[Through]:
    """The endpoint of a proxy in front of the bucket."""
    made: list[TcpProxy] = []

    def start(change: Change) -> str:
        made.append(TcpProxy(urlsplit(seaweedfs.endpoint).port or 0, change))
        return f"http://127.0.0.1:{made[-1].port}"

    yield start
    for proxy in made:
        proxy.close()


def test_a_run_fetches_its_data_from_a_bucket(source: str, shell: Shell) -> None:
    done = shell("launch", job_for(shell.folder, source))
    assert done.code == 0, done.err
    folder = shell.folder / "runs" / done.out.strip()
    assert (folder / "images.txt").read_text().strip() == "6"
    assert "in 6 files from s3://" in (folder / "log.txt").read_text()


def test_classes_and_counts_are_told_from_the_names_alone(source: str, tmp_path: Path) -> None:
    survey = checked(tmp_path, source)
    assert survey is not None
    assert survey.counts == {"train": {"healthy": 3, "rust": 3}}


@pytest.mark.parametrize(
    ("secret", "below", "said"),
    [
        ("test-secret", "/nothing", "there is nothing below s3://results/"),
        ("test-secret", "/rust", "at least 2 are needed"),
        ("wrong", "", "does not accept these credentials"),
    ],
)
def test_what_cannot_be_trained_on_is_found_before_anything_starts(
    source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, secret: str, below: str, said: str
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", secret)
    with pytest.raises(JobFileError, match=said):
        checked(tmp_path, source + below)


def test_a_rented_machine_gets_keys_only_where_secrets_names_them(source: str, tmp_path: Path) -> None:
    rented = TRAINED.replace("local", "slurm")
    with pytest.raises(JobFileError, match="needs credentials on the machine"):
        checked(tmp_path, source, rented)
    assert checked(tmp_path, source, rented, secrets="AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY")


def test_what_is_there_is_not_fetched_again_and_what_has_changed_is(
    seaweedfs: SeaweedFS, source: str, leaves: Path, tmp_path: Path
) -> None:
    work = tmp_path / "data.source"
    bring(parse_source(source), tmp_path / "data", say=Said(), endpoint=seaweedfs.endpoint)
    assert names_in(tmp_path / "data") == names_in(leaves)
    # As after a kill between the last object and the last step: all is there, and the folder has not its name yet.
    (tmp_path / "data").rename(work / "unpacked")
    (work / "placed").unlink()
    changed = f"{tmp_path.name}/rust/1.jpg"
    seaweedfs.client().put_object(Bucket=BUCKET, Key=changed, Body=b"another picture")
    said = Said()
    bring(parse_source(source), tmp_path / "data", say=said, endpoint=seaweedfs.endpoint)
    assert said[0].endswith("5 are here already")
    assert (tmp_path / "data" / "rust" / "1.jpg").read_bytes() == b"another picture"


def test_a_byte_that_flips_on_the_way_is_found_and_the_object_fetched_again(
    source: str, leaves: Path, tmp_path: Path, through: Through
) -> None:
    content = (leaves / "rust" / "1.jpg").read_bytes()
    flipped: list[int] = []

    def flip(piece: bytes) -> bytes:
        place = piece.find(content)
        if place < 0 or flipped:
            return piece
        flipped.append(place)
        return piece[: place + 99] + bytes([piece[place + 99] ^ 1]) + piece[place + 100 :]

    bring(parse_source(source), tmp_path / "data", say=Said(), endpoint=through(flip))
    assert len(flipped) == 1
    assert (tmp_path / "data" / "rust" / "1.jpg").read_bytes() == content


def test_an_object_that_is_not_what_it_says_is_named(seaweedfs: SeaweedFS, source: str, tmp_path: Path) -> None:
    lie = {"sha256": "0" * 64}
    seaweedfs.client().put_object(Bucket=BUCKET, Key=f"{tmp_path.name}/rust/9.jpg", Body=b"x", Metadata=lie)
    with pytest.raises(SourceProblem, match=r"rust/9\.jpg arrived damaged"):
        bring(parse_source(source), tmp_path / "data", say=Said(), endpoint=seaweedfs.endpoint)
    assert not (tmp_path / "data").exists()


def test_names_that_lead_out_are_refused(seaweedfs: SeaweedFS, source: str, tmp_path: Path) -> None:
    seaweedfs.client().put_object(Bucket=BUCKET, Key=f"{tmp_path.name}/C:/evil.jpg", Body=b"x")
    with pytest.raises(SourceProblem, match=r"wants to write outside its folder: C:/evil\.jpg"):
        bring(parse_source(source), tmp_path / "data", say=Said(), endpoint=seaweedfs.endpoint)


def test_an_object_sent_in_parts_is_verified_by_the_hashes_of_its_parts(
    seaweedfs: SeaweedFS, source: str, tmp_path: Path
) -> None:
    from boto3.s3.transfer import TransferConfig

    from cloudrun.sources.bucket import Bucket

    (tmp_path / "large.bin").write_bytes(os.urandom(11_000_000))
    parts = TransferConfig(multipart_threshold=5_242_880, multipart_chunksize=5_242_880)
    seaweedfs.client().upload_file(str(tmp_path / "large.bin"), BUCKET, f"{tmp_path.name}/large.bin", Config=parts)
    bucket = Bucket(parse_source(source), seaweedfs.endpoint)
    (one,) = [found for found in bucket.objects() if found.name == "large.bin"]
    assert one.tag.endswith('-3"')
    expected = bucket._hash_in_parts(one)
    assert expected is not None
    bucket.fetch(one, tmp_path / "fetched.bin", lambda _: None)
    assert (tmp_path / "fetched.bin").read_bytes() == (tmp_path / "large.bin").read_bytes()
    (tmp_path / "again.bin.cloudrun-part").write_bytes(b"not the start of it")
    counted: list[int] = []
    bucket.fetch(one, tmp_path / "again.bin", counted.append)
    assert (tmp_path / "again.bin").read_bytes() == (tmp_path / "large.bin").read_bytes()
    assert -one.size_bytes in counted  # the first try was thrown away


def test_killed_outright_it_goes_on_where_it_was(
    seaweedfs: SeaweedFS,
    source: str,
    leaves: Path,
    tmp_path: Path,
    through: Through,
) -> None:
    large = os.urandom(8_000_000)
    seaweedfs.client().put_object(Bucket=BUCKET, Key=f"{tmp_path.name}/rust/large.jpg", Body=large)
    came: list[int] = []

    def slowly(piece: bytes) -> bytes:
        came.append(len(piece))
        time.sleep(0.005)
        return piece

    words = [sys.executable, "-m", "cloudrun.sources", source, "--out", str(tmp_path / "data")]
    words += ["--endpoint", through(slowly)]
    killed = subprocess.Popen(words, stdout=subprocess.DEVNULL)
    part = tmp_path / "data.source" / "unpacked" / "rust" / "large.jpg.cloudrun-part"
    until = time.monotonic() + 60
    while not part.exists() or part.stat().st_size < 4_000_000:
        assert time.monotonic() < until
        time.sleep(0.01)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    had = part.stat().st_size
    came.clear()
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    assert "are here already" in done.stdout
    assert sum(came) < len(large) - had + 100_000
    assert (tmp_path / "data" / "rust" / "large.jpg").read_bytes() == large
    assert names_in(tmp_path / "data") == names_in(leaves) | {"rust/large.jpg"}
