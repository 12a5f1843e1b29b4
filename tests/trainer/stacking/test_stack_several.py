"""Stacking where an image may have several classes, or none: each class is learned alone, from what all of them say."""

import io
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from cloudrun.recipe.train_config import TrainConfig
from tests.support.fold_runs import FOLDS, a_run, labels, opinions, stacked
from trainer.atomic import write_json
from trainer.cli import main
from trainer.cross_validation.train_folds import train_folds
from trainer.distributed.stop import StopFlag
from trainer.errors import TrainerError
from trainer.model.targets import DecisionRule, tune_thresholds
from trainer.outputs.predictions import Predictions, read_predictions, write_oof, write_test_predictions
from trainer.outputs.progress import Progress
from trainer.stacking.differences import Answer, Difference, compare
from trainer.stacking.learners import LEARNERS, Floats, Mask, sigmoid
from trainer.stacking.stack import ALL, AVERAGE, TEMPERED

CLASSES = ("healthy", "rust", "scab")
HALF = DecisionRule((0.5,) * len(CLASSES), allows_none=True)


def sets_of(wanted: Mask) -> tuple[tuple[str, ...], ...]:
    return tuple(tuple(CLASSES[at] for at in np.flatnonzero(row)) for row in wanted)


def diseases(count: int, *, seed: int = 0, healthy: bool = True) -> Mask:
    """Rust and scab come as they like; an image with neither is healthy, or has no class at all."""
    wanted = np.random.default_rng(seed).random((count, len(CLASSES))) < 0.4
    wanted[:, 0] = healthy & ~wanted[:, 1:].any(axis=1)
    return wanted


def odds_of(wanted: Mask, *, skill: float, seed: int) -> Floats:
    """Log-odds that tell what is there by `skill`, in noise of deviation 1."""
    noise = np.random.default_rng(seed).normal(size=wanted.shape)
    return np.asarray(noise + skill * (wanted - 0.5), dtype=np.float64)


def several_run(folder: Path, odds: Floats, wanted: Mask, *, test: Floats | None = None) -> Path:
    """What `folds` leaves with `labels: FILE` of several classes an image."""
    for fold in range(FOLDS):
        rows = np.flatnonzero(np.arange(len(wanted)) % FOLDS == fold)
        images = tuple(f"train/{row:04d}.jpg" for row in rows)
        part = Predictions(CLASSES, images, torch.from_numpy(sigmoid(odds[rows])), sets_of(wanted[rows]))
        write_oof(folder / f"fold-{fold}" / "oof.csv", part, HALF)
        if test is not None:
            images = tuple(f"test/{row:04d}.jpg" for row in range(len(test)))
            for path in (folder / f"fold-{fold}" / "predictions.csv", folder / "predictions.csv"):
                said = Predictions(CLASSES, images, torch.from_numpy(sigmoid(test + 0.1 * fold)))
                write_test_predictions(path, said, HALF)
    limits = dict.fromkeys(CLASSES, 0.5)
    write_json(folder / "summary.json", {"folds": FOLDS, "thresholds": limits, "calibration": {"is_applied": False}})
    return folder


def confused(odds: Floats) -> Floats:
    """What is rust is called scab, and the other way about."""
    return odds[:, [0, 2, 1]]


@pytest.mark.parametrize("healthy", [True, False])
def test_a_confusion_of_the_network_is_mended_by_each_learner(healthy: bool, tmp_path: Path) -> None:
    wanted, of_test = diseases(300, healthy=healthy), diseases(90, seed=1, healthy=healthy)
    if not healthy:
        wanted[::7, 0] = of_test[::7, 0] = True  # a class like any other, and images without a class
    odds, test = odds_of(wanted, skill=8, seed=2), odds_of(of_test, skill=8, seed=3)
    run = several_run(tmp_path / "run", confused(odds), wanted, test=confused(test))
    summary, said = stacked([run], tmp_path / "out", metric="macro_f1")
    macro_f1 = {name: one["macro_f1"] for name, one in summary["methods"].items()}
    assert max(macro_f1.pop(AVERAGE), macro_f1.pop(TEMPERED)) < 0.8
    assert set(macro_f1) == {*LEARNERS, ALL}
    assert min(macro_f1.values()) > 0.95
    assert summary["chosen"] in macro_f1
    assert said[1].endswith("macro F1 against `average`")
    assert said[-1].startswith(f"chosen: {summary['chosen']}, whose macro F1 is better by ")

    rule = DecisionRule(tuple(summary["thresholds"].values()), allows_none=not healthy)
    for name, truth in (("oof.csv", wanted), ("predictions.csv", of_test)):
        rows = read_predictions(tmp_path / "out" / name)
        assert (rule.predicted(rows.probabilities).numpy() == truth).all(axis=1).mean() > 0.9
        labelled = [line.split(",")[1] for line in (tmp_path / "out" / name).read_text().splitlines()[1:]]
        assert labelled == ["|".join(one) for one in sets_of(rule.predicted(rows.probabilities).numpy())]
        assert ("" in labelled) == (not healthy)


