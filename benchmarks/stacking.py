"""Measure stacking on a real competition: what it gains from two runs of folds, on images that no fold ever saw.

Two pretrained backbones learn the plant seedlings' `train` in three folds each; each method of `python -m trainer
stack`, with features and without, is judged out of fold, and once on the set's `val`, which chose nothing.

python -m benchmarks.stacking [OUT]
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import torch
import yaml

from benchmarks.machine import CHECKOUT, heading
from benchmarks.seedlings import link_images
from trainer.model.targets import DecisionRule
from trainer.outputs.predictions import Predictions, rate
from trainer.stacking.differences import choose, differences_to
from trainer.stacking.feature_heads import Heads, fit_heads
from trainer.stacking.fold_runs import FoldRun, read_runs
from trainer.stacking.learners import LEARNERS, open_learners, versions_of
from trainer.stacking.stack import AVERAGE, answers_of, build_level, learn

BACKBONES = ("tf_efficientnet_lite0", "tf_efficientnet_lite1")
RECIPE = {
    "folds": 3, "image_size": 96, "epochs": 4, "batch_size": 32, "lr": 1e-3, "warmup_epochs": 1, "crop_scale_min": 0.5,
    "rotation_degrees": 180, "device": "cpu",
}  # fmt: skip


def main(shared: Path, out: Path) -> None:
    """Train the folds, stack them, print the table. Folds that an earlier call left in `out` are not trained again."""
    link_images(shared, out / "data")
    for name in BACKBONES:
        config = out / f"{name}.yaml"
        config.write_text(yaml.safe_dump({**RECIPE, "backbones": name, "pretrained": str(shared / "weights")}))
        command = [sys.executable, "-m", "trainer", "folds", "--config", str(config), "--data", str(out / "data")]
        subprocess.run([*command, "--out", str(out / name)], cwd=CHECKOUT, check=True)
    runs = read_runs([out / name for name in BACKBONES])
    heads = [fit_heads(run, data=out / "data", device="cpu", say=print) for run in runs]
    versions = ", ".join(f"{name} {version}" for name, version in versions_of(tuple(LEARNERS)).items())
    print(f"\n{heading()}, {versions}\n")
    columns = [
        "accuracy",
        "macro F1",
        "log loss",
        "ROC AUC",
        "accuracy against the average",
        "on val",
        "log loss on val",
    ]
    print(f"| learned from | method | {' | '.join(columns)} |\n|{' --- |' * (len(columns) + 2)}")
    for name, run in zip(BACKBONES, runs, strict=True):
        _print_rows(name, [run], [], only_average=True)
    _print_rows("predictions", runs, [])
    _print_rows("features, too", runs, heads)


def _print_rows(what: str, runs: Sequence[FoldRun], heads: Sequence[Heads], *, only_average: bool = False) -> None:
    level = build_level(runs, heads)
    methods = learn(level, {} if only_average else open_learners(tuple(LEARNERS)))
    answers = answers_of(methods, runs[0])
    differences = differences_to(AVERAGE, answers)
    classes, images = runs[0].out_of_fold.classes, runs[0].test_images
    truth = tuple((PurePosixPath(image).parent.name,) for image in images)
    chosen = choose(differences, AVERAGE, "accuracy")
    for one in methods:
        found = rate(answers[one.name].predictions, DecisionRule())
        assert one.test is not None
        test = rate(Predictions(classes, images, torch.from_numpy(one.test), truth), DecisionRule())
        cells = [f"{found[key]:.4f}" for key in ("accuracy", "macro_f1", "log_loss", "roc_auc")]
        against = ""
        if one.name != AVERAGE:
            of = differences[one.name]
            against = f"{of.accuracy:+.4f} ± {of.accuracy_error:.4f} ({of.won} won, {of.lost} lost)"
        name = f"**{one.name}**" if one.name == chosen else one.name
        print(
            f"| {what} | {name} | {' | '.join(cells)} | {against} | {test['accuracy']:.4f} | {test['log_loss']:.4f} |"
        )


if __name__ == "__main__":
    main(
        Path(os.environ.get("CLOUDRUN_SHARED", CHECKOUT.parent / "shared")).resolve(),
        Path(sys.argv[1]) if len(sys.argv) > 1 else Path(tempfile.mkdtemp(prefix="stacking-")),
    )
