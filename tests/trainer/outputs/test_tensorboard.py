"""The event file for TensorBoard: its records, and that it holds just the rows of metrics.jsonl."""

from __future__ import annotations

import json
import shutil
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.checkout import CHECKOUT
from trainer.outputs.metrics import MetricsLog
from trainer.outputs.tensorboard import crc32c

READ = """
import json, sys
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
events = EventAccumulator(sys.argv[1])
events.Reload()
tags = events.Tags()["scalars"]
print(json.dumps({tag: [[one.step, one.value] for one in events.Scalars(tag)] for tag in tags}))
"""


def a_log(folder: Path) -> MetricsLog:
    """Two epochs, of which the second was written again after a resume."""
    log = MetricsLog(folder / "metrics.jsonl")
    append(log, epoch=1)
    checkpoint = log.text
    append(log, epoch=2)
    log = MetricsLog(folder / "metrics.jsonl", checkpoint)
    append(log, epoch=2)
    return log


def append(log: MetricsLog, *, epoch: int) -> None:
    figures = {"epoch": epoch, "step": 200 * epoch, "lr": 0.25 / epoch, "images_per_s": 50.0}
    log.append("train", loss=1.0 / epoch, accuracy=0.25 * epoch, wait_share=0.125, **figures)  # type: ignore[arg-type]
    log.append("val", loss=2.0 / epoch, accuracy=0.125 * epoch, metric=("auc", 0.5), **figures)  # type: ignore[arg-type]


def event_file(folder: Path) -> Path:
    (path,) = (folder / "tensorboard").iterdir()
    return path


def records(content: bytes) -> Iterator[bytes]:
    """Yield the content of each record, whose checksums are compared."""
    while content:
        head, rest = content[:8], content[12:]
        (length,) = struct.unpack("<Q", head)
        assert content[8:12] == masked(head)
        assert rest[length : length + 4] == masked(rest[:length])
        yield rest[:length]
        content = rest[length + 4 :]


def masked(content: bytes) -> bytes:
    crc = crc32c(content)
    return struct.pack("<I", (((crc >> 15) | (crc << 17)) + 0xA282EAD8) % 2**32)


def test_the_checksum_is_that_of_rfc_3720() -> None:
    vectors = {b"123456789": 0xE3069283, bytes(32): 0x8A9136AA, b"\xff" * 32: 0x62A8AB43, bytes(range(32)): 0x46DD794E}
    assert {text: crc32c(text) for text in vectors} == vectors


def test_the_file_has_the_version_and_a_record_a_row_also_after_a_resume(tmp_path: Path) -> None:
    log = a_log(tmp_path)
    version, *rows = records(event_file(tmp_path).read_bytes())
    assert b"brain.Event:2" in version
    assert len(rows) == len(log.rows()) == 4
    assert [b"\x10\xc8\x01" in row for row in rows] == [True, True, False, False]  # step 200 as a varint
    assert b"\x0a\x0atrain/loss\x15\x00\x00\x80\x3f" in rows[0]  # tag, and 1.0 as a float
    assert b"\x0a\x02lr\x15\x00\x00\x80\x3e" in rows[0]
    assert b"val/auc" in rows[1]


def test_a_process_that_is_not_the_main_one_writes_no_file(tmp_path: Path) -> None:
    MetricsLog(None).append("val", epoch=1, step=1, loss=1, accuracy=1, lr=1, images_per_s=1)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_tensorboard_itself_reads_the_curves(tmp_path: Path) -> None:
    a_log(tmp_path / "out")
    tags = read_by_tensorboard(tmp_path, tmp_path / "out" / "tensorboard")
    assert tags["train/loss"] == [[200, 1.0], [400, 0.5]]
    assert tags["val/accuracy"] == [[200, 0.125], [400, 0.25]]
    assert tags["lr"] == [[200, 0.25], [400, 0.125]]
    assert tags["val/auc"] == [[200, 0.5], [400, 0.5]]


def read_by_tensorboard(place: Path, folder: Path) -> dict[str, Any]:
    uv = shutil.which("uv") or str(CHECKOUT / ".uv" / "bin" / "uv")
    subprocess.run([uv, "venv", "-q", "--python", sys.executable, place / "venv"], check=True)
    python = place / "venv" / "bin" / "python"
    subprocess.run([uv, "pip", "install", "-q", "--python", python, "tensorboard"], check=True)
    done = subprocess.run([python, "-c", READ, folder], check=True, capture_output=True, text=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found