def test_a_class_is_learned_from_what_is_said_of_the_others(tmp_path: Path) -> None:
    wanted = diseases(600)
    odds = odds_of(wanted, skill=8, seed=1)
    odds[:, 0] = np.random.default_rng(2).normal(size=len(wanted))  # who is healthy it has not learned
    summary, _ = stacked([several_run(tmp_path / "run", odds, wanted)], tmp_path / "out", metric="log_loss")
    log_loss = {name: one["log_loss"] for name, one in summary["methods"].items()}
    assert all(log_loss[name] < log_loss[TEMPERED] / 2 for name in (*LEARNERS, ALL))
    assert summary["methods"]["all"]["per_class"]["healthy"]["f1"] > 0.9


def test_labels_of_chance_are_learned_by_none(tmp_path: Path) -> None:
    wanted, others = diseases(900, healthy=False), diseases(900, seed=1, healthy=False)
    wanted[:, 0], others[:, 0] = wanted[:, 1], others[:, 1]
    run = several_run(tmp_path / "run", odds_of(others, skill=3, seed=2), wanted)
    methods = stacked([run], tmp_path / "out")[0]["methods"]
    shares = wanted.mean(axis=0)
    nothing_known = -(shares * np.log(shares) + (1 - shares) * np.log(1 - shares)).mean()
    for name in (*LEARNERS, ALL):
        assert methods[name]["log_loss"] > nothing_known - 0.01, name
        assert methods[name]["roc_auc"] == pytest.approx(0.5, abs=0.06), name


def test_a_class_that_all_images_have_stays_as_the_networks_say(tmp_path: Path) -> None:
    wanted = diseases(120)
    wanted[:, 0] = True
    run = several_run(tmp_path / "run", odds_of(wanted, skill=4, seed=1), wanted)
    summary, _ = stacked([run], tmp_path / "out", learners={"logistic": LEARNERS["logistic"][1]}, metric="log_loss")
    assert summary["methods"]["logistic"]["per_class"]["healthy"]["recall"] == 1
    assert summary["thresholds"].keys() == set(CLASSES)


def test_a_class_that_is_in_one_fold_only_stays_there_as_the_networks_say(tmp_path: Path) -> None:
    wanted = diseases(120)
    wanted[:, 1] = False
    wanted[0, 1] = True  # of one image, which those who judge it never see
    run = several_run(tmp_path / "run", odds_of(wanted, skill=8, seed=1), wanted)
    summary, _ = stacked([run], tmp_path / "out", metric="log_loss")
    assert all(one["per_class"]["rust"]["images"] == 1 for one in summary["methods"].values())
    assert summary["methods"]["logistic"]["log_loss"] < 0.1


def test_thresholds_move_with_the_probabilities_however_small_they_become() -> None:
    wanted = np.random.default_rng(0).random((1000, 1)) < 0.02
    odds = odds_of(wanted, skill=6, seed=1) - 3
    predicted = []
    for temperature in (1.0, 0.3, 0.1):
        probabilities = torch.from_numpy(sigmoid(odds / temperature))
        limits = tune_thresholds(probabilities, torch.from_numpy(wanted))
        predicted.append(DecisionRule(tuple(limits), allows_none=True).predicted(probabilities))
    assert torch.equal(predicted[0], predicted[1])
    assert torch.equal(predicted[0], predicted[2])


def test_runs_with_one_class_an_image_and_with_several_do_not_fit_together(tmp_path: Path) -> None:
    truth = labels(30)
    one = a_run(tmp_path / "one", opinions(truth, skill=1, seed=0), truth)
    several = several_run(tmp_path / "several", odds_of(diseases(30), skill=1, seed=0), diseases(30))
    with pytest.raises(TrainerError, match="an image may have several classes in one of them only"):
        stacked([one, several], tmp_path / "out")


