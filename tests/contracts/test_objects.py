"""What every store of whole objects does, run against each: a directory, and a bucket of SeaweedFS."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from cloudrun.errors import StoreError
from cloudrun.stores import Objects
from cloudrun.stores.directory_objects import DirectoryObjects
from cloudrun.stores.s3_objects import S3Objects
from tests.support.seaweedfs import BUCKET, SeaweedFS


@pytest.fixture(params=["directory", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Objects:
    if request.param == "directory":
        return DirectoryObjects(tmp_path / "store")
    server: SeaweedFS = request.getfixturevalue("seaweedfs")
    for name, value in server.env.items():
        monkeypatch.setenv(name, value)
    return S3Objects(f"s3://{BUCKET}/{tmp_path.name}", server.endpoint)


def test_what_was_created_is_read_back(store: Objects) -> None:
    assert store.create("data/packs/a.zip", b"first")
    found = store.read_tagged("data/packs/a.zip")
    assert found is not None
    assert found[0] == b"first"


def test_a_key_that_is_taken_stays_as_it_is(store: Objects) -> None:
    store.create("data/packs/a.zip", b"first")
    assert not store.create("data/packs/a.zip", b"second")
    found = store.read_tagged("data/packs/a.zip")
    assert found is not None
    assert found[0] == b"first"


def test_what_is_absent_reads_as_none(store: Objects) -> None:
    assert store.read_tagged("data/refs/nobody.json") is None


def test_only_one_of_many_creates_at_once(store: Objects) -> None:
    with ThreadPoolExecutor(8) as pool:
        won = list(pool.map(lambda number: store.create("data/refs/x.json", b"%d" % number), range(8)))
    assert won.count(True) == 1
    found = store.read_tagged("data/refs/x.json")
    assert found is not None
    assert int(found[0]) == won.index(True)


def test_a_swap_wants_the_version_that_was_read(store: Objects) -> None:
    assert store.swap("data/refs/x.json", b"one", None)
    first = store.read_tagged("data/refs/x.json")
    assert first is not None
    assert store.swap("data/refs/x.json", b"two", first[1])
    assert not store.swap("data/refs/x.json", b"three", first[1])
    assert not store.swap("data/refs/x.json", b"three", None)
    now = store.read_tagged("data/refs/x.json")
    assert now is not None
    assert now[0] == b"two"


def test_a_swap_of_what_was_removed_meanwhile_is_refused(store: Objects) -> None:
    store.swap("data/refs/x.json", b"one", None)
    first = store.read_tagged("data/refs/x.json")
    assert first is not None
    store.remove(["data/refs/x.json"])
    assert not store.swap("data/refs/x.json", b"two", first[1])
    assert store.read_tagged("data/refs/x.json") is None


def test_a_range_is_what_was_asked_for(store: Objects) -> None:
    content = bytes(range(256)) * 4000
    store.create("data/packs/a.zip", memoryview(content))
    assert (
        b"".join(bytes(piece) for piece in store.read_range("data/packs/a.zip", 1000, 900_000)) == content[1000:901_000]
    )


def test_a_range_beyond_the_end_is_an_error(store: Objects) -> None:
    store.create("data/packs/a.zip", b"short")
    with pytest.raises(StoreError, match=r"a\.zip"):
        b"".join(bytes(piece) for piece in store.read_range("data/packs/a.zip", 2, 100))


def test_a_listing_has_sizes_and_the_stores_own_dates_in_the_order_of_keys(store: Objects) -> None:
    for key in ("data/packs/b.zip", "data/packs/a.zip", "data/refs/x.json"):
        store.create(key, b"123")
    found = store.listed("data/packs/")
    assert [one.key for one in found] == ["data/packs/a.zip", "data/packs/b.zip"]
    assert {one.size_bytes for one in found} == {3}
    assert all(one.modified_at > 1.7e9 for one in found)
    assert store.listed("data/none/") == []


def test_removing_what_is_not_there_does_not_matter(store: Objects) -> None:
    store.create("data/packs/a.zip", b"123")
    store.remove(["data/packs/a.zip", "data/packs/b.zip"])
    assert store.listed("data/") == []


def test_what_a_write_that_never_ended_has_left_is_cleared_away_once_it_is_old(
    store: Objects, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    store.create("data/packs/a.zip", b"123")
    if isinstance(store, DirectoryObjects):
        (tmp_path / "store" / "data" / "packs" / ".b.zip.1234.tmp").write_bytes(b"12")
    else:
        server: SeaweedFS = request.getfixturevalue("seaweedfs")
        client, key = server.client(), f"{tmp_path.name}/run/out/best.pt"
        upload = client.create_multipart_upload(Bucket=BUCKET, Key=key)["UploadId"]
        client.upload_part(Bucket=BUCKET, Key=key, UploadId=upload, PartNumber=1, Body=b"12")
    assert store.clear_unfinished(time.time() - 3600) == 0
    assert store.clear_unfinished(time.time() + 3600) == 1
    assert store.clear_unfinished(time.time() + 3600) == 0
    assert [one.key for one in store.listed("data/")] == ["data/packs/a.zip"]
