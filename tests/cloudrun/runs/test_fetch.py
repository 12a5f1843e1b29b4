"""`cloudrun fetch` as typed: while a job runs, beside another fetch, onto a full disk, and after a cut."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from cloudrun.errors import StoreError
from cloudrun.runs.fetch_lock import fetching
from cloudrun.runs.results import Listener, copy_home
from cloudrun.state.ledger import Ledger
from cloudrun.stores import Entry
from cloudrun.stores.directory import DirectoryStore
from cloudrun.stores.download import Progress, pull
from cloudrun.text.pace import Pace
from cloudrun.worker.child import end_with_parent
from tests.support.local_jobs import TINY
from tests.support.shell import Shell, images

JOB = """\
name: steps
infra: local
data: {source: .}
run: |
  mkdir -p $CLOUDRUN_OUTPUT/checkpoints
  head -c 3000000 /dev/zero > $CLOUDRUN_OUTPUT/checkpoints/best.pt
  until [ -e $CLOUDRUN_OUTPUT/go ]; do sleep 0.05; done
  echo more > $CLOUDRUN_OUTPUT/last.txt
"""


@pytest.fixture
def waiting(shell: Shell) -> Shell:
    """A shell whose run has written its checkpoint, and waits to be told to go on."""
    run_id = shell("launch", "-d", shell.job(JOB)).out.strip()
    best = shell.home / "local" / run_id / "out" / "checkpoints" / "best.pt"
    until = time.monotonic() + 60
    while not best.exists() or best.stat().st_size < 3_000_000:
        assert time.monotonic() < until
        time.sleep(0.02)
    return shell


def go_on(shell: Shell) -> None:
    (run_dir,) = (shell.home / "local").iterdir()
    (run_dir / "out" / "go").touch()


def next_line(process: subprocess.Popen[str], text: str) -> str:
    assert process.stderr is not None
    return next(line for line in process.stderr if text in line)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 2 MB."""
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", folder], check=False)
    if mounted.returncode != 0:
        pytest.skip("needs root, to mount a small disk")
    yield folder
    subprocess.run(["umount", folder], check=True)


def test_a_full_home_is_named_and_not_the_folder_of_the_results(shell: Shell) -> None:
    shell.home.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", shell.home], check=False).returncode != 0:
        pytest.skip("needs root, to mount a small disk")
    try:
        staged = shell.home / "staging" / "killed-0101-abcde"
        staged.mkdir(parents=True)
        launched = shell(
            "launch", "-d", shell.job("name: a\ninfra: local\ndata: {source: .}\nrun: echo > $CLOUDRUN_OUTPUT/x\n")
        )
        assert launched.code == 0, launched.err
        assert not staged.exists()  # what a launch left that was killed
        run_id = launched.out.strip()
        until = time.monotonic() + 60
        while not (shell.home / "local" / run_id / "result.json").exists():
            assert time.monotonic() < until
            time.sleep(0.05)
        with suppress(OSError), (shell.home / "filler").open("wb", buffering=0) as filler:
            while filler.write(bytes(4096)):
                pass
        for words in (["fetch"], ["down"]):
            refused = shell(*words)
            assert refused.code == 1, refused.err
            assert f"cannot write {shell.home}/" in refused.err, refused.err
            assert "cannot write the results to" not in refused.err
        (shell.home / "filler").unlink()
        assert shell("down").code == 0
    finally:
        shell("down", "--all", "--force", "--yes")
        subprocess.run(["umount", "-l", shell.home], check=True)


def test_a_watching_fetch_takes_each_file_as_it_comes_and_ends_with_the_run(waiting: Shell) -> None:
    fetch = waiting.start("fetch", "--watch")
    next_line(fetch, "fetched checkpoints/best.pt (3.0 MB)")
    go_on(waiting)
    out, rest = fetch.communicate(timeout=60)
    assert fetch.returncode == 0
    assert "fetched last.txt (5 B)" in rest
    assert "fetched checkpoints/best.pt" not in rest  # only what is new
    assert (Path(out.strip()) / "last.txt").read_text() == "more\n"
    assert waiting("ps", "--json").json == []  # as after any fetch of a finished run: nothing bills


def test_ctrl_c_ends_a_watching_fetch_and_says_that_the_run_goes_on(waiting: Shell) -> None:
    fetch = waiting.start("fetch", "--watch")
    next_line(fetch, "fetched checkpoints/best.pt")
    fetch.send_signal(signal.SIGINT)
    _, said = fetch.communicate(timeout=60)
    assert fetch.returncode == 130
    assert "goes on" in said
    assert waiting("ps", "--json").json[0]["phase"] == "running"


