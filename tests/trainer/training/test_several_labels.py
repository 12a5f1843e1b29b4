"""Images with several labels: what is learned, how it is scored, and what predictions say."""

import csv
import json
import math
import os
import random
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch

from cloudrun.imagedata.folders import Dataset, list_dataset
from cloudrun.imagedata.holdout import hold_out_for
from cloudrun.imagedata.labels import list_labelled
from cloudrun.recipe.train_config import TrainConfig
from tests.support.trainer_runs import StopsAfter, assert_same_run
from trainer.config_file import load_config
from trainer.cross_validation.train_folds import train_folds
from trainer.distributed.stop import StopFlag
from trainer.errors import StoppedEarly
from trainer.model.targets import DecisionRule, Targets, f_scores, targets_of, tune_thresholds
from trainer.outputs.progress import Progress
from trainer.session.scores import Scores
from trainer.tools.overfit import overfit
from trainer.tools.predict import predict
from trainer.training.engine import train

Config = Callable[..., TrainConfig]
Train = Callable[..., dict[str, Any]]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, plants: Path) -> Path:
    """The output of `python -m trainer train --labels train.csv`."""
    from trainer.cli import main

    out = tmp_path_factory.mktemp("finished")
    config = out / "config.yaml"
    config.write_text(
        "backbones: [test_resnet]\npretrained: false\nimage_size: 32\nepochs: 3\nbatch_size: 8\nwarmup_epochs: 1\n"
        "device: cpu\nworkers: 0\nlr: 3.0e-3\n"
    )
    words = ["train", "--config", str(config), "--data", str(plants), "--labels", "train.csv", "--out", str(out)]
    assert main(words) == 0
    return out


def table(path: Path) -> list[dict[str, str]]:
    with path.open() as file:
        return list(csv.DictReader(file))


def test_each_image_gets_its_labels_and_a_probability_for_each_class(finished: Path) -> None:
    rows = table(finished / "predictions.csv")
    summary = json.loads((finished / "summary.json").read_text())
    assert list(rows[0]) == ["image", "label", "confidence", "healthy", "rust", "scab"]
    assert len(rows) == 12
    for row in rows:
        predicted = row["label"].split("|")
        above = [name for name in summary["classes"] if float(row[name]) > summary["thresholds"][name]]
        most_probable = max(summary["classes"], key=lambda name: float(row[name]))
        assert predicted == (above or [most_probable])
        assert float(row["confidence"]) == min(float(row[name]) for name in predicted)


def test_the_summary_scores_what_the_predictions_say(finished: Path, plants: Path) -> None:
    """Counted anew from both files, in plain Python."""
    true = {row["image"]: set(row["labels"].split()) for row in table(plants / "train.csv")}
    predicted = {row["image"]: set(row["label"].split("|")) for row in table(finished / "predictions.csv")}
    summary = json.loads((finished / "summary.json").read_text())
    for name in summary["classes"]:
        hits = sum(name in labels and name in true[image] for image, labels in predicted.items())
        total = sum((name in labels) + (name in true[image]) for image, labels in predicted.items())
        assert summary["test_f1"][name] == pytest.approx(2 * hits / total)
    assert summary["test_macro_f1"] == pytest.approx(sum(summary["test_f1"].values()) / 3)
    assert summary["test_accuracy"] == sum(labels == true[image] for image, labels in predicted.items()) / 12


def test_the_best_epoch_is_that_of_the_highest_macro_f1(finished: Path) -> None:
    rows = [json.loads(line) for line in (finished / "metrics.jsonl").read_text().splitlines()]
    val = [row for row in rows if row["kind"] == "val"]
    best = max(val, key=lambda row: (row["macro_f1"], -row["loss"]))
    summary = json.loads((finished / "summary.json").read_text())
    assert (summary["metric_name"], summary["best_metric"]) == ("val_macro_f1", best["macro_f1"])
    assert (summary["best_epoch"], summary["val_accuracy"]) == (best["epoch"], best["accuracy"])


def test_predict_names_as_the_run_did(finished: Path, plants: Path, tmp_path: Path) -> None:
    predict(finished / "checkpoints" / "best.pt", data=plants, out=tmp_path / "again.csv", device="cpu")
    assert (tmp_path / "again.csv").read_bytes() == (finished / "predictions.csv").read_bytes()


