"""A whole run in this process: what it writes, that it learns, and that its seed decides all of it."""

import csv
import io
import json
import multiprocessing
import os
import shutil
import signal
import tempfile
from pathlib import Path

import pytest
import timm
import torch

from cloudrun.imagedata.folders import FolderProblem
from cloudrun.recipe.train_config import TrainConfig
from tests.support.trainer_runs import (
    TINY,
    Config,
    StopsAfter,
    Train,
    assert_same_predictions,
    assert_same_run,
    rows,
    weights,
)
from trainer.distributed.ranks import ALONE
from trainer.distributed.stop import StopFlag
from trainer.errors import ConfigError, StoppedEarly, TrainerError
from trainer.model.ensemble import Ensemble
from trainer.outputs import checkpoint
from trainer.outputs.progress import Progress
from trainer.outputs.writer import CheckpointWriter
from trainer.session.device import choose_device
from trainer.session.state import load_into, open_state
from trainer.tools.overfit import overfit
from trainer.tools.predict import predict
from trainer.training.engine import train


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, leaves: Path) -> Path:
    """The output of a run that nothing disturbed."""
    out = tmp_path_factory.mktemp("finished")
    with (out / "said.txt").open("w") as said:
        config = TrainConfig.model_validate(TINY)
        train(config, data=leaves, out=out, stop=StopFlag(), progress=Progress(out=out, stream=said))
    return out


def test_a_run_writes_metrics_summary_predictions_and_checkpoints(finished: Path) -> None:
    assert [(row["kind"], row["epoch"], row["step"]) for row in rows(finished)] == [
        (kind, epoch, 4 * epoch) for epoch in (1, 2, 3) for kind in ("train", "val")
    ]
    summary = json.loads((finished / "summary.json").read_text())
    assert summary["metric_name"] == "val_accuracy"
    best = max(rows(finished)[1::2], key=lambda row: (row["accuracy"], -row["loss"]))
    assert (summary["best_epoch"], summary["best_metric"]) == (best["epoch"], best["accuracy"])
    assert 0 <= summary["test_accuracy"] <= 1
    assert summary["classes"] == ["healthy", "multiple", "rust", "scab"]
    assert summary["stopped_early"] is False
    progress = json.loads((finished / "progress.json").read_text())
    assert {"epoch", "epochs", "step", "steps", "images_per_s", "eta_s", "loss", "timing", "time"} == set(progress)
    assert (progress["epoch"], progress["step"], progress["eta_s"]) == (3, progress["steps"], 0)
    assert sorted(path.name for path in (finished / "checkpoints").iterdir()) == ["best.pt", "last.pt"]
    pictured = [json.loads(line)["image"] for line in (finished / "thumbnails.jsonl").read_text().splitlines()]
    judged = [line.split(",")[0] for line in (finished / "predictions-val.csv").read_text().splitlines()[1:]]
    assert pictured
    assert set(pictured) <= set(judged)
    seen = [json.loads(line) for line in (finished / "augmented.jsonl").read_text().splitlines()]
    assert [one["kind"] for one in seen] == ["augmented"] * 8  # a batch has 8
    assert {one["label"] for one in seen} <= set(summary["classes"])


def test_a_run_says_how_long_its_parts_took_so_that_the_next_one_can_be_estimated(finished: Path) -> None:
    summary = json.loads((finished / "summary.json").read_text())
    assert summary["evaluated_images"] == 3 * 12 + 12  # each epoch's validation, and test
    assert summary["evaluation_seconds"] > 0
    timing = json.loads((finished / "progress.json").read_text())["timing"]
    assert timing["timed_steps"] == 3 * 4 - 3  # the first ones warm up
    assert (timing["steps_left"], timing["evaluation_is_measured"]) == (0, True)
    assert timing["evaluation_left_s"] > 0  # test is still to come


