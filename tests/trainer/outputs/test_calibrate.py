"""The temperature: found where it is known, without harm where there is nothing to gain, and applied when asked."""

import io
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from cloudrun.recipe.train_config import TrainConfig
from trainer.cross_validation.train_folds import train_folds
from trainer.distributed.stop import StopFlag
from trainer.outputs.calibrate import COLDEST, fit_temperature, tempered
from trainer.outputs.predictions import Predictions, read_predictions
from trainer.outputs.progress import Progress

CLASSES = ("a", "b", "c")


def drawn(honest: torch.Tensor, shown: torch.Tensor) -> Predictions:
    """Truth is drawn from the `honest` probabilities; `shown` is what the model says."""
    labels = honest.multinomial(1, generator=torch.Generator().manual_seed(0)).flatten().tolist()
    return Predictions(CLASSES, tuple(map(str, range(len(labels)))), shown, tuple((CLASSES[at],) for at in labels))


def logits(count: int) -> torch.Tensor:
    return torch.randn(count, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64) * 2


def test_a_model_that_is_twice_too_sure_gets_a_temperature_of_two() -> None:
    true = logits(20_000)
    found = fit_temperature(drawn(true.softmax(1), (2 * true).softmax(1)), several=False)
    assert found.temperature == pytest.approx(2, rel=0.05)
    assert found.log_loss_after < 0.9 * found.log_loss_before


def test_several_labels_are_fitted_as_well() -> None:
    true = logits(8_000)
    has = torch.rand(true.shape, generator=torch.Generator().manual_seed(2)) < true.sigmoid()
    names = tuple(tuple(name for name, flag in zip(CLASSES, row, strict=True) if flag) for row in has.tolist())
    rows = Predictions(CLASSES, tuple(map(str, range(len(names)))), (3 * true).sigmoid(), names)
    assert fit_temperature(rows, several=True).temperature == pytest.approx(3, rel=0.05)


def test_a_model_that_is_always_right_is_only_ever_made_surer() -> None:
    sure = Predictions(CLASSES, ("x", "y"), torch.tensor([[0.6, 0.3, 0.1], [0.2, 0.7, 0.1]]).double(), (("a",), ("b",)))
    found = fit_temperature(sure, several=False)
    assert found.temperature == pytest.approx(COLDEST, rel=1e-3)
    assert found.log_loss_after < found.log_loss_before


def test_a_temperature_changes_no_order_and_undoes_itself() -> None:
    before = logits(50).softmax(1)
    after = tempered(before, 3.0, several=False)
    assert torch.equal(after.argsort(1), before.argsort(1))
    assert torch.allclose(tempered(after, 1 / 3.0, several=False), before)


def test_predictions_are_calibrated_only_when_asked(
    leaves: Path, tmp_path: Path, tiny_config: Callable[..., TrainConfig]
) -> None:
    config = tiny_config(backbones="test_resnet", epochs=1, folds=2)
    summary = train_folds(config, data=leaves, out=tmp_path, stop=StopFlag(), progress=Progress(stream=io.StringIO()))
    plain = read_predictions(tmp_path / "predictions.csv").probabilities
    fitted = summary["calibration"]
    assert fitted["log_loss_after"] <= fitted["log_loss_before"] == summary["out_of_fold"]["log_loss"]
    assert not fitted["is_applied"]
    train_folds(
        config, data=leaves, out=tmp_path, calibrate=True, stop=StopFlag(), progress=Progress(stream=io.StringIO())
    )
    parts = [read_predictions(tmp_path / f"fold-{fold}" / "predictions.csv").probabilities for fold in (0, 1)]
    wanted = sum(tempered(part, fitted["temperature"], several=False) for part in parts) / 2
    calibrated = read_predictions(tmp_path / "predictions.csv").probabilities
    assert torch.allclose(calibrated, wanted, atol=1e-6)
    assert not torch.allclose(calibrated, plain, atol=1e-4)
