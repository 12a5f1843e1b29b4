"""Load a model of several timm backbones and one linear layer, as `cloudrun export` wrote it, and predict images.

Needs torch, torchvision, timm, safetensors and Pillow alone:

    python load.py leaf_1.jpg leaf_2.jpg
"""

import json
import sys
from pathlib import Path

import timm
import torch
from PIL import Image, ImageOps
from safetensors.torch import load_file
from torch import Tensor, nn
from torchvision.transforms import v2

LAYOUT = "cloudrun-ensemble-1"


class Ensemble(nn.Module):
    """Backbones side by side, their pooled features concatenated, one linear layer. Takes uint8 (B, 3, S, S)."""

    def __init__(self, config: dict) -> None:  # type: ignore[type-arg]
        super().__init__()
        if config["layout"] != LAYOUT:
            raise ValueError(f"the layout is {config['layout']}, and this file reads {LAYOUT}")
        told = config["backbones"]
        self.backbones = nn.ModuleList(
            timm.create_model(one["architecture"], pretrained=False, num_classes=0, **one["model_args"]) for one in told
        )
        self.head = nn.Linear(config["num_features"], config["num_classes"])
        self.colours = [[torch.tensor(one[name]).view(3, 1, 1) * 255 for name in ("mean", "std")] for one in told]

    def forward(self, images: Tensor) -> Tensor:
        pooled = [
            backbone((images.float() - mean) / std)
            for backbone, (mean, std) in zip(self.backbones, self.colours, strict=True)
        ]
        logits: Tensor = self.head(torch.cat(pooled, dim=1))
        return logits


def load(folder: Path) -> Ensemble:
    """Return the model in `folder`, ready to predict."""
    model = Ensemble(json.loads((folder / "config.json").read_text(encoding="utf-8")))
    model.load_state_dict(load_file(folder / "model.safetensors"))
    return model.eval()


def transform_of(preprocessing: dict) -> v2.Transform:  # type: ignore[type-arg]
    """Return the transform of an image to uint8 (3, S, S): the middle of the resized image."""
    resize = preprocessing["resize"]
    mode = v2.InterpolationMode(resize["interpolation"])
    return v2.Compose(
        [v2.Resize(resize["shorter_side"], mode), v2.CenterCrop(preprocessing["centre_crop"]), v2.PILToTensor()]
    )


def probabilities(folder: Path, files: list[str]) -> Tensor:
    """Return the probabilities (files, classes) of image files."""
    preprocessing = json.loads((folder / "config.json").read_text(encoding="utf-8"))["preprocessing"]
    transform, model = transform_of(preprocessing), load(folder)
    images = torch.stack([transform(ImageOps.exif_transpose(Image.open(file)).convert("RGB")) for file in files])
    with torch.inference_mode():
        logits = model(images)
        if preprocessing["test_time_augmentation"] == "flip":
            logits = (logits + model(images.flip(3))) / 2
    answer: Tensor = logits.sigmoid() if preprocessing["activation"] == "sigmoid" else logits.softmax(1)
    return answer


if __name__ == "__main__":
    here = Path(__file__).parent
    names = json.loads((here / "config.json").read_text(encoding="utf-8"))["label_names"]
    for file, row in zip(sys.argv[1:], probabilities(here, sys.argv[1:]), strict=True):
        best = int(row.argmax())
        sys.stdout.write(f"{file},{names[best]},{row[best]:.6f}\n")
