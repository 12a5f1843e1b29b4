"""Draw what the model looked at for a class: Grad-CAM over the last feature map of each backbone.

Source: Selvaraju et al. 2017, arXiv:1610.02391, eq. 1 and 2. Of several backbones the maps are added: each is in units
of the same logit. The gradient is taken from the map on, so that a picture costs a forward pass.
"""

from __future__ import annotations

import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional

from cloudrun.imagedata.pixels import UnreadableImage, read_image
from cloudrun.recipe.progressive import evaluation_size
from trainer.data.augment import evaluation_transform, normalise
from trainer.model.ensemble import Ensemble
from trainer.session.setup import TrainingSetup

_STRENGTH = 0.6  # of the colour, where the map is highest
_WARM = (255.0, 96.0, 0.0)


class GradCam:
    """Draws images of one data set by one model, which stays as it is."""

    def __init__(self, setup: TrainingSetup) -> None:
        self._setup = setup
        self._transform = evaluation_transform(evaluation_size(setup.config), setup.model.inputs)
        self._places = {name: place for place, name in enumerate(setup.dataset.classes)}

    def __call__(self, image: str, class_name: str) -> Image.Image | None:
        """Return the image as the model sees it, warm where it speaks for the class; None where that is not known.

        `image`: relative to the data folder. None for an image that cannot be read, and for a model without a map.
        """
        setup = self._setup
        try:
            square: Tensor = self._transform(read_image(setup.dataset.folder / image).image)
        except UnreadableImage:
            return None
        images_BCHW = square.unsqueeze(0).to(setup.device.torch_device)
        try:
            heat = heat_map(setup.model, normalise(images_BCHW), self._places[class_name])
        except RuntimeError:  # of memory, or of a backbone whose parts do not fit together
            return None
        return None if heat is None else _painted(square, heat.cpu())


def heat_map(model: Ensemble, images_BCHW: Tensor, class_index: int) -> Tensor | None:
    """Return what speaks for a class in one image (1, 3, H, W), as (H, W) from 0 to 1; None without a feature map.

    All 0 where nothing speaks for the class.
    """
    was_training = model.training
    model.eval()
    try:
        with torch.enable_grad():
            maps, pooled = [], []
            for backbone, images in model.inputs_of_each(images_BCHW):
                found = _last_map(backbone, images)
                if found is None:
                    return None
                maps.append(found)
                pooled.append(backbone.forward_head(found))  # type: ignore[operator]
            logit = model.head(torch.cat(pooled, dim=1).float())[0, class_index]
            gradients = torch.autograd.grad(logit, maps)
    finally:
        model.train(was_training)
    size = images_BCHW.shape[-2:]
    heat = torch.zeros(size, device=images_BCHW.device)
    for one, gradient in zip(maps, gradients, strict=True):
        weights = gradient.mean(dim=(2, 3), keepdim=True)
        spoken = (weights * one.detach()).sum(1, keepdim=True).float()
        heat += functional.interpolate(spoken, size=size, mode="bilinear", align_corners=False)[0, 0]
    heat = heat.clamp(min=0)
    highest = heat.max()
    return heat / highest if highest > 0 else heat


def _last_map(backbone: nn.Module, images_BCHW: Tensor) -> Tensor | None:
    """Return the last feature map (1, C, h, w), with a gradient from there on; None where the backbone has none.

    A ViT has tokens, and some models have channels last (Swin): those have no such map.
    """
    forward_features = getattr(backbone, "forward_features", None)
    if not callable(forward_features) or not hasattr(backbone, "forward_head"):
        return None
    if getattr(backbone, "output_fmt", "NCHW") != "NCHW":
        return None
    with torch.no_grad():
        found = forward_features(images_BCHW)
    if not isinstance(found, Tensor) or found.ndim != 4 or min(found.shape[-2:]) < 2:
        return None
    return found.detach().requires_grad_()


def _painted(square: Tensor, heat: Tensor) -> Image.Image:
    """Return the image, uint8 (3, H, W), grey where nothing speaks for the class and warm where much does."""
    grey = square.float().mean(0, keepdim=True).expand(3, -1, -1)
    share = _STRENGTH * heat
    warm = torch.tensor(_WARM).view(3, 1, 1)
    painted = grey * (1 - share) + warm * share
    return Image.fromarray(painted.round().clamp(0, 255).to(torch.uint8).permute(1, 2, 0).numpy())
