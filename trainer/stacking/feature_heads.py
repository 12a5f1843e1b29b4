"""Make columns for stacking of the features of the folds' networks, by a head for each network.

Features of two folds' networks are in different spaces: column 7 of one network means nothing in the other, so that
nothing can learn from one and judge the other. A logistic regression on the features of the images that a network was
trained on translates its space into classes, which mean the same in every fold.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from cloudrun.recipe.progressive import evaluation_size
from trainer.errors import TrainerError
from trainer.model.ensemble import Ensemble
from trainer.session.scores import evaluate
from trainer.session.trained_model import TrainedModel, load_trained
from trainer.stacking.fold_runs import FoldRun
from trainer.stacking.learners import Floats, fit_head

DeviceName = Literal["auto", "cuda", "cpu"]


@dataclass(frozen=True)
class Heads:
    """Probabilities: `out_of_fold` (N, classes), of the head that did not see the image; `tests`: of each fold."""

    out_of_fold: Floats
    tests: tuple[Floats, ...]


class _Pooled(nn.Module):
    """The model without its linear layer."""

    def __init__(self, model: Ensemble) -> None:
        super().__init__()
        self.model = model

    def forward(self, images_BCHW: Tensor) -> Tensor:
        return self.model.features(images_BCHW)


def fit_heads(run: FoldRun, *, data: Path, device: DeviceName, say: Callable[[str], None]) -> Heads:
    """Fit a head for each fold of `run`, on the images in `data`. Raises TrainerError where an image is missing."""
    images, test_images = _files(run, run.out_of_fold.images, data), _files(run, run.test_images, data)
    truth, fold_of = run.truth.numpy(), run.fold_of.numpy()
    out_of_fold = np.zeros((len(images), len(run.out_of_fold.classes)))
    tests = []
    for fold in range(run.folds):
        say(f"{run.folder}, fold {fold} of {run.folds}: features of {len(images) + len(test_images)} images")
        trained = load_trained(run.best_path(fold), device=device)
        if trained.classes != run.out_of_fold.classes:
            raise TrainerError(
                f"{run.best_path(fold)} has other classes than the run's oof.csv",
                hint="train the folds into an empty `--out` folder",
            )
        features, is_held = _features(trained, images), fold_of == fold
        head = fit_head(features[~is_held], truth[~is_held])
        out_of_fold[is_held] = head(features[is_held])
        if test_images:
            tests.append(head(_features(trained, test_images)))
    return Heads(out_of_fold, tuple(tests))


def _features(trained: TrainedModel, images: Sequence[Path]) -> NDArray[np.float32]:
    pooled = _Pooled(trained.model)
    loader = trained.loader(images, size=evaluation_size(trained.config))
    try:
        features = evaluate(pooled, loader, trained.device).logits.numpy()
    finally:
        loader.close()
    return np.asarray(features, dtype=np.float32)


def _files(run: FoldRun, names: Sequence[str], data: Path) -> list[Path]:
    files = [data / name for name in names]
    missing = [name for name, file in zip(names, files, strict=True) if not file.is_file()]
    if missing:
        raise TrainerError(
            f"{data} lacks {len(missing)} of the {len(names)} images of {run.folder}, among them `{missing[0]}`",
            hint="`--data` takes the folder of images that the runs were trained on",
        )
    return files