def test_a_class_that_the_header_lacks_is_named(tmp_path: Path) -> None:
    run = several_run(tmp_path / "run", odds_of(diseases(30), skill=1, seed=0), diseases(30))
    path = run / "fold-1" / "oof.csv"
    path.write_text(path.read_text().replace(",rust|scab,0", ",rust|mould,0", 1))
    with pytest.raises(TrainerError, match=r"the truth of `train/\d+.jpg` is `rust\|mould`"):
        stacked([run], tmp_path / "out")


def answer(odds: Floats, wanted: Mask) -> Answer:
    images = tuple(map(str, range(len(wanted))))
    return Answer(Predictions(CLASSES, images, torch.from_numpy(sigmoid(odds)), sets_of(wanted)), HALF)


def test_the_error_of_a_difference_of_macro_f1_is_that_of_other_images() -> None:
    """A hundred draws of 300 images differ from each other as much as one of them says that they would."""

    def draw(seed: int) -> Difference:
        wanted = diseases(300, seed=seed)
        better, worse = (odds_of(wanted, skill=skill, seed=seed + 1000) for skill in (2.5, 2.0))
        return compare(
            Answer(answer(better, wanted).predictions, HALF), Answer(answer(worse, wanted).predictions, HALF)
        )

    found = [draw(seed) for seed in range(100)]
    spread = float(np.std([one.macro_f1 for one in found], ddof=1))
    assert np.mean([one.macro_f1_error for one in found]) == pytest.approx(spread, rel=0.25)
    assert np.mean([one.macro_f1 for one in found]) > 0.02


def test_a_difference_counts_images_and_classes_as_the_table_does() -> None:
    wanted: NDArray[np.bool_] = np.array([[1, 0, 0], [0, 1, 1], [0, 1, 0], [0, 0, 0]], dtype=bool)
    right = np.where(wanted, 2.0, -2.0)
    wrong = right.copy()
    wrong[1, 2], wrong[3, 0] = -1.0, 1.0  # scab is missed, and nothing is called healthy
    found = compare(answer(right, wanted), answer(wrong, wanted))
    assert (found.won, found.lost, found.accuracy) == (2, 0, 0.5)
    assert found.macro_f1 == pytest.approx(1 - (2 / 3 + 1 + 0) / 3)
    lost = np.log1p(np.exp([[0, 0, 1.0], [1.0, 0, 0]])).sum() - 2 * np.log1p(np.exp(-2.0)) - 4 * np.log(2)
    assert found.log_loss == pytest.approx(lost / wanted.size)


def test_from_images_to_a_submission_with_features(
    plants: Path, tmp_path: Path, tiny_config: Callable[..., TrainConfig], capsys: pytest.CaptureFixture[str]
) -> None:
    config = tiny_config(backbones="test_resnet", epochs=1, folds=2)
    quiet = Progress(stream=io.StringIO())
    labelled = plants / "train.csv"
    train_folds(config, data=plants, labels=labelled, out=tmp_path / "folds", stop=StopFlag(), progress=quiet)
    out = tmp_path / "stacked"
    words = ["stack", "--runs", str(tmp_path / "folds"), "--out", str(out), "--learners", "logistic,lightgbm"]
    assert main([*words, "--features", "--data", str(plants), "--device", "cpu", "--metric", "macro_f1"]) == 0
    assert "1 run(s), 2 folds, 44 images, 6 columns to learn from" in capsys.readouterr().err
    summary = json.loads((out / "stacking.json").read_text())
    assert summary["thresholds"].keys() == {"healthy", "rust", "scab"}
    assert read_predictions(out / "oof.csv").truth == read_predictions(tmp_path / "folds" / "oof.csv").truth

    images = read_predictions(out / "predictions.csv").images
    sample, submission = tmp_path / "sample.csv", tmp_path / "submission.csv"
    sample.write_text("image,labels\n" + "".join(f"{image},rust scab\n" for image in images))
    paths = ["--predictions", str(out / "predictions.csv"), "--sample", str(sample), "--out", str(submission)]
    assert main(["submit", *paths]) == 0
    assert len(submission.read_text().splitlines()) == len(images) + 1
