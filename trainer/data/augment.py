"""What is done to images on their way to the model, before and on the device.

Transforms work on PIL images and end in uint8; `prepare` runs on the device, for a whole batch.
"""

from __future__ import annotations

import functools

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional
from torchvision.transforms import v2

from cloudrun.recipe.train_config import TrainConfig
from trainer.data.augment_params import Ranges

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class Square:
    """PIL image -> uint8 (3, side, side), whatever its shape: the crops are made on the device."""

    def __init__(self, side: int) -> None:
        self.side = side

    def __call__(self, image: Image.Image) -> Tensor:
        whole = torch.from_numpy(np.array(image)).permute(2, 0, 1).unsqueeze(0)
        square = functional.interpolate(whole, size=(self.side, self.side), mode="bilinear", antialias=True)
        return square[0].contiguous()


def ranges_of(config: TrainConfig) -> Ranges:
    return Ranges(config.crop_scale_min, config.rotation_degrees, config.color_jitter)


def square_side(config: TrainConfig) -> int:
    """Pixels of the squares that training images are decoded to; auto: as evaluation, 256/224 of `image_size`."""
    return round(config.image_size * 256 / 224) if config.decoded_size == "auto" else config.decoded_size


def evaluation_transform(image_size: int) -> v2.Transform:
    """PIL image -> uint8 (3, S, S): shorter side to 256/224 of `image_size`, then the middle."""
    return v2.Compose([v2.Resize(round(image_size * 256 / 224)), v2.CenterCrop(image_size), v2.PILToTensor()])


def normalise(images_BCHW: Tensor) -> Tensor:
    """uint8 -> float32 with ImageNet's mean and standard deviation taken out."""
    mean, std = (on_device(one, images_BCHW.device).view(3, 1, 1) * 255 for one in (IMAGENET_MEAN, IMAGENET_STD))
    return images_BCHW.float().sub_(mean).div_(std)


@functools.cache
def on_device(numbers: tuple[float, ...], device: torch.device) -> Tensor:
    """Made once: a GPU would finish all that it has been given before it takes numbers from Python."""
    with torch.inference_mode(mode=False):  # else one that validation makes first could not be trained with
        return torch.tensor(numbers, device=device)
