"""The model as other programs call it: uint8 images in, logits and probabilities out."""

from __future__ import annotations

from typing import Any, Self

import torch
from torch import Tensor, nn

from cloudrun.recipe.inputs import IMAGENET_MEAN, IMAGENET_STD
from trainer.model.ensemble import Ensemble
from trainer.session.trained_model import TrainedModel

INPUT_NAME = "images"
OUTPUT_NAMES = ("logits", "probabilities")


class Deployed(nn.Module):
    """Normalisation, the model, and softmax or sigmoid in one graph.

    It takes uint8, as files hold pixels: nobody has to know each backbone's mean and deviation, which are inside.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, model: Ensemble, *, has_several: bool) -> None:
        super().__init__()
        self.model = model
        self.has_several = has_several
        for name, numbers in (("mean", IMAGENET_MEAN), ("std", IMAGENET_STD)):
            self.register_buffer(name, torch.tensor(numbers).view(3, 1, 1) * 255, persistent=False)

    @classmethod
    def of(cls, trained: TrainedModel) -> Self:
        """Return the module of a trained model, ready to predict."""
        return cls(trained.model, has_several=trained.rule.thresholds is not None).eval()

    def forward(self, images_BCHW: Tensor) -> tuple[Tensor, Tensor]:
        """Return float32 logits and probabilities (B, classes) of uint8 RGB images (B, 3, S, S)."""
        logits = self.model((images_BCHW.float() - self.mean) / self.std)
        return logits, logits.sigmoid() if self.has_several else logits.softmax(1)


def preprocessing_of(trained: TrainedModel) -> dict[str, Any]:
    """Return how an image becomes the model's input, and the output a class: the metadata of each exported file."""
    inputs, size, rule = trained.model.inputs, trained.size, trained.rule
    return {
        "input": f"uint8 RGB (batch, 3, {size}, {size}), not normalised; the graph normalises",
        "resize": {"shorter_side": inputs.resized_side(size), "interpolation": inputs.interpolation},
        "centre_crop": size,
        "crop_pct": inputs.crop,
        "backbones": [
            {"name": name, "mean": list(colouring.mean), "std": list(colouring.std)}
            for name, colouring in zip(trained.config.backbones, inputs.colourings, strict=True)
        ],
        "test_time_augmentation": trained.config.tta,
        "view_sizes": sorted({view.size for view in trained.model.views}),
        "activation": "sigmoid" if rule.thresholds is not None else "softmax",
        "classes": list(trained.classes),
        "thresholds": None if rule.thresholds is None else list(rule.thresholds),
        "may_have_no_class": rule.allows_none,
    }
