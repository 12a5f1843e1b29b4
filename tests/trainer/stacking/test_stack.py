"""Stacking: what is learned from the folds' out-of-fold predictions, judged as the folds are, beside the average."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from cloudrun.recipe.train_config import MetricName, TrainConfig
from tests.support.checkout import CHECKOUT
from tests.support.fold_runs import CLASSES, FOLDS, a_run, even_folds, labels, opinions, stacked
from trainer.cli import main
from trainer.cross_validation.train_folds import train_folds
from trainer.distributed.stop import StopFlag
from trainer.errors import ConfigError, TrainerError
from trainer.model.targets import DecisionRule
from trainer.outputs.predictions import Predictions, read_predictions
from trainer.outputs.progress import Progress
from trainer.outputs.scoring import Metric, judged_of
from trainer.stacking.differences import Answer, Difference, choose, compare, differences_to
from trainer.stacking.learners import LEARNERS, Floats, Ints
from trainer.stacking.stack import AVERAGE, TEMPERED


def confused(sure: Floats) -> Floats:
    """What is healthy is called rust, and the other way about."""
    return sure[:, [0, 2, 1]]


def right_of(path: Path, truth: Ints) -> float:
    rows = read_predictions(path)
    return float((rows.probabilities.argmax(1).numpy() == truth).mean())


def test_a_confusion_of_the_network_is_mended_by_each_learner(tmp_path: Path) -> None:
    truth, of_test = labels(300), labels(90, seed=1)
    sure, test = opinions(truth, skill=3, seed=2), opinions(of_test, skill=3, seed=3)
    run = a_run(tmp_path / "run", confused(sure), truth, test=confused(test))
    summary, said = stacked([run], tmp_path / "out")
    accuracy = {name: one["accuracy"] for name, one in summary["methods"].items()}
    assert accuracy.pop(AVERAGE) < 0.4
    assert accuracy.pop(TEMPERED) < 0.4
    assert set(accuracy) == {*LEARNERS, "all"}
    assert min(accuracy.values()) > 0.9
    assert summary["chosen"] != AVERAGE
    assert right_of(tmp_path / "out" / "oof.csv", truth) == accuracy[summary["chosen"]]
    assert right_of(tmp_path / "out" / "predictions.csv", of_test) > 0.9
    assert said[0] == "1 run(s), 3 folds, 300 images, 3 columns to learn from"
    assert [line.split()[0] for line in said[1:]] == ["method", "average", "tempered", *LEARNERS, "all", "chosen:"]


def test_runs_that_know_different_classes_are_better_together(tmp_path: Path) -> None:
    truth = labels(300)
    first, second = opinions(truth, skill=4, seed=1), opinions(truth, skill=4, seed=2)
    noise = 6 * np.random.default_rng(3).normal(size=(2, len(truth)))
    first[:, 2], second[:, 0] = noise  # what they say of rust, and of blight, is worth nothing
    runs = [a_run(tmp_path / "a", first, truth), a_run(tmp_path / "b", second, truth)]
    summary, said = stacked(runs, tmp_path / "out", metric="log_loss")
    log_loss = {name: one["log_loss"] for name, one in summary["methods"].items()}
    assert summary["columns"] == 6
    assert all(log_loss[name] < log_loss[TEMPERED] < log_loss[AVERAGE] for name in (*LEARNERS, "all"))
    assert said[-2].startswith(f"chosen: {summary['chosen']}, whose log loss is better by ")
    assert said[-1] == "the runs have no test images: there is no predictions.csv"


def test_labels_of_chance_are_learned_by_none(tmp_path: Path) -> None:
    draws, count, chance = range(4), 600, 1 / len(CLASSES)
    found = []
    for draw in draws:
        sure = opinions(labels(count, seed=10 + draw), skill=3, seed=draw)  # of other labels
        run = a_run(tmp_path / f"{draw}", sure, labels(count, seed=20 + draw))
        found.append(stacked([run], tmp_path / f"{draw}" / "out")[0]["methods"])
    error = (chance * (1 - chance) / (len(draws) * count)) ** 0.5
    for name in found[0]:
        assert np.mean([one[name]["accuracy"] for one in found]) == pytest.approx(chance, abs=3 * error), name


def test_the_average_is_kept_where_nothing_is_better_and_is_that_of_all_models(tmp_path: Path) -> None:
    truth = labels(90)
    sure = [opinions(truth, skill=30, seed=seed) for seed in (1, 2)]
    test = [opinions(truth[:9], skill=1, seed=seed) for seed in (3, 4)]
    runs = [a_run(tmp_path / f"{at}", sure[at], truth, test=test[at]) for at in (0, 1)]
    summary, said = stacked(runs, tmp_path / "out")
    assert summary["chosen"] == AVERAGE
    assert said[-1].startswith("chosen: average, as none beats its accuracy by more than")
    models = [read_predictions(run / f"fold-{fold}" / "predictions.csv") for run in runs for fold in range(FOLDS)]
    mean = torch.stack([one.probabilities for one in models]).mean(0)
    assert torch.allclose(read_predictions(tmp_path / "out" / "predictions.csv").probabilities, mean, atol=1e-6)


def test_the_same_command_gives_the_same_bytes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    truth, of_test = labels(120), labels(20, seed=1)
    sure, test = opinions(truth, skill=1, seed=2), opinions(of_test, skill=1, seed=3)
    runs = [a_run(tmp_path / f"{at}", sure + at, truth, test=confused(test)) for at in (0, 1)]
    outs = [tmp_path / "once", tmp_path / "again"]
    for out in outs:
        assert main(["stack", "--runs", *map(str, runs), "--out", str(out), "--metric", "log_loss"]) == 0
        assert capsys.readouterr().out == f"{out}\n"
    for name in ("stacking.json", "oof.csv", "predictions.csv"):
        assert (outs[0] / name).read_bytes() == (outs[1] / name).read_bytes(), name


def answer(probabilities: Floats, truth: Ints) -> Answer:
    classes = tuple("ab")
    names = tuple((classes[label],) for label in truth)
    images = tuple(map(str, range(len(truth))))
    return Answer(Predictions(classes, images, torch.from_numpy(probabilities), names), DecisionRule())


def test_a_difference_is_paired_image_by_image() -> None:
    truth = np.array([0, 0, 1, 1])
    average = np.array([[0.9, 0.1], [0.4, 0.6], [0.4, 0.6], [0.6, 0.4]])
    candidate = np.array([[0.9, 0.1], [0.8, 0.2], [0.6, 0.4], [0.2, 0.8]])
    found = compare(answer(candidate, truth), answer(average, truth))
    assert (found.won, found.lost, found.accuracy) == (2, 1, 0.25)
    assert found.accuracy_error == pytest.approx(np.std([0, 1, -1, 1], ddof=1) / 2)
    gains = np.log([1, 0.8 / 0.4, 0.4 / 0.6, 0.8 / 0.4])
    assert found.log_loss == pytest.approx(gains.mean())
    assert found.log_loss_error == pytest.approx(gains.std(ddof=1) / 2)


def difference(*, accuracy: float = 0.0, macro_f1: float = 0.0, log_loss: float = 0.0) -> Difference:
    return Difference(accuracy, 0.02, macro_f1, 0.02, log_loss, 0.02, won=0, lost=0)


@pytest.mark.parametrize(
    ("metric", "differences", "chosen"),
    [
        ("accuracy", {"a": difference(accuracy=0.02, log_loss=0.3)}, AVERAGE),  # no more than an error
        ("accuracy", {"a": difference(accuracy=0.03), "b": difference(accuracy=0.04)}, "b"),
        ("accuracy", {"a": difference(accuracy=0.03), "b": difference(accuracy=0.03, log_loss=0.1)}, "b"),
        ("macro_f1", {"a": difference(macro_f1=0.03), "b": difference(accuracy=0.1, macro_f1=0.01)}, "a"),
        ("log_loss", {"a": difference(accuracy=0.1, log_loss=0.01), "b": difference(log_loss=0.03)}, "b"),
        ("log_loss", {"a": difference(accuracy=0.1, log_loss=-0.1)}, AVERAGE),
    ],
)
def test_the_average_stays_unless_it_is_beaten_by_more_than_a_standard_error(
    metric: MetricName, differences: dict[str, Difference], chosen: str
) -> None:
    assert choose(differences, AVERAGE, metric) == chosen


def logistic(scores: Floats) -> Floats:
    return np.asarray(1 / (1 + np.exp(-scores)))


def test_a_metric_of_a_competition_is_compared_on_the_same_draws_of_images() -> None:
    truth = np.arange(200) % 2
    chance = np.random.default_rng(0)
    poor, good = (truth * skill + chance.normal(size=200) for skill in (0.5, 2.0))
    answers = {
        name: answer(np.stack([1 - odds, odds], axis=1), truth)
        for name, odds in ((AVERAGE, logistic(poor)), ("a", logistic(good)), ("b", logistic(poor)))
    }
    metric = Metric("auc")
    found = differences_to(AVERAGE, answers, metric)
    areas = [metric.of(judged_of(one.predictions, one.rule)) for one in answers.values()]
    assert areas[0] is not None
    assert areas[1] is not None
    assert found["a"].by("auc")[0] == pytest.approx(areas[1] - areas[0])
    assert 0.01 < found["a"].by("auc")[1] < 0.1
    assert found["b"].by("auc") == (0.0, 0.0)
    assert choose(found, AVERAGE, "auc") == "a"


@pytest.mark.parametrize("count", range(4, 60))
def test_one_image_more_is_no_more_than_chance_however_it_is_rounded(count: int) -> None:
    truth = np.arange(count) % 2
    right = np.stack([0.9 - 0.8 * truth, 0.1 + 0.8 * truth], axis=1)
    wrong = right.copy()
    wrong[0] = 0.49, 0.51
    assert choose({"a": compare(answer(right, truth), answer(wrong, truth))}, AVERAGE, "accuracy") == AVERAGE


def test_a_log_loss_that_a_temperature_gives_as_well_is_no_merit_of_learners(tmp_path: Path) -> None:
    truth = labels(300)
    sure = opinions(truth, skill=2, seed=1) * 8  # right as often as before, and much too sure
    summary, said = stacked([a_run(tmp_path / "run", sure, truth)], tmp_path / "out", metric="log_loss")
    log_loss = {name: one["log_loss"] for name, one in summary["methods"].items()}
    assert log_loss["all"] < log_loss[AVERAGE] - 0.1
    assert summary["peer"] == summary["chosen"] == TEMPERED
    assert "log loss saved against `tempered`" in said[1]
    rated = [summary["methods"][name]["accuracy"] for name in (AVERAGE, TEMPERED)]
    assert rated[0] == rated[1]


SMALL = labels(30)
EVEN = opinions(SMALL, skill=1, seed=0)


@pytest.mark.parametrize(
    ("other", "problem"),
    [
        ({"classes": ("blight", "healthy", "scab")}, "the classes are blight, healthy, scab and blight, healthy, rust"),
        ({"names": "train/{:04d}.png".format}, r"60 image\(s\) are in one of them only, among them `train/0000.jpg`"),
        ({"truth": np.roll(SMALL, 1)}, "is labelled otherwise"),
        ({"fold_of": (even_folds(SMALL) + 1) % FOLDS}, "`train/0000.jpg` is in fold 1 and in fold 0"),
        ({"test": EVEN[:4]}, "they predict 4 and 0 test images, not the same ones"),
    ],
)
def test_runs_that_do_not_fit_together_are_refused(tmp_path: Path, other: dict[str, Any], problem: str) -> None:
    runs = [
        a_run(tmp_path / "a", EVEN, SMALL),
        a_run(tmp_path / "b", **{"sure": EVEN, "truth": SMALL, **other}),
    ]
    with pytest.raises(TrainerError, match=f"b does not fit to {runs[0]}: .*{problem}") as refused:
        stacked(runs, tmp_path / "out")
    assert "the same images, labels, `seed`, `folds` and `groups`" in refused.value.hint
    assert not (tmp_path / "out").exists()


def rewrite(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


@pytest.mark.parametrize(
    ("damage", "problem"),
    [
        (lambda run: (run / "summary.json").unlink(), "summary.json cannot be read"),
        (lambda run: (run / "summary.json").write_text("{"), "summary.json cannot be read"),
        (lambda run: (run / "summary.json").write_text("[]"), "summary.json is not that of several folds"),
        (lambda run: rewrite(run / "summary.json", '"folds": 3', '"folds": 4'), "there is no .*fold-3/oof.csv"),
        (lambda run: rewrite(run / "fold-1" / "oof.csv", "truth", "confidence"), "third column is not `truth`"),
        (lambda run: rewrite(run / "fold-1" / "predictions.csv", "confidence", "truth"), "is not `confidence`"),
        (lambda run: rewrite(run / "fold-1" / "oof.csv", "0.", "x."), "fold-1/oof.csv:2: could not convert"),
        (lambda run: rewrite(run / "fold-1" / "oof.csv", "/0001", "/0000"), "`train/0000.jpg` is in two folds"),
        (lambda run: rewrite(run / "fold-2" / "predictions.csv", "test/0001", "test/0009"), "has other images"),
        (
            lambda run: rewrite(run / "fold-1" / "oof.csv", ",0.", ",0.0"),
            "fold-1/oof.csv: the probabilities of an image",
        ),
        (lambda run: (run / "fold-1" / "oof.csv").write_text("image,label,truth,a,b\n"), "names no image"),
        (lambda run: (run / "fold-1" / "predictions.csv").write_bytes(b"\xff\xfe"), "cannot be read"),
        (lambda run: (run / "fold-1" / "predictions.csv").unlink(), "there is no .*fold-1/predictions.csv"),
    ],
)
def test_a_run_that_is_not_whole_is_named(tmp_path: Path, damage: Callable[[Path], None], problem: str) -> None:
    run = a_run(tmp_path / "run", EVEN, SMALL, test=EVEN[:4])
    damage(run)
    with pytest.raises(TrainerError, match=problem):
        stacked([run], tmp_path / "out")


def test_a_class_that_no_other_fold_has_cannot_be_learned(tmp_path: Path) -> None:
    fold_of = np.where(SMALL == 2, 1, even_folds(SMALL))
    with pytest.raises(TrainerError, match="the class `rust` is only in fold 1: no model"):
        stacked([a_run(tmp_path / "run", EVEN, SMALL, fold_of=fold_of)], tmp_path / "out")


def test_what_cannot_be_meant_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = a_run(tmp_path / "run", EVEN, SMALL)
    with pytest.raises(TrainerError, match="run is given twice"):
        stacked([run, tmp_path / "." / "run"], tmp_path / "out")
    with pytest.raises(ConfigError, match=r"whose .* would be lost"):
        stacked([run], run)
    words = ["stack", "--runs", str(run), "--out", str(tmp_path / "out")]
    assert main([*words, "--learners", "logistic,forest"]) == 2
    assert "error: `forest` is not a learner" in capsys.readouterr().err
    assert main([*words, "--features"]) == 2
    assert "error: `--features` needs `--data`" in capsys.readouterr().err


def test_a_missing_library_is_named_with_both_ways_out(tmp_path: Path) -> None:
    run = a_run(tmp_path / "run", EVEN, SMALL)
    words = ["stack", "--runs", str(run), "--out", str(tmp_path / "out"), "--learners", "logistic,catboost"]
    code = f"import sys; sys.modules['catboost'] = None; from trainer.cli import main; sys.exit(main({words}))"
    done = subprocess.run([sys.executable, "-c", code], cwd=CHECKOUT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert done.stderr.startswith("error: `catboost` cannot be used: ")
    hint = "`pip install 'cloudrun-gpu[stacking]'`, or do without: `--learners logistic`"
    assert done.stderr.endswith(f"hint: {hint}\n")


def test_from_images_to_a_submission_with_features_of_two_runs(
    leaves: Path, tmp_path: Path, tiny_config: Callable[..., TrainConfig], capsys: pytest.CaptureFixture[str]
) -> None:
    for name, backbone in (("a", "test_resnet"), ("b", "test_efficientnet")):
        config = tiny_config(backbones=backbone, epochs=1, folds=2)
        quiet = Progress(stream=io.StringIO())
        train_folds(config, data=leaves, out=tmp_path / name, calibrate=name == "b", stop=StopFlag(), progress=quiet)
    out = tmp_path / "stacked"
    words = ["stack", "--runs", str(tmp_path / "a"), str(tmp_path / "b"), "--out", str(out)]
    assert main([*words, "--features", "--data", str(leaves), "--device", "cpu"]) == 0
    said = capsys.readouterr().err
    assert "2 run(s), 2 folds, 44 images, 16 columns to learn from" in said
    assert f"{tmp_path / 'b'} was calibrated: its folds' predictions are taken as they were before that" in said
    assert json.loads((out / "stacking.json").read_text())["has_features"] is True
    oofs = [read_predictions(folder / "oof.csv") for folder in (out, tmp_path / "a")]
    assert (oofs[0].images, oofs[0].truth) == (oofs[1].images, oofs[1].truth)

    sample = tmp_path / "sample.csv"
    images = read_predictions(tmp_path / "a" / "predictions.csv").images
    sample.write_text("image,label\n" + "".join(f"{image},healthy\n" for image in images))
    submission = tmp_path / "submission.csv"
    paths = ["--predictions", str(out / "predictions.csv"), "--sample", str(sample), "--out", str(submission)]
    assert main(["submit", *paths]) == 0
    with submission.open() as file:
        assert [row["image"] for row in csv.DictReader(file)] == list(images)

    (tmp_path / "b" / "fold-1" / "checkpoints" / "best.pt").unlink()
    assert main([*words, "--features", "--data", str(leaves), "--device", "cpu"]) == 1
    assert "there is no checkpoint" in capsys.readouterr().err
    assert main([*words, "--features", "--data", str(tmp_path)]) == 1
    assert f"error: {tmp_path} lacks 44 of the 44 images of {tmp_path / 'a'}" in capsys.readouterr().err
