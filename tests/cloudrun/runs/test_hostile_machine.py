"""Whatever a machine leaves under the names that we read, commands end as the contract says, and the bill ends."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from cloudrun.runs.accounts import write_accounts
from cloudrun.state.records import Phase
from cloudrun.stores.s3 import S3Store
from tests.support.bad_files import BAD
from tests.support.desk import MOMENT, RESULT, STATUS, Desk
from tests.support.seaweedfs import BUCKET, SeaweedFS

OF_THE_WORKER = (
    "result.json", "status.json", "order.json", "log.index", "question.json", "worker.pid", "worker.err", "home",
)  # fmt: skip
OUTPUTS = ("summary.json", "metrics.jsonl", "progress.json", "cost.json", "report.html", "predictions.csv")


def replace(path: Path, kind: str) -> None:
    path.unlink(missing_ok=True)
    BAD[kind](path)
    if kind == "gigabytes" and path.parent.name == "out":  # they come home
        os.truncate(path, 33_000_000 if path.name in ("summary.json", "metrics.jsonl") else 1_000_000)


@pytest.mark.parametrize(
    "kind", ["garbage", "empty", "a list", "deep", "400 digits", "gigabytes", "a folder", "a pipe", "a socket"]
)
def test_no_file_of_a_machine_keeps_its_bill_going_or_stops_another_run(desk: Desk, kind: str) -> None:
    worker, job = desk.ended_run("bad-worker"), desk.ended_run("bad-job")
    desk.ended_run("healthy")
    for name in OF_THE_WORKER:
        replace(worker / name, kind)
    for name in OUTPUTS:
        replace(job / "out" / name, kind)
    typed = [
        desk("ps", "--json"),
        *(desk(*words, run) for run in ("bad-worker", "bad-job") for words in (("logs", "--no-follow"), ("report",))),
        desk("cost", "--all", "--json"),
        desk("down", "--all"),
        desk("cost", "bad-job"),
    ]
    assert [one.code for one in typed if one.code not in (0, 1)] == [], [one.err for one in typed]
    assert len(typed[0].json) == 3
    assert len(typed[-3].json) == 3
    assert typed[-2].code == 0, typed[-2].err
    assert [run.run_id for run in desk.ledger.all() if run.may_bill or run.released_at is None] == []
    assert list((desk.ledger.home / "local").iterdir()) == []
    for run_id in ("bad-worker", "bad-job", "healthy"):
        assert (desk.home(run_id) / "best.pt").read_bytes() == b"weights"
        assert json.loads((desk.home(run_id) / "cost.json").read_text())["is_final"] is True
    assert desk("ps", "--json").json == []


def test_a_result_that_cannot_be_read_is_an_end_that_nobody_knows_and_is_kept(desk: Desk) -> None:
    (desk.ended_run() / "result.json").write_bytes(b"garb\xffage")
    down = desk("down")
    run = desk.ledger.get("plants-1")
    assert (run.phase, run.exit_code, run.may_bill) == (Phase.FAILED, 1, False)
    assert "how it ended is not known: its result.json cannot be read (not JSON: it begins with 'garb" in run.message
    assert f"it is kept as {desk.home()}/result.json.unreadable" in down.err
    assert (desk.home() / "result.json.unreadable").read_bytes() == b"garb\xffage"
    assert desk("logs").code == 1


def test_a_reason_of_a_newer_worker_is_an_end_that_failed_and_names_it(desk: Desk) -> None:
    newer = {**RESULT, "reason": "evaporated", "exit_code": 9, "message": "the sun came out", "new": {"key": 1}}
    (desk.ended_run() / "result.json").write_text(json.dumps(newer))
    assert desk("down").code == 0
    run = desk.ledger.get("plants-1")
    assert (run.phase, run.exit_code) == (Phase.FAILED, 9)
    assert run.message == "it ended by a reason that this cloudrun does not know: evaporated; the sun came out"


def test_phases_without_their_keys_are_left_out_of_the_receipt(desk: Desk) -> None:
    phases: list[Any] = [{"a": 1}, 5, {**RESULT["phases"][0], "seconds": 1e300}, *RESULT["phases"]]
    (desk.ended_run() / "result.json").write_text(json.dumps({**RESULT, "phases": phases}))
    assert desk("down").code == 0
    (cost,) = desk("cost", "--json").json
    trained = [phase for phase in cost["phases"] if phase["name"] not in ("idle", "upload", "release")]
    assert [(phase["name"], phase["duration_s"]) for phase in trained] == [("train", 2.0)]
    assert desk.ledger.get("plants-1").phase is Phase.SUCCEEDED


def test_a_heartbeat_with_wrong_fields_is_used_without_them(desk: Desk) -> None:
    place = desk.ended_run()
    (place / "result.json").unlink()
    odd = {**STATUS, "epoch": "one", "eta_s": float("nan"), "projected_usd": 10**400, "phases": [{"a": 1}]}
    (place / "status.json").write_text(json.dumps(odd))
    (shown,) = desk("ps", "--all", "--json").json
    assert (shown["epoch"], shown["epochs"], shown["eta_s"]) == (None, 3, None)


@pytest.mark.parametrize(
    ("summary", "named"),
    [
        ({"train_seconds": float("nan"), "images_per_s": "fast"}, "`images_per_s`, `train_seconds`"),
        ({"val_accuracy": 10**400, "findings": 5}, "`findings`, `val_accuracy`"),
        ({"unreadable_images": 7, "test_recall": {"rust": "high"}}, "`test_recall`, `unreadable_images`"),
        ({"images_per_s": -1, "evaluation_seconds": float("inf")}, "`evaluation_seconds`, `images_per_s`"),
    ],
)
def test_a_summary_is_used_without_what_does_not_belong_there_and_comes_home_as_it_is(
    desk: Desk, summary: dict[str, object], named: str
) -> None:
    content = json.dumps({"test_accuracy": 0.75, **summary})
    (desk.ended_run() / "out" / "summary.json").write_text(content)
    down = desk("down")
    assert down.code == 0
    assert f"summary.json is used without {named}: not what belongs there" in down.err
    assert (desk.home() / "summary.json").read_text() == content
    assert "75.0%" in (desk.home() / "report.html").read_text()
    measured = desk.ledger.get("plants-1").measured
    assert measured is not None
    assert measured.images_per_s is None


def test_rows_of_metrics_that_are_none_are_counted_and_left_out(desk: Desk) -> None:
    row = {"kind": "val", "epoch": 1, "loss": 0.5, "accuracy": 0.5, "time": MOMENT}
    odd = [
        {**row, "loss": 10**400}, {**row, "epoch": -(10**30)}, {**row, "time": "9999-12-31T23:59:59-12:00"},
        {**row, "accuracy": float("nan")}, {**row, "loss": 1e300},
    ]  # fmt: skip
    path = desk.ended_run() / "out" / "metrics.jsonl"
    path.write_text("".join(json.dumps(one) + "\n" for one in [row, *odd]) + "[" * 100_000 + "\n{half")
    assert "metrics.jsonl: 6 line(s) that are no row of a trainer's are left out" in desk("down").err
    (cost,) = desk("cost", "--json").json
    assert [epoch["epoch"] for epoch in cost["epochs"]] == [1]


def test_names_and_kinds_of_files_that_cannot_come_home_stop_nothing(desk: Desk) -> None:
    out = desk.ended_run() / "out"
    for name in ("log.txt", "report.html", "summary.json", "cost.json.partial", "out", "renamed"):
        (out / name).mkdir()
        (out / name / "x").write_text(name)
    longest = "l" * 240 + ".txt"
    (out / longest).write_text("long")
    deep = out.joinpath(*["d"] * 300)
    deep.mkdir(parents=True)
    (deep / "deep.txt").write_text("deep")
    os.mkfifo(out / "pipe")
    (out / "lost").symlink_to("nowhere")
    (out / os.fsdecode(b"bad\xff\nname")).write_bytes(b"weights")
    shown = desk("fetch", "--dry-run")
    assert shown.code == 0
    down = desk("down")
    assert down.code == 0, down.err
    for said in ("left out: pipe (neither a file nor a folder)", "left out: lost (a link that leads nowhere)"):
        assert said in down.err
    assert "is at home as renamed/" in down.err
    home = desk.home()
    for name in ("log.txt", "report.html", "summary.json", "cost.json.partial", "out", "renamed"):
        assert (home / "out" / name / "x").read_text() == name
    assert (home / "log.txt").read_text() == "one line\n"
    assert (home / longest).read_text() == "long"
    (renamed,) = (home / "renamed").iterdir()
    assert (renamed.name[-8:], renamed.read_text()) == ("deep.txt", "deep")
    assert (home / os.fsdecode(b"bad\xff\nname")).read_bytes() == b"weights"


def test_a_file_that_has_become_a_folder_since_the_last_fetch_moves_the_old_one_aside(desk: Desk) -> None:
    place = desk.ended_run()
    (place / "result.json").unlink()
    (place / "out" / "a").write_text("old")
    (place / "out" / "b").mkdir()
    (place / "out" / "b" / "c").write_text("old")
    assert desk("fetch").code == 0
    (place / "out" / "a").unlink()
    (place / "out" / "a").mkdir()
    (place / "out" / "a" / "new").write_text("new")
    (place / "out" / "b" / "c").unlink()
    (place / "out" / "b").rmdir()
    (place / "out" / "b").write_text("new")
    assert desk("down").code == 0
    home = desk.home()
    assert ((home / "a" / "new").read_text(), (home / "b").read_text()) == ("new", "new")
    assert ((home / "a.earlier-1").read_text(), (home / "b.earlier-1" / "c").read_text()) == ("old", "old")


def test_an_account_that_cannot_be_made_is_said_and_keeps_neither_the_others_nor_a_bill(desk: Desk) -> None:
    desk.ended_run()
    run = desk.ledger.get("plants-1")
    said: list[str] = []
    write_accounts(run.model_copy(update={"job": {"odd": object()}}), desk.folder, said.append)
    assert [line.partition(": ")[0] for line in said] == [
        f"{desk.folder}/{name} cannot be written" for name in ("job.yaml", "report.html")
    ]
    assert json.loads((desk.folder / "cost.json").read_text())["run_id"] == "plants-1"


def test_one_run_that_cannot_be_ended_does_not_keep_the_others(desk: Desk) -> None:
    stuck = desk.ended_run("plants-1")
    desk.ended_run("plants-2")
    (stuck / "worker.pid").write_text("not a number")
    (desk.ledger.home / "ledger" / "plants-0.json").write_text("[" * 200_000)
    with (stuck / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # its worker lives
        (stuck / "result.json").write_text(json.dumps(RESULT))
        down = desk("down", "--all")
    assert down.code == 1
    assert "the processes of `plants-1` did not end" in down.err
    assert "plants-0.json cannot be read: nested too deeply" in down.err
    assert [run.run_id for run in desk.ledger.all() if run.may_bill] == ["plants-1"]
    assert desk("down", "plants-1").code == 0


def test_an_unreadable_result_in_a_bucket_ends_a_run_whose_machine_is_gone(
    desk: Desk, seaweedfs: SeaweedFS, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in seaweedfs.env.items():
        monkeypatch.setenv(name, value)
    uri = f"s3://{BUCKET}/{desk.folder.name}"
    shutil.rmtree(desk.ended_run(store_uri=uri, endpoint=seaweedfs.endpoint))
    bucket = S3Store(uri, seaweedfs.endpoint)
    odd = {
        "result.json": b"[1]",
        "status.json": b"[" * 10_000,
        "log.txt": b"line\n",
        "out/a": b"a",
    }
    for key, content in odd.items():
        bucket.put(key, content)
    down = desk("down")
    assert down.code == 0, down.err
    run = desk.ledger.get("plants-1")
    assert (run.phase, run.may_bill, run.home_complete) == (Phase.FAILED, False, True)
    assert (desk.home() / "result.json.unreadable").read_bytes() == b"[1]"
    assert (desk.home() / "a").read_bytes() == b"a"
