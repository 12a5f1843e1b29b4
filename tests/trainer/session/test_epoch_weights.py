"""Which epochs' weights are kept, where, and what a resumed run finds of them."""

from pathlib import Path

import torch

from cloudrun.recipe.train_config import TrainConfig
from trainer.distributed.ranks import ALONE
from trainer.outputs.scoring import ACCURACY
from trainer.outputs.writer import CheckpointWriter
from trainer.session.epoch_weights import EpochWeights

ACCURACIES = [0.1, 0.5, 0.3, 0.5, 0.7, 0.2]


def after(folder: Path, epochs: int, config: TrainConfig, *, writes: int | None = None) -> EpochWeights:
    """`writes`: the epoch after which files are written for the last time; None: after each."""
    kept, writer = EpochWeights(folder), CheckpointWriter()
    for epoch, accuracy in enumerate(ACCURACIES[:epochs], start=1):
        weights = {"weight": torch.full((2,), float(epoch))}
        kept.add(config, epoch, weights, metric=ACCURACY, value=accuracy, loss=1.0)
        if writes is None or epoch <= writes:
            kept.write(writer)
    writer.wait()
    return kept


def test_the_best_epochs_are_kept_in_as_many_files(tmp_path: Path) -> None:
    kept = after(tmp_path, 6, TrainConfig(soup=3))
    assert [one.epoch for one in kept.best_first(ACCURACY)] == [5, 2, 4]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["soup-0.pt", "soup-1.pt", "soup-2.pt"]
    for one in kept.soup:
        assert kept.weights_of(one)["weight"].tolist() == [one.epoch] * 2
    kept.remove_files()
    assert list(tmp_path.iterdir()) == []


def test_the_last_epochs_are_averaged_and_those_of_a_shorter_plan_are_not(tmp_path: Path) -> None:
    kept = after(tmp_path, 6, TrainConfig(epochs=6, swa_epochs=3))
    assert kept.swa.epochs == (4, 5, 6)
    assert kept.swa.weights is not None
    assert kept.swa.weights["weight"].tolist() == [5, 5]
    longer = TrainConfig(epochs=8, swa_epochs=3)  # the run goes on from its end
    for epoch in (7, 8):
        kept.add(longer, epoch, {"weight": torch.full((2,), float(epoch))}, metric=ACCURACY, value=0.1, loss=1.0)
    assert kept.swa.epochs == (7, 8)


def test_nothing_is_kept_where_nothing_is_averaged(tmp_path: Path) -> None:
    kept = after(tmp_path, 6, TrainConfig())
    assert (kept.soup, kept.swa.epochs, list(tmp_path.iterdir())) == ([], (), [])


def test_a_run_that_was_killed_between_two_files_gathers_the_same_epochs_again(tmp_path: Path) -> None:
    config = TrainConfig(soup=2, swa_epochs=3, epochs=6)
    saved = after(tmp_path, 4, config).as_plain()  # the last checkpoint
    whole = after(tmp_path, 6, config)  # what was written after it
    again, writer = EpochWeights.from_plain(saved, tmp_path, ALONE), CheckpointWriter()
    assert [one.epoch for one in again.soup] == [2]  # the file of epoch 4 is that of epoch 5 now
    for epoch in (5, 6):
        weights = {"weight": torch.full((2,), float(epoch))}
        again.add(config, epoch, weights, metric=ACCURACY, value=ACCURACIES[epoch - 1], loss=1.0)
        again.write(writer)
    writer.wait()
    assert [one.epoch for one in again.best_first(ACCURACY)] == [one.epoch for one in whole.best_first(ACCURACY)]
    assert again.swa.epochs == whole.swa.epochs == (4, 5, 6)
    for one in again.soup:
        assert again.weights_of(one)["weight"].tolist() == [one.epoch] * 2


def test_a_damaged_file_is_left_out(tmp_path: Path) -> None:
    saved = after(tmp_path, 4, TrainConfig(soup=2)).as_plain()
    (tmp_path / "soup-0.pt").write_bytes(b"no checkpoint")
    assert len(EpochWeights.from_plain(saved, tmp_path, ALONE).soup) == 1