def test_a_dry_run_says_what_would_come_and_writes_nothing(waiting: Shell) -> None:
    shown = waiting("fetch", "--dry-run")
    assert "checkpoints/best.pt  3.0 MB" in shown.out
    assert "1 to fetch" in shown.out
    assert not (waiting.folder / "runs").exists()
    waiting("fetch")
    listed = waiting("fetch", "--dry-run", "--json").json["files"]
    assert [one for one in listed if one["path"] != "machine.jsonl"] == []  # the worker adds a row every few seconds


def test_a_second_fetch_waits_for_the_first_and_a_killed_one_holds_nothing(waiting: Shell) -> None:
    run_id = waiting("ps", "--json").json[0]["run_id"]
    folder = waiting.folder / "runs" / run_id
    code = f"""
import time; from pathlib import Path; from cloudrun.runs.fetch_lock import fetching
with fetching(Path({str(folder)!r}), home=Path({str(waiting.home)!r}), say=print):
    print("mine", flush=True)
    time.sleep(60)
"""
    first = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, preexec_fn=end_with_parent
    )
    assert first.stdout is not None
    assert first.stdout.readline() == "mine\n"
    second = waiting.start("fetch")
    next_line(second, f"another command fetches to {folder}: waiting for it")
    first.kill()
    first.communicate()
    second.communicate(timeout=60)
    assert second.returncode == 0
    assert (folder / "checkpoints" / "best.pt").stat().st_size == 3_000_000


def test_a_fetch_that_is_stuck_does_not_hold_up_others_for_ever(tmp_path: Path) -> None:
    with (
        fetching(tmp_path / "runs", home=tmp_path, say=lambda _: None),
        pytest.raises(StoreError, match=rf"process {os.getpid()}.* has brought nothing for 0 s") as caught,
        fetching(tmp_path / "runs", home=tmp_path, say=lambda _: None, stuck_s=0.2),
    ):
        pass
    assert f"kill {os.getpid()}" in caught.value.hint


def test_a_disk_without_room_is_named_before_a_byte_is_written(waiting: Shell, small_disk: Path) -> None:
    done = waiting("fetch", "--to", str(small_disk / "run"))
    assert done.code == 1
    assert "is full: 3.0 MB are to come, and 2.1 MB are free" in done.err
    assert [path for path in small_disk.rglob("*") if path.is_file()] == []


def test_a_disk_that_fills_up_meanwhile_leaves_nothing_under_a_final_name(small_disk: Path, tmp_path: Path) -> None:
    (tmp_path / "best.pt").write_bytes(bytes(3_000_000))
    smaller_than_it_is = Entry("best.pt", 1000, "0" * 64)
    with pytest.raises(StoreError, match=r"cannot copy best\.pt: the disk is full"):
        pull(DirectoryStore(tmp_path), [smaller_than_it_is], lambda key: key, small_disk, lambda _: None)
    assert [path.suffix for path in small_disk.iterdir()] == [".partial"]


def test_progress_counts_bytes_and_files_up_to_all_of_them(tmp_path: Path) -> None:
    store = DirectoryStore(tmp_path / "run")
    store.push(images(tmp_path / "leaves"), "out", lambda *_: None)
    entries = store.entries("out")
    seen: list[Progress] = []
    pull(store, entries, lambda key: key, tmp_path / "home", lambda _: None, on_progress=seen.append)
    total = sum(entry.size_bytes for entry in entries)
    assert seen[-1] == Progress(total, total, len(entries), len(entries))


def test_the_pace_of_a_transfer_in_words() -> None:
    now = iter([0.0, 10.0, 10.0, 40.0])
    pace = Pace(lambda: next(now))
    pace.elapsed_s(20_000_000)  # these were there before
    assert (
        pace.text(60_000_000, 100_000_000, files=(1, 5)) == "60.0 MB of 100.0 MB, 1 of 5 files, 4.0 MB/s, 10.0 s left"
    )
    assert pace.text(100_000_000, 100_000_000, files=(5, 5)) == "5 files, 100.0 MB in 10.0 s (8.0 MB/s)"


def test_a_machine_that_went_meanwhile_takes_nothing_from_what_is_home(waiting: Shell) -> None:
    home = Path(waiting("fetch").out.strip())
    log = (home / "log.txt").read_text()
    (run_dir,) = (waiting.home / "local").iterdir()
    (run_dir / "log.txt").unlink()
    assert waiting("fetch").code == 0
    assert (home / "log.txt").read_text() == log


