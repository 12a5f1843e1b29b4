"""Data sets in a store: what is sent, what becomes visible when, what is verified, and what is cleared away."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import json
import os
import shutil
import subprocess
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

import pytest

from cloudrun.errors import StoreError
from cloudrun.packs.gc import collect
from cloudrun.packs.index import FileIndex
from cloudrun.packs.layout import DATA, MANIFESTS, PACKS, REFS, manifest_key
from cloudrun.packs.manifest import Extent, FileRecord, Manifest, decode
from cloudrun.packs.pull import PARTIAL, Pulled, pull
from cloudrun.packs.push import push
from cloudrun.packs.refs import ChangedMeanwhile, read_manifest, read_ref
from cloudrun.packs.repack import Repacked, repack
from cloudrun.packs.scan import walk
from cloudrun.packs.sending import Pushed
from cloudrun.packs.verify import verify
from cloudrun.stores import Listed
from cloudrun.stores.directory_objects import DirectoryObjects


def nothing(*_: object) -> None:
    return None


class Laptop:
    """A computer with an index of its own, that pushes and pulls one data set."""

    def __init__(self, folder: Path, store: DirectoryObjects, home: Path) -> None:
        self.folder = folder
        self.store = store
        self._index = home / "files.sqlite"

    def push(self, name: str = "plants", *, dry_run: bool = False) -> Pushed:
        with FileIndex(self._index) as index:
            return push(self.folder, self.store, name, index, store_name="store", on_files=nothing, dry_run=dry_run)

    def pull(self, folder: Path, name: str = "plants", *, exact: bool = False) -> Pulled:
        ref = read_ref(self.store, name).ref
        assert ref is not None
        return pull(read_manifest(self.store, ref.manifest), self.store, folder, nothing, exact=exact)


@pytest.fixture
def store(tmp_path: Path) -> DirectoryObjects:
    return DirectoryObjects(tmp_path / "store")


@pytest.fixture
def laptop(tmp_path: Path, store: DirectoryObjects) -> Laptop:
    folder = tmp_path / "plants"
    for number in range(300):
        path = folder / f"class_{number % 3}" / f"leaf {number:03}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(os.urandom(3_000 + number))
    _settle(folder)
    return Laptop(folder, store, tmp_path / "home")


def _settle(folder: Path) -> None:
    """Dates far enough back that a later change of a file is sure to show."""
    for path in folder.rglob("*"):
        if path.is_file():
            os.utime(path, (1.7e9, 1.7e9))


def walk_files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def _same(left: Path, right: Path) -> bool:
    return subprocess.run(["diff", "-r", left, right], capture_output=True, check=False).returncode == 0


def test_what_is_pushed_is_pulled_again(laptop: Laptop, tmp_path: Path) -> None:
    pushed = laptop.push()
    pulled = laptop.pull(tmp_path / "there")
    assert (pushed.files, pushed.new_files, pulled.new_files) == (300, 300, 300)
    assert _same(laptop.folder, tmp_path / "there")


def test_an_unchanged_folder_sends_nothing_and_reads_no_file(laptop: Laptop, monkeypatch: pytest.MonkeyPatch) -> None:
    first = laptop.push()
    monkeypatch.setattr("cloudrun.packs.sending.read_whole", lambda path: pytest.fail(f"{path} was read"))
    again = laptop.push()
    assert (again.manifest, again.sent_bytes) == (first.manifest, 0)


def test_one_changed_file_sends_about_that_file(laptop: Laptop, tmp_path: Path) -> None:
    laptop.push()
    (laptop.folder / "class_0" / "leaf 000.jpg").write_bytes(b"new" * 1000)
    (laptop.folder / "class_1" / "leaf 001.jpg").unlink()
    pushed = laptop.push()
    assert pushed.new_files == 1
    assert pushed.sent_bytes < 3_500
    assert laptop.pull(tmp_path / "there").files == 299
    assert _same(laptop.folder, tmp_path / "there")


def test_the_same_content_is_stored_once_whatever_its_name(laptop: Laptop, tmp_path: Path) -> None:
    content = os.urandom(50_000)
    for name in ("a.jpg", "b.jpg"):
        (laptop.folder / name).write_bytes(content)
    pushed = laptop.push()
    assert pushed.sent_bytes < pushed.size_bytes
    (laptop.folder / "a.jpg").rename(laptop.folder / "renamed.jpg")
    assert laptop.push().sent_bytes == 0
    laptop.pull(tmp_path / "there")
    assert _same(laptop.folder, tmp_path / "there")


def test_a_file_larger_than_a_pack_goes_in_pieces(laptop: Laptop, tmp_path: Path) -> None:
    (laptop.folder / "scan.tif").write_bytes(os.urandom(19_000_000))
    (laptop.folder / "empty.txt").touch()
    laptop.push()
    laptop.pull(tmp_path / "there")
    assert _same(laptop.folder, tmp_path / "there")
    with (laptop.folder / "scan.tif").open("r+b") as file:  # one piece of three
        file.write(b"changed")
    assert laptop.push().sent_bytes < 9_000_000
    laptop.pull(tmp_path / "there")
    assert _same(laptop.folder, tmp_path / "there")


def test_a_dry_run_says_what_would_go_and_sends_nothing(laptop: Laptop, store: DirectoryObjects) -> None:
    would = laptop.push(dry_run=True)
    assert (would.manifest, would.new_files) == (None, 300)
    assert would.sent_bytes == would.size_bytes
    assert store.listed("data/") == []


def test_a_pack_opens_with_unzip_and_has_the_files_by_their_names(laptop: Laptop, tmp_path: Path) -> None:
    laptop.push()
    (pack,) = (tmp_path / "store" / "data" / "packs").iterdir()
    with zipfile.ZipFile(pack) as archive:
        assert archive.testzip() is None
        archive.extractall(tmp_path / "unzipped")
    assert _same(laptop.folder, tmp_path / "unzipped")


def test_another_computer_sends_only_what_nobody_has_sent(laptop: Laptop, tmp_path: Path) -> None:
    laptop.push()
    other = Laptop(laptop.folder, laptop.store, tmp_path / "other home")
    assert other.push("their-plants").sent_bytes == 0


class SlowStore(DirectoryObjects):
    """Somebody else pushes while the last step of this push is on its way."""

    def __init__(self, folder: Path, meanwhile: Laptop) -> None:
        super().__init__(folder)
        self._meanwhile = meanwhile

    def swap(self, key: str, content: bytes, tag: str | None) -> bool:
        self._meanwhile.push()
        return super().swap(key, content, tag)


def test_two_computers_cannot_clobber_one_another(laptop: Laptop, tmp_path: Path) -> None:
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    (theirs / "weed.jpg").write_bytes(b"weed")
    other = Laptop(theirs, laptop.store, tmp_path / "other home")
    slow = Laptop(laptop.folder, SlowStore(tmp_path / "store", other), tmp_path / "home")
    with pytest.raises(ChangedMeanwhile, match="`plants` was changed meanwhile"):
        slow.push()
    other.pull(tmp_path / "there")
    assert _same(theirs, tmp_path / "there")
    laptop.push()  # again, knowing of it
    laptop.pull(tmp_path / "ours")
    assert _same(laptop.folder, tmp_path / "ours")


class CutStore(DirectoryObjects):
    """The network goes away after so many packs."""

    def __init__(self, folder: Path, packs: int) -> None:
        super().__init__(folder)
        self._left = packs

    def create(self, key: str, content: bytes | memoryview, *, sha256: str | None = None) -> bool:
        if key.startswith(PACKS):
            self._left -= 1
            if self._left < 0:
                raise StoreError("no network", hint="again")
        return super().create(key, content, sha256=sha256)


def test_a_push_that_is_cut_shows_nothing_and_is_gone_on_with(
    laptop: Laptop, store: DirectoryObjects, tmp_path: Path
) -> None:
    for number in range(5):
        (laptop.folder / f"{number}.bin").write_bytes(os.urandom(7_000_000))
    with pytest.raises(StoreError, match="no network"):
        Laptop(laptop.folder, CutStore(tmp_path / "store", 3), tmp_path / "home").push()
    assert store.listed(REFS) == []
    there = sum(one.size_bytes for one in store.listed(PACKS))
    pushed = laptop.push()
    assert there > 20_000_000
    assert pushed.sent_bytes < pushed.size_bytes - there + 100_000
    laptop.pull(tmp_path / "there")
    assert _same(laptop.folder, tmp_path / "there")


def test_a_file_that_changes_while_it_is_read_is_named(laptop: Laptop, monkeypatch: pytest.MonkeyPatch) -> None:
    from cloudrun.packs import scan

    grows = laptop.folder / "class_0" / "leaf 000.jpg"
    differs = scan.differs

    def written_to(before: os.stat_result, file: object) -> bool:
        with grows.open("ab") as more:
            more.write(b"x")
        return differs(before, file)  # type: ignore[arg-type]

    monkeypatch.setattr(scan, "differs", written_to)
    monkeypatch.setattr(scan, "_PAUSES_S", (0.0, 0.0, 0.0))
    with pytest.raises(StoreError, match=r"leaf 000\.jpg is written to while it is read"):
        laptop.push()


def test_a_link_to_nothing_and_a_folder_in_itself_are_named(tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "gone.jpg").symlink_to("nowhere.jpg")
    with pytest.raises(StoreError, match=r"gone\.jpg"):
        walk(tmp_path / "set")
    (tmp_path / "set" / "gone.jpg").unlink()
    (tmp_path / "set" / "again").symlink_to(tmp_path / "set")
    with pytest.raises(StoreError, match="again is a link to a folder that it lies in"):
        walk(tmp_path / "set")


def test_a_flipped_bit_in_the_store_is_found_named_and_mended_by_the_next_push(
    laptop: Laptop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cloudrun.packs.pull._PAUSES_S", (0.0, 0.0, 0.0))
    laptop.push()
    (pack,) = (tmp_path / "store" / "data" / "packs").iterdir()
    content = bytearray(pack.read_bytes())
    content[200_000] ^= 1
    pack.write_bytes(content)
    with pytest.raises(StoreError, match=r"class_.*arrives damaged.*pack .* is broken"):
        laptop.pull(tmp_path / "there")
    found = verify(laptop.store, nothing, remove=True)
    assert [one.why for one in found.damage] == ["its bytes are not what its name says"]
    assert len(found.damage[0].files["plants"]) == 300
    assert laptop.push().new_files == 300
    laptop.pull(tmp_path / "there")
    assert _same(laptop.folder, tmp_path / "there")
    assert verify(laptop.store, nothing).damage == ()


class FlippingStore(DirectoryObjects):
    """The first range that is read arrives with a bit flipped, as over a bad line."""

    _is_first = True

    def read_range(self, key: str, offset: int, length: int) -> Iterator[memoryview]:
        for piece in super().read_range(key, offset, length):
            if self._is_first:
                self._is_first = False
                damaged = bytearray(piece)
                damaged[1000] ^= 4
                yield memoryview(damaged)
            else:
                yield piece


def test_a_bit_that_flips_on_the_way_is_fetched_again(laptop: Laptop, tmp_path: Path) -> None:
    laptop.push()
    over_a_bad_line = Laptop(laptop.folder, FlippingStore(tmp_path / "store"), tmp_path / "home")
    over_a_bad_line.pull(tmp_path / "there")
    assert _same(laptop.folder, tmp_path / "there")


def test_a_pull_takes_only_what_is_not_there_and_repairs_what_is_wrong(laptop: Laptop, tmp_path: Path) -> None:
    laptop.push()
    laptop.pull(tmp_path / "there")
    (tmp_path / "there" / "class_0" / "leaf 000.jpg").unlink()
    wrong = tmp_path / "there" / "class_1" / "leaf 001.jpg"
    wrong.write_bytes(bytes(wrong.stat().st_size))  # the right size, and nothing else
    (tmp_path / "there" / "mine.txt").write_text("mine")
    pulled = laptop.pull(tmp_path / "there")
    assert (pulled.new_files, pulled.removed) == (2, 0)
    assert (tmp_path / "there" / "mine.txt").exists()
    assert laptop.pull(tmp_path / "there", exact=True).removed == 1
    assert _same(laptop.folder, tmp_path / "there")


def test_nothing_half_written_stays_under_a_final_name(laptop: Laptop, tmp_path: Path) -> None:
    (laptop.folder / "scan.tif").write_bytes(os.urandom(17_000_000))
    laptop.push()
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (2_000, 2_000)); "
    limit += "import signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN); "
    ref = read_ref(laptop.store, "plants").ref
    assert ref is not None
    words = [str(tmp_path / "store"), ref.manifest, str(tmp_path / "there")]
    done = subprocess.run(
        ["python3", "-c", f"{limit}from cloudrun.packs.__main__ import main; raise SystemExit(main({words}))"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "the disk is full" in done.stdout
    assert [
        path for path in (tmp_path / "there").rglob("*") if path.is_file() and not path.name.endswith(PARTIAL)
    ] == []


def test_garbage_goes_in_two_steps_and_never_what_is_needed(laptop: Laptop, tmp_path: Path) -> None:
    laptop.push()
    shutil.rmtree(laptop.folder / "class_0")
    for number in range(100):
        (laptop.folder / "class_1" / f"leaf {1 + 3 * number:03}.jpg").write_bytes(os.urandom(2_000))
        (laptop.folder / "class_2" / f"leaf {2 + 3 * number:03}.jpg").write_bytes(os.urandom(2_000))
    laptop.push()
    first = collect(laptop.store, grace_s=0)
    assert (first.live_packs, first.marked, first.deleted) == (1, 1, 0)
    second = collect(laptop.store, grace_s=0)
    assert (second.live_packs, second.deleted) == (1, 1)
    assert len(laptop.store.listed(PACKS)) == len(laptop.store.listed(MANIFESTS)) == 1
    laptop.pull(tmp_path / "there")
    assert _same(laptop.folder, tmp_path / "there")


def test_what_is_young_or_within_its_grace_stays(laptop: Laptop) -> None:
    laptop.push()
    laptop.store.remove(["data/refs/plants.json"])
    assert collect(laptop.store, grace_s=3600).marked == 0  # a push may be about to swing its ref
    assert collect(laptop.store, grace_s=0).marked == 1
    waiting = collect(laptop.store, grace_s=3600)
    assert (waiting.waiting, waiting.deleted) == (0, 0)
    assert len(laptop.store.listed(PACKS)) == 1


def test_a_push_does_not_build_upon_what_is_marked(laptop: Laptop, tmp_path: Path) -> None:
    """Its packs would be deleted beneath it: it sends them anew."""
    laptop.push()
    laptop.store.remove(["data/refs/plants.json"])
    collect(laptop.store, grace_s=0)
    assert laptop.push().new_files == 300
    assert collect(laptop.store, grace_s=0).deleted == 1
    laptop.pull(tmp_path / "there")
    assert _same(laptop.folder, tmp_path / "there")


def test_a_pack_that_is_needed_again_outlives_its_mark(laptop: Laptop, tmp_path: Path) -> None:
    """A push that began before the mark swings its ref after it: the ref counts."""
    pushed = laptop.push()
    ref = laptop.store.read_tagged("data/refs/plants.json")
    assert ref is not None
    laptop.store.remove(["data/refs/plants.json"])
    assert collect(laptop.store, grace_s=0).marked == 1
    laptop.store.create("data/refs/plants.json", ref[0])
    assert collect(laptop.store, grace_s=0).deleted == 0
    assert laptop.pull(tmp_path / "there").files == pushed.files


def test_what_is_needed_of_a_wasteful_pack_moves_and_the_rest_becomes_garbage(laptop: Laptop, tmp_path: Path) -> None:
    laptop.push()
    laptop.push("kept")
    shutil.rmtree(laptop.folder / "class_0")
    shutil.rmtree(laptop.folder / "class_1")
    laptop.push()
    assert repack(laptop.store) == Repacked(0, 0)  # `kept` needs all of it
    laptop.store.remove(["data/refs/kept.json"])
    before = sum(one.size_bytes for one in laptop.store.listed(PACKS))
    moved = repack(laptop.store)
    assert (moved.packs, moved.kept_bytes) == (1, sum(path.stat().st_size for path in walk_files(laptop.folder)))
    laptop.pull(tmp_path / "there")
    assert _same(laptop.folder, tmp_path / "there")
    collect(laptop.store, grace_s=0)
    collect(laptop.store, grace_s=0)
    assert sum(one.size_bytes for one in laptop.store.listed(PACKS)) < before / 2
    assert laptop.pull(tmp_path / "again").files == 100
    assert laptop.push().sent_bytes == 0


class CollectedMeanwhile(DirectoryObjects):
    """Somebody collects garbage, twice, just after the push has looked what there is."""

    _is_first = True

    def listed(self, prefix: str) -> list[Listed]:
        found = super().listed(prefix)
        if prefix == DATA and self._is_first:
            self._is_first = False
            store = DirectoryObjects(self._folder)
            assert collect(store, grace_s=0).marked == 1
            assert collect(store, grace_s=0).deleted == 1
        return found


def test_what_is_deleted_beneath_a_push_is_sent_again(laptop: Laptop, tmp_path: Path) -> None:
    laptop.push()
    laptop.store.remove(["data/refs/plants.json"])
    (laptop.folder / "new.jpg").write_bytes(b"new")
    racing = Laptop(laptop.folder, CollectedMeanwhile(tmp_path / "store"), tmp_path / "home")
    racing.push()
    laptop.pull(tmp_path / "there")
    assert _same(laptop.folder, tmp_path / "there")


def test_a_lost_index_costs_time_and_no_bytes(laptop: Laptop, tmp_path: Path) -> None:
    laptop.push()
    (tmp_path / "home" / "files.sqlite").write_bytes(b"no database")
    for name in ("files.sqlite-wal", "files.sqlite-shm"):
        (tmp_path / "home" / name).unlink(missing_ok=True)
    assert laptop.push().sent_bytes == 0


def test_a_manifest_that_names_a_file_outside_its_folder_is_refused() -> None:
    extent = Extent("0" * 64, 0, 3, "1" * 64)
    for path in ("../evil", "/etc/passwd", "a/../../b"):
        manifest, content = Manifest((FileRecord(path, 3, "1" * 64, (extent,)),)).encode()
        with pytest.raises(StoreError, match="outside its folder"):
            decode(content, manifest)


HEAD = {"format": "cloudrun-packs", "version": 1, "files": 1, "size_bytes": 3, "packs": ["0" * 64]}
FILE = ["a.jpg", 3, "1" * 64, [[0, 0, 3]]]


def foreign(*lines: object) -> tuple[str, bytes]:
    """(id, bytes) of a manifest that somebody has written by hand."""
    text = "\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines)
    content = gzip.compress(text.encode("utf-8", "surrogatepass"))
    return hashlib.sha256(content).hexdigest(), content


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ((HEAD, FILE), None),
        (({**HEAD, "packs": ["../../../../etc/passwd"]}, FILE), "the names of its packs are not hashes"),
        (({**HEAD, "packs": 5}, FILE), "the names of its packs are not hashes"),
        (({**HEAD, "version": "1"}, FILE), "upgrade"),
        (({}, FILE), "upgrade"),
        (([], FILE), "line 1 is no object"),
        (("garbage",), "line 1 is not JSON"),
        ((HEAD, "[" * 100_000), "line 2 is not JSON"),
        ((HEAD, ["a.jpg"]), "line 2 is not a path, a size, a hash and a list"),
        ((HEAD, [5, 3, "1" * 64, [[0, 0, 3]]]), "line 2 is not a path"),
        ((HEAD, ["a.jpg", 3, "nothing", [[0, 0, 3]]]), "line 2 is not a path"),
        ((HEAD, ["a.jpg", 3, "1" * 64, [[1, 0, 3]]]), "there is no part [1, 0, 3]"),
        ((HEAD, ["a.jpg", 3, "1" * 64, [[-1, 0, 3]]]), "there is no part [-1, 0, 3]"),
        ((HEAD, ["a.jpg", 3, "1" * 64, [[0, -9, 3]]]), "there is no part [0, -9, 3]"),
        ((HEAD, ["a.jpg", 0, "1" * 64, [[0, 0, -3], [0, 0, 3]]]), "there is no part [0, 0, -3]"),
        ((HEAD, ["a.jpg", 10**30, "1" * 64, [[0, 0, 10**30]]]), "there is no part"),
        ((HEAD, ["a.jpg", 4, "1" * 64, [[0, 0, 3]]]), "has 4 bytes, and its parts have others"),
        ((HEAD, ["a.jpg", 3, "1" * 64, ["x"]]), "a part is not a pack, a place and a length"),
        ((HEAD, FILE, FILE), "it names a file twice"),
        ((HEAD, ["a", *FILE[1:]], ["a/b", *FILE[1:]]), "'a' is a file and a folder"),
        ((HEAD, ["", *FILE[1:]]), "outside its folder, or none"),
        ((HEAD, ["a//b", *FILE[1:]]), "outside its folder, or none"),
        ((HEAD, ["l" * 300, *FILE[1:]]), "whose name is too long"),
        ((HEAD, ["\ud800", *FILE[1:]]), "that no disk can hold"),
    ],
)
def test_a_manifest_of_somebody_else_is_checked_before_it_is_used(lines: tuple[object, ...], said: str | None) -> None:
    manifest, content = foreign(*lines)
    if said is None:
        assert decode(content, manifest).files[0].path == "a.jpg"
        return
    with pytest.raises(StoreError) as caught:
        decode(content, manifest)
    assert said in f"{caught.value.message} {caught.value.hint}"


def test_a_manifest_that_grows_without_end_is_not_unpacked() -> None:
    content = gzip.compress(b"[" * 30_000_000, compresslevel=1)
    with pytest.raises(StoreError, match="when unpacked"):
        decode(content, hashlib.sha256(content).hexdigest())
    for damaged in (b"no gzip", content[:-20]):
        with pytest.raises(StoreError, match="cannot be used"):
            decode(damaged, hashlib.sha256(damaged).hexdigest())


def test_a_name_that_points_elsewhere_than_to_a_manifest_is_damaged(laptop: Laptop) -> None:
    laptop.push()
    good = json.loads(laptop.store.read_tagged("data/refs/plants.json")[0])  # type: ignore[index]
    for change in ({"manifest": "../../x"}, {"manifest": 5}, {"files": "many"}, {"size_bytes": -1}, {"tree": None}):
        tag = laptop.store.read_tagged("data/refs/plants.json")[1]  # type: ignore[index]
        laptop.store.swap("data/refs/plants.json", json.dumps({**good, **change}).encode(), tag)
        with pytest.raises(StoreError, match=r"data/refs/plants.json is damaged"):
            read_ref(laptop.store, "plants")


def test_a_pull_writes_and_removes_nothing_through_a_link_that_leads_out(laptop: Laptop, tmp_path: Path) -> None:
    laptop.push()
    theirs, there = tmp_path / "theirs", tmp_path / "there"
    theirs.mkdir()
    (theirs / "mine.txt").write_text("mine")
    there.mkdir()
    folder = next(path for path in laptop.folder.iterdir() if path.is_dir())
    (there / folder.name).symlink_to(theirs)
    with pytest.raises(StoreError, match="leads out of the folder"):
        laptop.pull(there)
    (there / folder.name).unlink()
    (there / "other").symlink_to(theirs)
    with pytest.raises(StoreError, match="leads out of the folder"):
        laptop.pull(there, exact=True)
    assert [path.name for path in theirs.iterdir()] == ["mine.txt"]
    (there / "other").unlink()
    name = next(path for path in laptop.folder.rglob("*") if path.is_file()).relative_to(laptop.folder)
    (there / name).parent.mkdir(parents=True, exist_ok=True)
    (there / f"{name}{PARTIAL}").symlink_to(theirs / "mine.txt")
    with contextlib.suppress(StoreError):
        laptop.pull(there)
    laptop.pull(there)
    assert _same(laptop.folder, there)
    assert (theirs / "mine.txt").read_text() == "mine"


def test_a_damaged_manifest_is_not_believed(laptop: Laptop, tmp_path: Path) -> None:
    manifest = laptop.push().manifest
    assert manifest is not None
    path = tmp_path / "store" / manifest_key(manifest)
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(StoreError, match="arrived damaged"):
        laptop.pull(tmp_path / "there")


def test_names_that_are_hard_on_formats_survive(laptop: Laptop, tmp_path: Path) -> None:
    for name in ("line\nbreak.jpg", "größe \u2028 7.jpg", "quote'\".jpg", "-rf.jpg"):
        (laptop.folder / name).write_bytes(name.encode())
    laptop.push()
    laptop.pull(tmp_path / "there")
    assert _same(laptop.folder, tmp_path / "there")


def test_progress_counts_up_to_the_whole(laptop: Laptop, tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    counted: list[tuple[int, int]] = []

    def on_files(done: int, total: int, files: tuple[int, int]) -> None:
        seen.append((done, total))
        counted.append(files)

    with FileIndex(tmp_path / "files.sqlite") as index:
        pushed = push(laptop.folder, laptop.store, "plants", index, store_name="s", on_files=on_files)
    assert _is_progress(seen, pushed.size_bytes)
    assert counted == sorted(counted)
    assert (counted[0], counted[-1]) == ((0, 300), (300, 300))
    seen.clear()
    counted.clear()
    assert pushed.manifest is not None
    pull(read_manifest(laptop.store, pushed.manifest), laptop.store, tmp_path / "there", on_files)
    assert _is_progress(seen, pushed.size_bytes)
    assert counted == sorted(counted)


def _is_progress(seen: Sequence[tuple[int, int]], total: int) -> bool:
    counts = [done for done, _ in seen]
    return (
        counts == sorted(counts) and seen[0] == (0, total) and counts.count(total) == 1 and seen[-1] == (total, total)
    )


def test_the_outcome_is_plain_data(laptop: Laptop) -> None:
    assert set(asdict(laptop.push())) == {"manifest", "files", "size_bytes", "new_files", "sent_bytes"}


def test_progress_tells_of_what_is_sent_alone(laptop: Laptop, tmp_path: Path) -> None:
    """Files that were only touched are read, and not sent."""
    laptop.push()
    for path in walk_files(laptop.folder):
        path.touch()
    (laptop.folder / "new.jpg").write_bytes(b"new" * 1000)
    told: list[tuple[int, int, tuple[int, int]]] = []
    with FileIndex(tmp_path / "home" / "files.sqlite") as index:
        push(laptop.folder, laptop.store, "plants", index, store_name="store", on_files=lambda *one: told.append(one))
    assert told[-1] == (3000, 3000, (1, 1))
    told.clear()
    for path in walk_files(laptop.folder):
        path.touch()
    with FileIndex(tmp_path / "home" / "files.sqlite") as index:
        push(laptop.folder, laptop.store, "plants", index, store_name="store", on_files=lambda *one: told.append(one))
    assert told[1:] == []
