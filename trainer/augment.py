"""What is done to images on their way to the model, in training and in validation.

Transforms work on PIL images and end in uint8; `normalise` runs on the device, for a whole batch.
"""

from __future__ import annotations

import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms import v2

from trainer.config import TrainConfig

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def training_transform(config: TrainConfig) -> v2.Transform:
    """PIL image -> uint8 (3, S, S): random crop, flip, rotation and colours, drawn from torch's global RNG."""
    jitter = config.color_jitter
    steps = [
        v2.RandomResizedCrop(config.image_size, scale=(config.crop_scale_min, 1.0)),
        v2.RandomHorizontalFlip(),
        v2.RandomRotation(config.rotation_degrees, interpolation=v2.InterpolationMode.BILINEAR),
        v2.ColorJitter(brightness=jitter, contrast=jitter, saturation=jitter),
        v2.PILToTensor(),
    ]
    return v2.Compose(steps)


def evaluation_transform(image_size: int) -> v2.Transform:
    """PIL image -> uint8 (3, S, S): shorter side to 256/224 of `image_size`, then the middle."""
    return v2.Compose([v2.Resize(round(image_size * 256 / 224)), v2.CenterCrop(image_size), v2.PILToTensor()])


def transform_seeded(transform: v2.Transform, image: Image.Image, seed: int) -> Tensor:
    """`transform(image)` as a pure function of `seed`: torch's global CPU RNG is left as it was."""
    before = torch.default_generator.get_state()
    torch.default_generator.manual_seed(seed)
    try:
        pixels: Tensor = transform(image)
    finally:
        torch.default_generator.set_state(before)
    return pixels


def normalise(images_BCHW: Tensor) -> Tensor:
    """uint8 -> float32 with ImageNet's mean and standard deviation taken out."""
    mean = torch.tensor(IMAGENET_MEAN, device=images_BCHW.device).view(3, 1, 1).mul_(255)
    std = torch.tensor(IMAGENET_STD, device=images_BCHW.device).view(3, 1, 1).mul_(255)
    return images_BCHW.float().sub_(mean).div_(std)