def test_a_run_that_was_stopped_is_the_run_that_never_stopped(finished: Path, plants: Path, tmp_path: Path) -> None:
    config = load_config(finished / "config.yaml")
    with Path(os.devnull).open("w") as nowhere:
        for asked in (2, 5, 3, 99):
            with suppress(StoppedEarly):
                train(
                    config,
                    data=plants,
                    labels=plants / "train.csv",
                    out=tmp_path,
                    stop=StopsAfter(asked),
                    progress=Progress(stream=nowhere),
                )
    assert_same_run(tmp_path, finished)


def test_folds_name_several_labels_at_thresholds_of_all_folds_together(plants: Path, tmp_path: Path) -> None:
    config = TrainConfig(
        backbones="test_resnet", pretrained=False, image_size=32, epochs=2, batch_size=8, device="cpu", workers=0,
        folds=2, lr=3e-3,
    )  # fmt: skip
    with Path(os.devnull).open("w") as nowhere:
        progress = Progress(stream=nowhere)
        summary = train_folds(
            config,
            data=plants,
            labels=plants / "train.csv",
            out=tmp_path,
            calibrate=True,
            stop=StopFlag(),
            progress=progress,
        )
    rows = table(tmp_path / "oof.csv")
    assert len(rows) == summary["out_of_fold"]["images"] == 44
    assert {"rust|scab"} <= {row["truth"] for row in rows}
    limits = summary["thresholds"]
    for row in rows:
        above = [name for name in ("healthy", "rust", "scab") if float(row[name]) > limits[name]]
        assert row["label"].split("|") == above or not above
    right = sum(row["label"] == row["truth"] for row in rows) / len(rows)
    assert summary["out_of_fold"]["accuracy"] == pytest.approx(right)
    assert len(table(tmp_path / "predictions.csv")) == 12


def test_one_batch_with_several_labels_is_learned_by_heart(plants: Path, tiny_config: Config) -> None:
    said: list[str] = []
    config = tiny_config(lr=3e-3, batch_size=16, backbones=["test_resnet"])
    assert overfit(config, data=plants, labels=plants / "train.csv", steps=120, say=said.append), said


def test_labels_in_a_file_train_as_the_same_labels_in_folders(leaves: Path, tmp_path: Path) -> None:
    rows = [f"{path.relative_to(leaves)},{path.parent.name}" for path in sorted(leaves.rglob("*.jpg"))]
    (tmp_path / "labels.csv").write_text("\n".join(["image,label", *rows]) + "\n")
    by_file = list_labelled(leaves, tmp_path / "labels.csv")
    assert by_file == list_dataset(leaves)


def test_a_tenth_of_each_set_of_labels_is_held_out_and_rare_sets_share(tmp_path: Path) -> None:
    counts = {(0,): 40, (1,): 20, (0, 1): 20, (2,): 6, (1, 2): 3, (0, 2): 1}
    sets = tuple(sorted(counts))
    files = [(tmp_path / f"{name}.jpg", sets.index(name[:-1])) for key, count in counts.items()
             for name in [(*key, index) for index in range(count)]]  # fmt: skip
    random.Random(1).shuffle(files)
    dataset = Dataset(tmp_path, ("a", "b", "c"), {"train": tuple(files)}, label_sets=sets)
    train, val = hold_out_for(dataset, fraction=0.1, seed=0)
    assert sorted(train + val) == list(range(90))
    held = Counter(sets[files[index][1]] for index in val)
    assert (held[(0,)], held[(1,)], held[(0, 1)]) == (4, 2, 2)
    assert held[(2,)] + held[(1, 2)] + held[(0, 2)] == 1  # ten images with c are drawn together
    assert hold_out_for(dataset, fraction=0.1, seed=0) == (train, val)


def test_an_image_that_is_alone_with_its_class_trains(tmp_path: Path) -> None:
    files = [(tmp_path / f"{index}.jpg", 0 if index else 1) for index in range(12)]
    dataset = Dataset(tmp_path, ("a", "b"), {"train": tuple(files)}, label_sets=((0,), (1,)))
    train, val = hold_out_for(dataset, fraction=0.1, seed=0)
    assert 0 in train
    assert len(val) == 1


