"""Augment a whole batch on its device: crop, flip, rotate, recolour and normalise, with one resampling."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from cloudrun.recipe.inputs import IMAGENET_MEAN, IMAGENET_STD
from trainer.data.augment import on_device
from trainer.data.augment_params import AugmentParams
from trainer.data.strong_params import StrongParams

_LUMA = (0.299, 0.587, 0.114)  # ITU-R 601-2, as PIL and torchvision weigh them
# On a CPU, images of a chunk. Few of them stay in the CPU's cache: twice as fast as 32 at once.
_CHUNK_CPU = 4
# On a GPU, bytes of a chunk's grid, samples and mask: as many images at once as keep the memory search's result true.
_CHUNK_BYTES = 256 << 20
_BASE = len(AugmentParams._fields)
_MATRIX = slice(_BASE + StrongParams._fields.index("xx"), _BASE + len(StrongParams._fields))
_NUMBERS_A_SAMPLE = 8  # float32: x and y, three colours read, three written


def augment(squares_BCHW: Tensor, augment_params: Tensor, *, size: int) -> Tensor:
    """Return normalised float32 (B, 3, size, size) of uint8 images that were resized to squares, (B, 3, R, R).

    `augment_params` (B, 9) has the fields of an `AugmentParams` in each row, or is a row of `strong_params.draw`, of
    which everything but the last steps is done here. The order is that of torchvision: crop and resize, flip, rotate
    about the middle with black corners, then the colours.
    """
    count = len(squares_BCHW)
    # Bilinear sampling reads two pixels a side: where squares are twice as large, a pixel is the mean of four samples.
    samples = max(1, squares_BCHW.shape[-1] // size)
    columns, rows, first, last = _geometry(augment_params, size=size * samples)
    across = _centres(size * samples, augment_params)
    images = torch.empty((count, 3, size, size), device=squares_BCHW.device)
    chunk = _CHUNK_CPU if squares_BCHW.device.type == "cpu" else images_of_a_chunk(size * samples)
    for start in range(0, count, chunk):
        part = slice(start, start + chunk)
        # x and y are separate, (B, 2, S, S): faster to write than pairs, and as fast to sample from.
        grid = (columns[part] + rows[part]).permute(0, 2, 3, 1)
        sampled = functional.grid_sample(squares_BCHW[part].float(), grid, padding_mode="border", align_corners=False)
        inside = (across >= first[part]) & (across <= last[part])
        sampled.mul_(inside.unsqueeze(1).float())
        if samples > 1:
            sampled = functional.avg_pool2d(sampled, samples)
        recolour(sampled, augment_params[part, 6:9], out=images[part])
    return images


def images_of_a_chunk(samples_a_side: int) -> int:
    """Return how many images are augmented at once on a GPU; `samples_a_side`: points at which squares are read."""
    return max(1, _CHUNK_BYTES // (4 * _NUMBERS_A_SAMPLE * samples_a_side**2))


def _geometry(augment_params: Tensor, *, size: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return where output pixels come from, and the part of each row that lies within the crop.

    `columns` (B, 2, 1, size) + `rows` (B, 2, size, 1) is x and y in the square, in the coordinates of `grid_sample`
    without `align_corners`: edges are -1 and 1. `first` and `last` (B, size, 1) bound the part within the crop.
    """
    left, top, width, height, flip, degrees = augment_params[:, :6].unsqueeze(-1).unbind(1)
    at = _centres(size, augment_params).unsqueeze(0)
    cos, sin = torch.cos(torch.deg2rad(degrees)), torch.sin(torch.deg2rad(degrees))
    # From the output (u, v) back to the crop the rotation is reversed: x = cos u - sin v, y = sin u + cos v.
    xx, xy, yx, yy = cos, -sin, sin, cos
    x: Tensor | float = 0.0
    y: Tensor | float = 0.0
    if augment_params.shape[1] > _BASE:  # what was moved after the rotation is reversed before it
        ax, bx, cx, ay, by, cy = augment_params[:, _MATRIX].unsqueeze(-1).unbind(1)
        xx, xy, x = cos * ax - sin * ay, cos * bx - sin * by, cos * cx - sin * cy
        yx, yy, y = sin * ax + cos * ay, sin * bx + cos * by, sin * cx + cos * cy
    columns = torch.stack((width * flip * xx * at, height * yx * at), dim=1).unsqueeze(2)
    rows = torch.stack(
        (
            2 * left + width - 1 + width * flip * x + width * flip * xy * at,
            2 * top + height - 1 + height * y + height * yy * at,
        ),
        dim=1,
    ).unsqueeze(3)
    # |xx u + xy v + x| <= 1 and |yx u + yy v + y| <= 1, solved for u.
    by_x = _interval(xy * at + x, xx)
    by_y = _interval(yy * at + y, yx)
    first, last = torch.maximum(by_x[0], by_y[0]), torch.minimum(by_x[1], by_y[1])
    return columns, rows, first.unsqueeze(2), last.unsqueeze(2)


def _interval(offset: Tensor, slope: Tensor) -> tuple[Tensor, Tensor]:
    """Return the smallest and the largest u with |slope * u + offset| <= 1."""
    steep = torch.where(slope.abs() < 1e-6, 1e-6, slope)
    ends = (-1 - offset) / steep, (1 - offset) / steep
    return torch.minimum(*ends), torch.maximum(*ends)


def _centres(size: int, like: Tensor) -> Tensor:
    """Return the centres of `size` pixels between -1 and 1."""
    return (torch.arange(size, device=like.device, dtype=like.dtype) * 2 + 1) / size - 1


def recolour(images_BCHW: Tensor, colours: Tensor, *, out: Tensor) -> None:
    """Change brightness, contrast and saturation by `colours` (B, 3), clip, normalise, and write to `out`.

    Each change is a blend with black, with the mean grey of the image, or with the grey of the pixel. All three are
    linear, so that one matrix does them in any order. Values are clipped to black and white once; torchvision clips
    after each change.
    """
    pixels = images_BCHW.flatten(2)
    luma, mean, std = (on_device(numbers, pixels.device) for numbers in (_LUMA, IMAGENET_MEAN, IMAGENET_STD))
    brightness, contrast, saturation = colours.view(-1, 3, 1, 1).unbind(1)
    grey = (pixels.mean(2) @ luma).view(-1, 1, 1)
    matrix = brightness * contrast * (saturation * torch.eye(3, device=pixels.device) + (1 - saturation) * luma)
    scale, shift = (1 / (std * 255)).view(3, 1), (mean / std).view(3, 1)
    torch.baddbmm(brightness * (1 - contrast) * grey * scale - shift, matrix * scale, pixels, out=out.flatten(2))
    for channel, (middle, spread) in enumerate(zip(IMAGENET_MEAN, IMAGENET_STD, strict=True)):
        out[:, channel].clamp_(-middle / spread, (1 - middle) / spread)  # by numbers: five times as fast as by tensors
