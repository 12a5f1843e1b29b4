"""Apply strong augmentation to a batch on its device: operations that change colours, and random erasing.

The device is never waited for: which images have which operation is counted from the parameters on the host.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torchvision.transforms.v2 import functional

from cloudrun.recipe.inputs import IMAGENET_MEAN, IMAGENET_STD
from trainer.data.augment import on_device
from trainer.data.augment_params import AugmentParams
from trainer.data.strong_params import AUTOCONTRAST, EQUALIZE, FIRST_STEP, POSTERIZE, SHARPNESS, SOLARIZE

_BASE = len(AugmentParams._fields)


def strengthen(images_BCHW: Tensor, params: Tensor, params_on_device: Tensor) -> None:
    """Change normalised float32 images (B, 3, S, S) in place by rows of `strong_params.draw`, (B, P).

    `params`: on the CPU, or the host has to wait; `params_on_device`: the same beside the images. Each operation sees
    whole numbers from 0 to 255, as on the uint8 images of torchvision.
    """
    steps = params[:, FIRST_STEP:]
    for place in range(0, steps.shape[1], 2):
        counts = torch.bincount(steps[:, place].long(), minlength=len(_OPERATIONS) + 1).tolist()
        own = params_on_device[:, FIRST_STEP + place : FIRST_STEP + place + 2]
        order, start = own[:, 0].argsort(stable=True), counts[0]
        for number, count in enumerate(counts[1:], start=1):
            if count:
                chosen = order[start : start + count]
                _change(images_BCHW, chosen, _OPERATIONS[number], own[:, 1].index_select(0, chosen))
                start += count
    erase(images_BCHW, params_on_device[:, _BASE : _BASE + 4], params_on_device[:, _BASE + 4 : _BASE + 7])


def _change(images_BCHW: Tensor, chosen: Tensor, operation: Callable[[Tensor, Tensor], Tensor], values: Tensor) -> None:
    mean, std = (
        on_device(numbers, images_BCHW.device).view(3, 1, 1) * 255 for numbers in (IMAGENET_MEAN, IMAGENET_STD)
    )
    pixels = images_BCHW.index_select(0, chosen).mul_(std).add_(mean).round_().clamp_(0, 255)
    changed = operation(pixels, values.view(-1, 1, 1, 1))
    images_BCHW.index_copy_(0, chosen, changed.sub(mean).div_(std))


def erase(images_BCHW: Tensor, boxes: Tensor, colours: Tensor) -> None:
    """Fill a box of each image with its colour, in place.

    `boxes` (B, 4): left, top, right and bottom in fractions of the sides; a box without area erases nothing. `colours`
    (B, 3).
    """
    size = images_BCHW.shape[-1]
    at = (torch.arange(size, device=images_BCHW.device, dtype=boxes.dtype) + 0.5) / size
    left, top, right, bottom = boxes.unsqueeze(-1).unbind(1)
    is_across, is_down = (at >= left) & (at < right), (at >= top) & (at < bottom)
    is_erased = (is_down.unsqueeze(2) & is_across.unsqueeze(1)).unsqueeze(1)
    torch.where(is_erased, colours.view(-1, 3, 1, 1), images_BCHW, out=images_BCHW)


def _sharpen(pixels: Tensor, factors: Tensor) -> Tensor:
    """Blend with a smooth copy: 0 is that copy, 1 the image. The outermost pixels stay, as in PIL."""
    if min(pixels.shape[-2:]) < 3:
        return pixels
    smooth = pixels.clone()
    rows = pixels[..., :-2, :] + pixels[..., 1:-1, :] + pixels[..., 2:, :]
    middle = pixels[..., 1:-1, 1:-1]
    # PIL's filter: 5 in the middle, 1 for each of the eight around it.
    smooth[..., 1:-1, 1:-1] = ((rows[..., :-2] + rows[..., 1:-1] + rows[..., 2:] + 4 * middle) / 13).round_()
    return smooth.lerp_(pixels, factors).clamp_(0, 255)


def _posterize(pixels: Tensor, bits: Tensor) -> Tensor:
    width = torch.exp2(8 - bits)
    return (pixels / width).floor_() * width


def _solarize(pixels: Tensor, thresholds: Tensor) -> Tensor:
    return torch.where(pixels >= thresholds, 255 - pixels, pixels)


def _autocontrast(pixels: Tensor, _: Tensor) -> Tensor:
    lowest, highest = pixels.amin((2, 3), keepdim=True), pixels.amax((2, 3), keepdim=True)
    is_flat = highest == lowest
    return torch.where(is_flat, pixels, (pixels - lowest) * (255 / (highest - lowest + is_flat.float())))


def _equalize(pixels: Tensor, _: Tensor) -> Tensor:
    equal: Tensor = functional.equalize(pixels.byte())
    return equal.float()


_OPERATIONS: dict[int, Callable[[Tensor, Tensor], Tensor]] = {
    SHARPNESS: _sharpen,
    POSTERIZE: _posterize,
    SOLARIZE: _solarize,
    AUTOCONTRAST: _autocontrast,
    EQUALIZE: _equalize,
}
