"""Checkpoints are written beside training: what was handed over is on disk, whatever training does meanwhile."""

import threading
from pathlib import Path

import pytest
import torch

from trainer.errors import TrainerError
from trainer.outputs import checkpoint
from trainer.outputs.writer import CheckpointWriter, snapshot

PAUSE_S = CheckpointWriter.pause_s  # not as the other tests have it


def test_what_is_written_is_what_was_there_when_it_was_handed_over(tmp_path: Path) -> None:
    model = torch.nn.Linear(300, 300)
    optimizer = torch.optim.AdamW(model.parameters())
    writer = CheckpointWriter()
    expected = []
    for number in range(5):
        model(torch.ones(1, 300)).sum().backward()
        optimizer.step()
        expected.append(model.weight.detach().clone())
        writer.save({"model": model.state_dict(), "optimizer": optimizer.state_dict()}, tmp_path / f"{number}.pt")
        with torch.no_grad():
            model.weight.add_(1)
    writer.wait()
    for number in range(5):
        state = checkpoint.load(tmp_path / f"{number}.pt")
        assert torch.equal(state["model"]["weight"], expected[number])
        assert float(state["optimizer"]["state"][0]["step"]) == number + 1


def test_a_snapshot_shares_no_memory_and_keeps_its_shape() -> None:
    value = {"a": [torch.zeros(2), 1.5], "b": (torch.ones(2), "text"), "c": None}
    copy = snapshot(value)
    value["a"][0].fill_(7)
    assert copy["a"][0].tolist() == [0, 0]
    assert (copy["a"][1], copy["b"][1], copy["c"], type(copy["b"])) == (1.5, "text", None, tuple)


def test_files_are_written_in_order_and_by_another_thread(tmp_path: Path) -> None:
    writer = CheckpointWriter()
    for number in range(6):
        writer.save({"number": number}, tmp_path / "last.pt")
    writer.wait()
    assert checkpoint.load(tmp_path / "last.pt")["number"] == 5
    assert [thread.name for thread in threading.enumerate() if thread.name == "checkpoints"]


def test_a_checkpoint_that_cannot_be_written_ends_the_run_with_its_reason(tmp_path: Path) -> None:
    (tmp_path / "checkpoints").write_text("a file where a folder has to be")
    writer = CheckpointWriter()
    writer.save({}, tmp_path / "checkpoints" / "last.pt")
    with pytest.raises(TrainerError, match=r"last.pt cannot be written: .*exists") as caught:
        writer.wait()
    assert "disk" in caught.value.hint
    with pytest.raises(TrainerError, match="cannot be written"):
        writer.save({}, tmp_path / "other.pt")
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoints"]


def test_checkpoints_are_as_far_apart_as_keeps_them_cheap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = CheckpointWriter()
    assert PAUSE_S(writer) == 0
    written = threading.Event()

    def save_slowly(*_: object) -> None:
        written.wait(0.2)

    monkeypatch.setattr(checkpoint, "save", save_slowly)
    writer.save({}, tmp_path / "last.pt")
    writer.wait()
    assert PAUSE_S(writer) > 1.5  # ten times as long as the disk takes
    for _ in range(3):  # two have room; training waits for the third, and fifty times as long is the pause
        writer.save({}, tmp_path / "last.pt")
    assert PAUSE_S(writer) > 3
    writer.wait()