def test_the_loss_of_several_classes_is_binary_cross_entropy() -> None:
    targets = Targets(torch.tensor([[1.0, 0.0], [1.0, 1.0]]))
    logits, labels = torch.tensor([[2.0, -1.0], [0.0, 0.0]]), torch.tensor([0, 1])
    of_first = -(math.log(1 / (1 + math.exp(-2.0))) + math.log(1 / (1 + math.exp(-1.0)))) / 2
    assert targets.losses(logits, labels).tolist() == [pytest.approx(of_first), pytest.approx(math.log(2))]
    certain = torch.tensor([[50.0, -50.0], [50.0, 50.0]])
    assert targets.losses(certain, labels).tolist() == [pytest.approx(0)] * 2
    assert targets.losses(certain, labels, smoothing=0.1).tolist() == [pytest.approx(50 * 0.05)] * 2
    assert int(targets.correct(certain, labels)) == 2
    assert int(targets.correct(-certain, labels)) == 0


@pytest.mark.parametrize(
    ("probabilities", "wanted", "threshold"),
    [
        ([0.9, 0.8, 0.2, 0.1], [1, 1, 0, 0], 0.5),
        ([0.3, 0.25, 0.1, 0.05], [1, 1, 0, 0], 0.175),
        ([0.9, 0.8, 0.7], [1, 0, 0], 0.85),
        ([0.4, 0.4, 0.1], [1, 0, 0], 0.25),
        ([0.4, 0.3], [0, 0], 0.5),
    ],
)
def test_a_threshold_is_where_f1_is_highest(probabilities: list[float], wanted: list[int], threshold: float) -> None:
    found = tune_thresholds(torch.tensor(probabilities)[:, None], torch.tensor(wanted)[:, None])
    assert found == [pytest.approx(threshold)]


def test_no_other_threshold_gives_a_higher_f1() -> None:
    dice = torch.Generator().manual_seed(0)
    wanted = torch.rand(60, 3, generator=dice) < 0.3
    probabilities = (torch.rand(60, 3, generator=dice) + 0.4 * wanted) / 1.4
    autotune = f_scores(probabilities > torch.tensor(tune_thresholds(probabilities, wanted)), wanted)
    for threshold in torch.linspace(0, 1, 101).tolist():
        other = f_scores(probabilities > threshold, wanted)
        assert all((mine or 0) >= (theirs or 0) for mine, theirs in zip(autotune, other, strict=True))


def test_an_image_without_a_class_is_predicted_only_where_there_are_such_images() -> None:
    probabilities = torch.tensor([[0.1, 0.2], [0.9, 0.2]])
    assert DecisionRule((0.5, 0.5), allows_none=True).predicted(probabilities).tolist() == [
        [False, False],
        [True, False],
    ]
    assert DecisionRule((0.5, 0.5)).predicted(probabilities).tolist() == [[False, True], [True, False]]
    assert DecisionRule().predicted(probabilities).tolist() == [[False, True], [True, False]]


def test_scores_of_several_classes_are_rated_at_given_thresholds_or_the_best() -> None:
    targets = Targets(torch.tensor([[1.0, 0.0], [0.0, 1.0]]))
    scores = Scores(torch.tensor([[-1.0, -3.0], [-4.0, -0.5]]), torch.tensor([0, 1]), targets)
    best = scores.rate()
    assert (best.accuracy, best.macro_f1, best.recalls, best.f1) == (1.0, 1.0, [1.0, 1.0], [1.0, 1.0])
    assert scores.rate([0.0, 0.0]).accuracy == 0.0


def test_label_sets_become_rows_of_0_and_1(tmp_path: Path) -> None:
    targets = targets_of(Dataset(tmp_path, ("a", "b", "c"), {}, label_sets=((), (0, 2))))
    assert targets.wanted(torch.tensor([1, 0])).tolist() == [[1.0, 0.0, 1.0], [0.0, 0.0, 0.0]]
    assert targets.allows_none