def test_predictions_name_each_test_image_with_its_probabilities(finished: Path, leaves: Path) -> None:
    with (finished / "predictions.csv").open() as file:
        table = list(csv.DictReader(file))
    classes = ["healthy", "multiple", "rust", "scab"]
    assert list(table[0]) == ["image", "label", "confidence", *classes]
    assert [row["image"] for row in table] == sorted(
        path.relative_to(leaves).as_posix() for path in (leaves / "test").rglob("*.jpg")
    )
    for row in table:
        assert sum(float(row[name]) for name in classes) == pytest.approx(1, abs=1e-5)
        assert row["confidence"] == row[row["label"]] == max(row[name] for name in classes)


def test_predict_gives_what_the_run_gave(finished: Path, leaves: Path, tmp_path: Path) -> None:
    predict(finished / "checkpoints" / "best.pt", data=leaves, out=tmp_path / "again.csv", device="cpu")
    assert_same_predictions(tmp_path / "again.csv", finished / "predictions.csv")


def test_with_tta_the_run_and_predict_see_test_images_in_all_views(
    finished: Path, leaves: Path, tmp_path: Path, tiny_config: Config, train_quietly: Train
) -> None:
    summary = train_quietly(tiny_config(tta="dihedral", tta_sizes=[1, 2]), leaves, tmp_path)
    assert rows(tmp_path) == rows(finished)  # validation is as it was
    for name in ("predictions.csv", "predictions-val.csv"):
        assert (tmp_path / name).read_bytes() != (finished / name).read_bytes()
    predict(tmp_path / "checkpoints" / "best.pt", data=leaves, out=tmp_path / "again.csv", device="cpu")
    assert_same_predictions(tmp_path / "again.csv", tmp_path / "predictions.csv")
    with (tmp_path / "predictions-val.csv").open() as file:
        judged = [row["truth"] == row["label"] for row in csv.DictReader(file)]
    assert summary["val_metric_with_views"] == pytest.approx(sum(judged) / len(judged))
    assert summary["views"] == 16
    assert summary["evaluated_images"] == 3 * 12 + (12 + 12) * (8 + 8 * 4)  # by pixels


def test_a_run_says_early_what_it_rests_on(finished: Path) -> None:
    said = (finished / "said.txt").read_text()
    for words in ("device: CPU", "classes: healthy 8, multiple 8", "352 features", "batch: 8", "first step after"):
        assert words in said


def test_two_runs_of_one_seed_are_the_same(finished: Path, leaves: Path, tmp_path: Path, tiny_config: Config,
                                           train_quietly: Train) -> None:  # fmt: skip
    train_quietly(tiny_config(), leaves, tmp_path)
    assert_same_run(tmp_path, finished)


