"""Transform images before they reach the model: on the CPU one by one, on the device a batch at a time.

Transforms take PIL images and return uint8; `normalise` runs on the device.
"""

from __future__ import annotations

import functools

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional
from torchvision.transforms import v2

from cloudrun.recipe.inputs import IMAGENET_MEAN, IMAGENET_STD, Inputs
from cloudrun.recipe.progressive import largest_size
from cloudrun.recipe.train_config import TrainConfig
from trainer.data.augment_params import Ranges


class Square:
    """Resize a PIL image of any shape to uint8 (3, side, side). Crops are made on the device."""

    def __init__(self, side: int) -> None:
        self.side = side

    def __call__(self, image: Image.Image) -> Tensor:
        whole = torch.from_numpy(np.array(image)).permute(2, 0, 1).unsqueeze(0)
        square = functional.interpolate(whole, size=(self.side, self.side), mode="bilinear", antialias=True)
        return square[0].contiguous()


def ranges_of(config: TrainConfig) -> Ranges:
    """Return the ranges of the config from which augmentation parameters are drawn."""
    return Ranges(
        config.crop_scale_min,
        config.rotation_degrees,
        config.color_jitter,
        config.flips,
        config.augment,
        config.rand_operations,
        config.rand_magnitude,
        config.random_erasing,
    )


def square_side(config: TrainConfig) -> int:
    """Return the pixels a side of decoded training images; auto: as in evaluation, 256/224 of the largest size."""
    return round(largest_size(config) * 256 / 224) if config.decoded_size == "auto" else config.decoded_size


def evaluation_transform(image_size: int, inputs: Inputs) -> v2.Transform:
    """Return a transform of PIL images to uint8 (3, S, S): the middle of the resized image, as timm evaluates."""
    resize = v2.Resize(inputs.resized_side(image_size), v2.InterpolationMode(inputs.interpolation))
    return v2.Compose([resize, v2.CenterCrop(image_size), v2.PILToTensor()])


def evaluation_recipe(inputs: Inputs) -> str:
    """Return a name for the pixels of `evaluation_transform`, by which a cache tells them apart."""
    return f"evaluation {inputs.interpolation} {inputs.crop:g}"


def normalise(images_BCHW: Tensor) -> Tensor:
    """Return float32 images with the mean and the standard deviation of ImageNet removed, from uint8."""
    mean, std = (
        on_device(numbers, images_BCHW.device).view(3, 1, 1) * 255 for numbers in (IMAGENET_MEAN, IMAGENET_STD)
    )
    return images_BCHW.float().sub_(mean).div_(std)


def visible(images_BCHW: Tensor) -> Tensor:
    """Return uint8 images of those that `normalise` gave, on the CPU; what is beyond black and white is cut off."""
    mean, std = (
        on_device(numbers, images_BCHW.device).view(3, 1, 1) * 255 for numbers in (IMAGENET_MEAN, IMAGENET_STD)
    )
    return (images_BCHW.float() * std + mean).round().clamp(0, 255).to("cpu", torch.uint8)


@functools.cache
def on_device(numbers: tuple[float, ...], device: torch.device) -> Tensor:
    """Return `numbers` as a tensor on `device`, made once.

    To copy numbers from Python makes a GPU finish everything it was given before.
    """
    with torch.inference_mode(mode=False):  # a tensor made in inference mode could not be trained with
        return torch.tensor(numbers, device=device)