def test_a_watching_fetch_ends_well_where_another_command_ends_the_run(waiting: Shell) -> None:
    fetch = waiting.start("fetch", "--watch")
    next_line(fetch, "fetched checkpoints/best.pt")
    assert waiting("down").code == 0
    out, said = fetch.communicate(timeout=60)
    assert (fetch.returncode, "error:" in said) == (0, False), said
    assert (Path(out.strip()) / "checkpoints" / "best.pt").stat().st_size == 3_000_000


def test_a_file_that_is_made_as_long_as_it_will_be_counts_by_what_has_come(tmp_path: Path) -> None:
    class FillsInAnyOrder(DirectoryStore):
        def get(self, key: str, target: Path) -> None:
            with target.open("wb") as file:
                file.truncate(10_000_000)
            raise StoreError("cut", hint="again")

    (tmp_path / "out").mkdir()
    with (tmp_path / "out" / "best.pt").open("wb") as file:
        file.truncate(10_000_000)
    store = FillsInAnyOrder(tmp_path)
    seen: list[Progress] = []
    with pytest.raises(StoreError, match="cut"):
        pull(store, store.entries("out"), lambda key: key, tmp_path / "home", lambda _: None, on_progress=seen.append)
    assert seen[-1] == Progress(0, 10_000_000, 0, 1)


TWICE = """\
name: twice
infra: local
data: {source: .}
run: |
  attempt=$(ls $CLOUDRUN_OUTPUT | wc -l)
  echo $attempt > $CLOUDRUN_OUTPUT/attempt-$attempt.txt
  [ $attempt = 0 ] || sleep 300
"""


def test_a_run_that_is_resumed_while_it_is_fetched_is_not_taken_for_home(shell: Shell) -> None:
    """Else the next attempt's machine would be ended with results that nobody has."""
    run_id = shell("launch", "-d", shell.job(TWICE)).out.strip()
    folder = shell.home / "local" / run_id
    until = time.monotonic() + 60
    while not (folder / "result.json").exists():
        assert time.monotonic() < until
        time.sleep(0.02)
    ledger = Ledger(shell.home)
    resumed: list[int] = []

    def resume(_: Entry) -> None:
        resumed.append(shell("resume", "-d", "--yes", run_id).code)

    with pytest.raises(StoreError, match="was resumed while it was fetched"):
        copy_home(ledger.get(run_id), ledger, to=None, listener=Listener(on_file=resume))
    assert resumed == [0]
    assert not ledger.get(run_id).home_complete
    assert not (folder / "home").exists()


def test_what_a_command_calls_as_the_files_of_a_fetched_run_are_called_is_kept_beside_them(shell: Shell) -> None:
    job = "name: own\ninfra: local\ndata: {source: .}\nrun: echo mine > $CLOUDRUN_OUTPUT/log.txt; echo shown\n"
    run_id = shell("launch", shell.job(job)).out.strip()
    home = shell.folder / "runs" / run_id
    assert (home / "out" / "log.txt").read_text() == "mine\n"
    assert "shown\n" in (home / "log.txt").read_text()


def test_fetching_a_finished_run_ends_its_bill(shell: Shell) -> None:
    run_id = shell("launch", "-d", shell.job(TINY)).out.strip()
    assert shell("logs").code == 0  # follows to the end
    assert shell("ps", "--json").json[0]["billing"] is True
    assert shell("fetch", "--json").json["complete"] is True
    assert shell("ps", "--json").json == []
    assert json.loads((shell.folder / "runs" / run_id / "cost.json").read_text())["is_final"] is True


def test_only_the_best_checkpoint_is_fetched_when_asked_for(shell: Shell) -> None:
    shell("launch", shell.job(TINY))
    target = shell.folder / "submission"
    assert shell("fetch", "--best", "--to", str(target)).code == 0
    assert [path.name for path in target.rglob("*") if path.is_file()] == ["best.pt"]


def test_fetching_elsewhere_leaves_the_runs_home_where_it_is(shell: Shell) -> None:
    run_id = shell("launch", shell.job(TINY)).out.strip()
    assert shell("fetch", "--to", "copy").code == 0
    assert shell("report").out.strip() == str(shell.folder / "runs" / run_id / "report.html")


def test_a_folder_without_a_name_is_no_place_to_fetch_to(shell: Shell) -> None:
    shell("launch", shell.job(TINY))
    assert shell("fetch", "--to", "").code == 2