def test_decoded_images_are_kept_while_a_run_goes_on_and_change_no_number(
    finished: Path, leaves: Path, tmp_path: Path, tiny_config: Config, train_quietly: Train,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    kept = tmp_path / f"cloudrun-pixels-{os.getuid()}"
    with pytest.raises(StoppedEarly):
        train_quietly(tiny_config(), leaves, tmp_path / "kept", StopsAfter(9))
    assert len(list(kept.glob("*.pixels"))) == 2  # of train and of val
    train_quietly(tiny_config(), leaves, tmp_path / "kept")
    assert list(kept.iterdir()) == []
    with Spoilt(6, 10), pytest.raises(TrainerError):
        train_quietly(tiny_config(), leaves, tmp_path / "failed")
    assert list(kept.iterdir()) == []
    train_quietly(tiny_config(cache_gb=0), leaves, tmp_path / "none")
    for name in ("kept", "none"):
        assert_same_run(tmp_path / name, finished)


def test_a_run_stopped_at_many_instants_is_the_run_that_never_stopped(
    finished: Path, leaves: Path, tmp_path: Path, tiny_config: Config, train_quietly: Train
) -> None:
    stops = 0
    for asked in (0, 1, 2, 3, 4, 5, 1, 99):
        try:
            train_quietly(tiny_config(), leaves, tmp_path, StopsAfter(asked))
        except StoppedEarly:
            stops += 1
            assert json.loads((tmp_path / "summary.json").read_text())["stopped_early"] is True
    assert stops == 7
    assert_same_run(tmp_path, finished)


def test_a_finished_run_stays_as_it_is(finished: Path, leaves: Path, tiny_config: Config, train_quietly: Train) -> None:
    before = rows(finished)
    train_quietly(tiny_config(), leaves, finished)
    assert rows(finished) == before


def test_another_config_does_not_go_on_with_a_run(
    finished: Path, leaves: Path, tiny_config: Config, train_quietly: Train
) -> None:
    with pytest.raises(ConfigError, match=r"`lr` was 0.0003 and is now 0.01, `seed` was 0 and is now 1") as caught:
        train_quietly(tiny_config(lr=0.01, seed=1, workers=1), leaves, finished)
    assert "another `--out`" in caught.value.hint


def test_a_finished_run_goes_on_when_it_is_given_more_epochs(
    finished: Path, leaves: Path, tmp_path: Path, tiny_config: Config, train_quietly: Train
) -> None:
    shutil.copytree(finished, tmp_path / "longer")
    train_quietly(tiny_config(epochs=4), leaves, tmp_path / "longer")
    assert rows(tmp_path / "longer")[:6] == rows(finished)
    assert [row["epoch"] for row in rows(tmp_path / "longer")[6:]] == [4, 4]


def test_a_checkpoint_without_loss_scaling_goes_on_on_a_card_that_needs_it(
    finished: Path, leaves: Path, tmp_path: Path, tiny_config: Config
) -> None:
    """As from a card with bf16, or a CPU, to one with fp16 alone."""
    saved = checkpoint.load(finished / "checkpoints" / "last.pt")
    run = open_state(
        tiny_config(), data=leaves, labels=None, out=tmp_path, progress=Progress(stream=io.StringIO()), ranks=ALONE
    )
    run.setup.scaler = torch.amp.GradScaler("cpu", enabled=True)
    load_into(run, saved)
    assert run.position.epoch == saved["epoch"]
    assert run.setup.scaler.get_scale() == 65536.0


def test_accumulated_micro_batches_train_like_the_whole_batch(
    leaves: Path, tmp_path: Path, tiny_config: Config, train_quietly: Train
) -> None:
    summary = train_quietly(tiny_config(epochs=1, batch_size=16, micro_batch=3), leaves, tmp_path)
    assert (summary["batch_size"], summary["micro_batch"]) == (16, 3)
    assert rows(tmp_path)[0]["step"] == 2


def test_a_loss_that_is_not_finite_ends_the_run_and_names_the_step(
    leaves: Path, tmp_path: Path, tiny_config: Config, train_quietly: Train
) -> None:
    broken = tmp_path / "weights"
    broken.mkdir()
    state = timm.create_model("test_resnet").state_dict()
    next(iter(state.values())).fill_(float("nan"))
    torch.save(state, broken / "test_resnet.pth")
    config = tiny_config(backbones=["test_resnet"], pretrained=str(broken))
    with pytest.raises(TrainerError, match="the loss is not finite at step 1"):
        train_quietly(config, leaves, tmp_path / "out")
    assert not (tmp_path / "out" / "checkpoints" / "last.pt").exists()


@pytest.mark.parametrize("workers", [0, 1])
def test_images_that_cannot_be_read_are_named_once_and_skipped(
    leaves: Path, tmp_path: Path, tiny_config: Config, workers: int
) -> None:
    data = tmp_path / "data"
    shutil.copytree(leaves, data)
    page = sorted((data / "train" / "rust").iterdir())[0]
    page.write_text("<html>")
    cut = [sorted((data / split / "scab").iterdir())[0] for split in ("train", "val")]
    for path in cut:
        path.write_bytes(path.read_bytes()[:700])
    config = tiny_config(max_unreadable=0.1, workers=workers)
    with (tmp_path / "said.txt").open("w") as said:
        train(config, data=data, out=tmp_path / "out", stop=StopFlag(), progress=Progress(stream=said))
    warnings = [line for line in (tmp_path / "said.txt").read_text().splitlines() if line.startswith("warning")]
    assert [line.split()[1] for line in warnings] == [str(path) for path in (page, *cut)]
    assert warnings[0].endswith("cannot be read as an image: unrecognised image format; skipped (1 so far)")
    assert "truncated" in warnings[2]
    assert warnings[2].endswith("skipped (3 so far)")
    assert [row["step"] for row in rows(tmp_path / "out")] == [4, 4, 8, 8, 12, 12]
    names = sorted(path.relative_to(data).as_posix() for path in (page, *cut))
    assert json.loads((tmp_path / "out" / "summary.json").read_text())["unreadable_images"] == names
    said_text = (tmp_path / "said.txt").read_text()
    assert "skipped: 3 image(s) that could not be read; summary.json names them\n" in said_text
    assert torch.load(tmp_path / "out" / "checkpoints" / "last.pt", weights_only=True)["unreadable"] == names


def test_too_many_images_that_cannot_be_read_end_the_run(
    leaves: Path, tmp_path: Path, tiny_config: Config, train_quietly: Train
) -> None:
    shutil.copytree(leaves, tmp_path / "data")
    for path in sorted((tmp_path / "data" / "train" / "rust").iterdir())[:3]:
        path.write_bytes(path.read_bytes()[:700])
    with pytest.raises(FolderProblem, match=r"truncated.*; it is number 3 of 44 images") as caught:
        train_quietly(tiny_config(max_unreadable=0.05), tmp_path / "data", tmp_path / "out")
    assert "`max_unreadable` is 0.05" in caught.value.hint


def test_a_test_image_that_cannot_be_read_is_found_before_training(
    leaves: Path, tmp_path: Path, tiny_config: Config, train_quietly: Train
) -> None:
    shutil.copytree(leaves, tmp_path / "data")
    next((tmp_path / "data" / "test").rglob("*.jpg")).write_text("<html>")
    with pytest.raises(FolderProblem, match="unrecognised image format"):
        train_quietly(tiny_config(max_unreadable=0.5), tmp_path / "data", tmp_path / "out")
    assert not (tmp_path / "out" / "metrics.jsonl").exists()


def test_the_best_model_has_the_averaged_weights_and_training_goes_on_with_its_own(
    leaves: Path, tmp_path: Path, tiny_config: Config, train_quietly: Train
) -> None:
    train_quietly(tiny_config(epochs=1, ema_decay=0.9), leaves, tmp_path)
    state = torch.load(tmp_path / "checkpoints" / "last.pt", weights_only=True)
    key = "head.weight"
    assert torch.equal(weights(tmp_path, "best.pt")[key], state["ema"]["average"][key])
    assert not torch.equal(state["model"][key], state["ema"]["average"][key])


def test_averaged_weights_are_validated_and_survive_stops(
    leaves: Path, tmp_path: Path, tiny_config: Config, train_quietly: Train
) -> None:
    config = tiny_config(epochs=2, ema_decay=0.9)
    train_quietly(config, leaves, tmp_path / "whole")
    for asked in (2, 5):
        with pytest.raises(StoppedEarly):
            train_quietly(config, leaves, tmp_path / "stopped", StopsAfter(asked))
    train_quietly(config, leaves, tmp_path / "stopped")
    assert_same_run(tmp_path / "stopped", tmp_path / "whole")
    train_quietly(tiny_config(epochs=2), leaves, tmp_path / "plain")
    plain, whole = weights(tmp_path / "plain"), weights(tmp_path / "whole")
    assert all(torch.equal(plain[key], values) for key, values in whole.items())
    losses = [[row["loss"] for row in rows(tmp_path / name)] for name in ("whole", "plain")]
    assert losses[0][::2] == losses[1][::2]  # training goes on with its own weights
    assert losses[0][1] != losses[1][1]


def test_checkpoints_that_cost_too_much_are_written_at_the_end_and_at_a_stop(
    finished: Path, leaves: Path, tmp_path: Path, tiny_config: Config, train_quietly: Train,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(CheckpointWriter, "pause_s", lambda _: 1e9)
    written: list[str] = []
    write = checkpoint.save
    monkeypatch.setattr(checkpoint, "save", lambda state, path: (written.append(path.name), write(state, path)))
    config = tiny_config(checkpoint_minutes=1000)
    train_quietly(config, leaves, tmp_path / "whole")
    assert written == ["best.pt", "last.pt"]
    with pytest.raises(StoppedEarly):
        train_quietly(config, leaves, tmp_path / "stopped", StopsAfter(9))
    assert written[2:] == ["best.pt", "last.pt"]
    train_quietly(config, leaves, tmp_path / "stopped")
    for name in ("whole", "stopped"):
        assert_same_run(tmp_path / name, finished)


def test_the_best_model_so_far_is_written_when_a_run_fails_between_checkpoints(
    leaves: Path, tmp_path: Path, tiny_config: Config, train_quietly: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(CheckpointWriter, "pause_s", lambda _: 1e9)
    with pytest.raises(TrainerError, match="a process that loads images has died"):
        train_quietly(tiny_config(workers=1, checkpoint_minutes=1000), leaves, tmp_path, KillsALoader(at_question=8))
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["best.pt"]
    assert checkpoint.load(tmp_path / "checkpoints" / "best.pt")["epoch"] in (1, 2)  # batches may be there ahead


def test_a_best_model_that_is_newer_than_the_last_checkpoint_keeps_its_own_score(
    finished: Path, leaves: Path, tmp_path: Path, tiny_config: Config, train_quietly: Train
) -> None:
    """A GPU that trains the same epoch again may not reach the score of the best.pt that is there."""
    with pytest.raises(StoppedEarly):
        train_quietly(tiny_config(), leaves, tmp_path, StopsAfter(9))
    newer = checkpoint.load(finished / "checkpoints" / "best.pt")
    newer["best"] |= {"epoch": 3, "accuracy": 0.99}
    checkpoint.save(newer, tmp_path / "checkpoints" / "best.pt")
    run = open_state(
        tiny_config(), data=leaves, labels=None, out=tmp_path, progress=Progress(stream=io.StringIO()), ranks=ALONE
    )
    assert (run.best.epoch, run.best.accuracy, run.position.epoch) == (3, 0.99, 2)


class KillsALoader(StopFlag):
    """At the second question, or another one: there is one before each step, and after each batch of an evaluation."""

    def __init__(self, at_question: int = 2) -> None:
        super().__init__()
        self._left = at_question

    def raise_if_set(self) -> None:
        self._left -= 1
        if not self._left:
            os.kill(multiprocessing.active_children()[0].pid or 0, signal.SIGKILL)


def test_a_loader_that_is_killed_ends_the_run_with_a_hint_and_leaves_no_process(
    leaves: Path, tmp_path: Path, tiny_config: Config, train_quietly: Train
) -> None:
    with pytest.raises(TrainerError, match="a process that loads images has died") as caught:
        train_quietly(tiny_config(workers=1), leaves, tmp_path, KillsALoader())
    assert "memory" in caught.value.hint
    assert multiprocessing.active_children() == []


@pytest.fixture
def saves_each_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Save after each epoch, however slow the disk is: from where a run goes on depends on that."""
    monkeypatch.setattr(CheckpointWriter, "pause_s", lambda _: 0.0)


class Spoilt:
    """While entered, the model's logits in training are not finite at the given steps of this process, from 1."""

    def __init__(self, *steps: int) -> None:
        self._steps, self._seen = steps, 0

    def __enter__(self) -> "Spoilt":
        self._hook = torch.nn.modules.module.register_module_forward_hook(self._spoil)
        return self

    def __exit__(self, *_: object) -> None:
        self._hook.remove()

    def _spoil(self, module: torch.nn.Module, _: object, logits: torch.Tensor) -> torch.Tensor | None:
        if not isinstance(module, Ensemble) or not module.training:
            return None
        self._seen += 1
        return logits * float("nan") if self._seen in self._steps else None


def lrs(out: Path) -> list[float]:
    return [row["lr"] for row in rows(out)[::2]]


@pytest.mark.usefixtures("saves_each_epoch")
def test_after_a_loss_that_is_not_finite_the_last_checkpoint_goes_on_with_a_tenth_of_the_rate(
    finished: Path, leaves: Path, tmp_path: Path, tiny_config: Config
) -> None:
    with (tmp_path / "said.txt").open("w") as said, Spoilt(6):
        train(tiny_config(), data=leaves, out=tmp_path, stop=StopFlag(), progress=Progress(stream=said))
    assert rows(tmp_path)[:2] == rows(finished)[:2]
    assert lrs(tmp_path) == pytest.approx([lrs(finished)[0], *(lr / 10 for lr in lrs(finished)[1:])])
    warning = (
        "warning: the loss is not finite at step 6; the last checkpoint is from before it; back to epoch 2, step 0"
    )
    assert warning in (tmp_path / "said.txt").read_text()


def test_without_a_checkpoint_it_begins_again_with_a_tenth_of_the_rate(
    finished: Path, leaves: Path, tmp_path: Path, tiny_config: Config, train_quietly: Train
) -> None:
    with Spoilt(2):
        train_quietly(tiny_config(), leaves, tmp_path / "spoilt")
    assert lrs(tmp_path / "spoilt") == pytest.approx([lr / 10 for lr in lrs(finished)])
    train_quietly(tiny_config(lr=3e-5), leaves, tmp_path / "low")  # nothing of the spoilt weights is left
    assert rows(tmp_path / "spoilt")[0]["loss"] == rows(tmp_path / "low")[0]["loss"]


@pytest.mark.usefixtures("saves_each_epoch")
def test_a_second_loss_that_is_not_finite_ends_the_run_also_after_a_resume(
    leaves: Path, tmp_path: Path, tiny_config: Config, train_quietly: Train
) -> None:
    with Spoilt(6, 13), pytest.raises(TrainerError, match=r"at step 9; .*0.1 of the learning rate had already"):
        train_quietly(tiny_config(), leaves, tmp_path)
    with Spoilt(2), pytest.raises(TrainerError, match=r"at step 10; .*0.1 of the learning rate had already"):
        train_quietly(tiny_config(), leaves, tmp_path)
    train_quietly(tiny_config(), leaves, tmp_path)
    assert lrs(tmp_path)[2] < lrs(tmp_path)[1] / 2


def test_one_batch_is_learned_by_heart(leaves: Path, tiny_config: Config) -> None:
    said: list[str] = []
    assert overfit(tiny_config(lr=3e-3, batch_size=16), data=leaves, steps=60, say=said.append)
    assert "learned by heart" in said[-1]


def test_a_rate_that_is_far_too_low_is_found(leaves: Path, tiny_config: Config) -> None:
    said: list[str] = []
    assert not overfit(tiny_config(lr=1e-7), data=leaves, steps=2, say=said.append)
    assert "hint: try `lr`" in said[-1]


@pytest.mark.skipif(torch.cuda.is_available(), reason="says what happens without a GPU")
def test_a_gpu_that_was_asked_for_and_does_not_work_ends_the_run_at_once() -> None:
    with pytest.raises(TrainerError, match="torch cannot use one: no CUDA device found"):
        choose_device(TrainConfig(device="cuda"), {})
    with pytest.raises(TrainerError, match="a GPU was asked for"):
        choose_device(TrainConfig(), {"CLOUDRUN_EXPECT_GPU": "1"})
    assert choose_device(TrainConfig(device="cpu"), {"CLOUDRUN_EXPECT_GPU": "1"}).precision == "fp32"
