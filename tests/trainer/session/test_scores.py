"""The precision of an evaluation."""

from collections.abc import Iterator
from dataclasses import replace
from typing import cast

import pytest
import torch
from torch import Tensor, nn

from cloudrun.recipe.train_config import TrainConfig
from trainer.data.loader import Batch, Loader
from trainer.model.ensemble import Ensemble
from trainer.session.device import Device
from trainer.session.scores import evaluate

CPU = Device(torch.device("cpu"), torch.float32, "fp32", None, None)


class LikeAGpu(Device):
    """A CPU that evaluates as a GPU does; its fp16 has the same range."""

    __slots__ = ()

    @property
    def evaluation_dtypes(self) -> tuple[torch.dtype, ...]:
        return torch.float16, torch.float32


class OneBatch:
    """A loader of two images."""

    def epoch(self, _: int) -> Iterator[Batch]:
        yield Batch(torch.full((2, 3, 4, 4), 255, dtype=torch.uint8), torch.tensor([0, 1]))


class Sums(nn.Module):
    """Logits that are `scale` times the sum of the pixels, in the type of autocast."""

    def __init__(self, scale: float) -> None:
        super().__init__()
        self.layer = nn.Linear(48, 2, bias=False)
        nn.init.constant_(self.layer.weight, scale)
        self.seen: list[torch.dtype] = []

    def forward(self, images: Tensor) -> Tensor:
        sums: Tensor = self.layer(images.flatten(1))
        self.seen.append(sums.dtype)
        return sums


def logits_of(model: nn.Module) -> Tensor:
    device = LikeAGpu(CPU.torch_device, torch.bfloat16, "bf16", None, None)
    return evaluate(model, cast("Loader", OneBatch()), device).logits


def test_an_evaluation_is_in_fp16_where_training_is_in_bf16() -> None:
    model = Sums(0.01)
    exact = evaluate(model, cast("Loader", OneBatch()), CPU).logits
    assert logits_of(model).sub(exact).abs().max() < 2e-3 * exact.abs().max()
    assert model.seen == [torch.float32, torch.float16]


def test_logits_beyond_the_range_of_fp16_are_computed_again_in_float32_and_later_at_once() -> None:
    model = Sums(2000.0)
    exact = evaluate(model, cast("Loader", OneBatch()), CPU).logits
    assert exact.abs().max() > 65504
    for _ in range(2):
        assert torch.equal(logits_of(model), exact)
    assert model.seen == [torch.float32, torch.float16, torch.float32, torch.float32]


@pytest.mark.parametrize(
    ("place", "training", "evaluation"),
    [
        ("cuda", torch.bfloat16, (torch.float16, torch.float32)),
        ("cuda", torch.float16, (torch.float16, torch.float32)),
        ("cuda", torch.float32, (torch.float32,)),
        ("cpu", torch.bfloat16, (torch.float32,)),
    ],
)
def test_each_device_has_its_types(place: str, training: torch.dtype, evaluation: tuple[torch.dtype, ...]) -> None:
    assert replace(CPU, torch_device=torch.device(place), autocast_dtype=training).evaluation_dtypes == evaluation


def test_the_linear_layer_is_in_float32_whatever_the_backbones_compute_in() -> None:
    torch.manual_seed(0)
    model = Ensemble({"flat": nn.Flatten()}, head=nn.Linear(12, 300), config=TrainConfig()).eval()
    features = torch.randn(1, 3, 2, 2)
    with torch.inference_mode():
        exact = model(features)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            found = model(features)
    assert found.dtype == torch.float32
    assert len(found.unique()) == len(exact.unique())  # in bf16 many of the 300 would tie


def test_cudnn_does_not_search_while_it_evaluates(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", True)
    with CPU.algorithms_by_rule(is_on=False):
        assert torch.backends.cudnn.benchmark
    with pytest.raises(ZeroDivisionError), CPU.algorithms_by_rule():
        assert not torch.backends.cudnn.benchmark
        raise ZeroDivisionError
    assert torch.backends.cudnn.benchmark
