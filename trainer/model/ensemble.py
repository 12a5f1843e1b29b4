"""Build the network: timm backbones side by side, pooled features concatenated, one linear layer."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import timm
import torch
from timm.layers import DropPath
from torch import Tensor, nn

from cloudrun.recipe.inputs import Colouring, Inputs, inputs_of
from cloudrun.recipe.one_size import SEVERAL_SIZES
from cloudrun.recipe.progressive import sizes_seen
from cloudrun.recipe.train_config import TrainConfig
from cloudrun.recipe.views import View
from cloudrun.recipe.weights import weight_file
from trainer.errors import TrainerError
from trainer.model.checkpointing import recompute_activations
from trainer.model.heads import CosineHead, make_head, of_samples
from trainer.model.pooling import check_is_used, use_gem
from trainer.model.views import mean_logits

MEMORY_FORMATS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}


class Ensemble(nn.Module):
    """Backbones (dict of timm name -> module that returns pooled features), dropout, one linear layer."""

    def __init__(self, backbones: dict[str, nn.Module], *, head: nn.Linear | CosineHead, config: TrainConfig) -> None:
        super().__init__()
        # A module's name must not contain a dot, as in `efficientnet_b3.ra2_in1k`.
        self.backbones = nn.ModuleDict({name.replace(".", "-"): one for name, one in backbones.items()})
        self.memory_formats = [torch.contiguous_format] * len(backbones)
        self.compiled: Callable[[Tensor], Tensor] | None = None  # a compiled `logits`, used in training only
        self.is_frozen = False  # the backbones do not learn: set by `freeze_backbones`
        self.views: tuple[View, ...] = ()  # whose logits are averaged in evaluation; none: the image as it is
        self.set_inputs(Inputs((Colouring(),) * len(backbones)))
        self.dropout, self._dropout_samples = nn.Dropout(config.dropout), config.dropout_samples
        self.head = head

    def forward(self, images_BCHW: Tensor) -> Tensor:
        """Return logits (B, classes) from the pooled features of the backbones, concatenated along dim 1.

        In training with several samples of dropout (B, samples, classes).
        """
        if self.training:
            is_compiled = self.compiled and not self.is_frozen
            return self.compiled(images_BCHW) if self.compiled and is_compiled else self.logits(images_BCHW)
        return mean_logits(self.views, images_BCHW, self.logits) if self.views else self.logits(images_BCHW)

    def train(self, mode: bool = True) -> Self:
        """Set the mode; frozen backbones stay in that of evaluation."""
        super().train(mode)
        if self.is_frozen:
            self.backbones.eval()
        return self

    def logits(self, images_BCHW: Tensor) -> Tensor:
        """Return the logits of the images as they are, never compiled."""
        return self._classified(self.features(images_BCHW))

    def _classified(self, features: Tensor) -> Tensor:
        """Return float32 logits: rounded to 8 bits, as autocast would, classes that are near each other tie."""
        with torch.autocast(features.device.type, enabled=False):
            if self.training and self._dropout_samples > 1:
                return of_samples(self.head, self.dropout, features.float(), samples=self._dropout_samples)
            logits: Tensor = self.head(self.dropout(features.float()))
        return logits

    def set_inputs(self, inputs: Inputs) -> None:
        """Give each backbone images of its own colouring, whatever `forward` is given has that of ImageNet."""
        self.inputs = inputs
        # No buffers: averages of the weights, and of several processes, would round them.
        place = next((parameter.device for parameter in self.parameters()), None)
        self._recolourings = [
            None if change is None else tuple(torch.tensor(one, device=place).view(3, 1, 1) for one in change)
            for change in (colouring.from_imagenet() for colouring in inputs.colourings)
        ]

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        self._recolourings = [change and tuple(fn(one) for one in change) for change in self._recolourings]
        return self

    def features(self, images_BCHW: Tensor) -> Tensor:
        """Return pooled features (B, sum of the backbones' feature counts). Images are normalised as ImageNet's are."""
        return torch.cat([backbone(images) for backbone, images in self.inputs_of_each(images_BCHW)], dim=1)

    def inputs_of_each(self, images_BCHW: Tensor) -> Iterator[tuple[nn.Module, Tensor]]:
        """Yield each backbone with the images (B, 3, H, W) in its own colouring and memory format."""
        for backbone, memory_format, change in zip(
            self.backbones.values(), self.memory_formats, self._recolourings, strict=True
        ):
            images = images_BCHW if change is None else torch.addcmul(change[1], images_BCHW, change[0])
            yield backbone, images.contiguous(memory_format=memory_format)

    def parameter_count(self) -> int:
        return sum(parameter.numel() for parameter in self.parameters())

    def use_default_formats(self, device_type: str) -> None:
        """Choose memory formats by rule, where nothing is measured: channels last, but not for ResNeSt on a GPU.

        There contiguous is faster: 535 against 202 images/s on an RTX 3090, by timm's benchmark.
        """
        is_gpu = device_type == "cuda"
        self.set_memory_formats(
            ["contiguous" if is_gpu and "resnest" in name else "channels_last" for name in self.backbones]
        )

    def set_memory_formats(self, formats: Sequence[str]) -> None:
        """Put each backbone into its memory format, by the names of MEMORY_FORMATS."""
        self.memory_formats = [MEMORY_FORMATS[name] for name in formats]
        for backbone, memory_format in zip(self.backbones.values(), self.memory_formats, strict=True):
            backbone.to(memory_format=memory_format)

    def format_names(self) -> list[str]:
        names = {memory_format: name for name, memory_format in MEMORY_FORMATS.items()}
        return [names[memory_format] for memory_format in self.memory_formats]


def build_model(config: TrainConfig, *, classes: int, pretrained: bool | str | None = None) -> Ensemble:
    """Build the model that `config` describes. `pretrained` replaces the config's value (False to load a checkpoint).

    Weights without a file are drawn from torch's global RNG. Raises TrainerError where weights are missing, or a
    backbone cannot take images of one of the sizes of the config; NoWeights where the folder has
    none.
    """
    source = config.pretrained if pretrained is None else pretrained
    backbones = {name: _backbone(name, source, config) for name in config.backbones}
    if config.drop_path:
        for name, one in backbones.items():
            set_drop_path(one, config.drop_path, name=name)
    if config.pooling == "gem":
        for name, one in backbones.items():
            use_gem(one, name=name)
            check_is_used(one, name=name, image_size=config.image_size)
    if config.grad_checkpointing:
        for name, one in backbones.items():
            recompute_activations(one, name=name, image_size=config.image_size)
    for size in sizes_seen(config):
        for name, one in backbones.items() if size != config.image_size else ():
            _count_features(name, one, size)
    counts = [_count_features(name, one, config.image_size) for name, one in backbones.items()]
    model = Ensemble(backbones, head=make_head(config, in_features=sum(counts), classes=classes), config=config)
    model.set_inputs(inputs_of([_pretrained_cfg(one) for one in backbones.values()]))
    return model


def set_drop_path(backbone: nn.Module, rate: float, *, name: str) -> None:
    """Skip residual branches in training (stochastic depth): from 0 at the first block to `rate` at the last.

    Set on the finished module, so that weights and their file are those of the model without. Source: Huang et al.
    2016, arXiv:1603.09382, the linear rule. Raises TrainerError where `model` has no residual branches.
    """
    kwargs = {"drop_path_rate": rate, "num_classes": 0}
    try:
        model = _module(timm.create_model(name, pretrained=False, **kwargs))
    except TypeError:
        model = nn.Identity()
    dropping = {key: one for key, one in model.named_modules() if isinstance(one, DropPath) and one.drop_prob}
    if not dropping:
        raise TrainerError(
            f"`{name}` has no residual branches that can be left out",
            hint="set `drop_path: 0`, or choose another backbone",
        )
    for key, one in dropping.items():
        parent, _, place = key.rpartition(".")
        setattr(backbone.get_submodule(parent), place, one)


def _backbone(name: str, pretrained: bool | str, config: TrainConfig) -> nn.Module:
    if pretrained is False:
        return _create(name, config)
    if isinstance(pretrained, str):
        file = weight_file(name, Path(pretrained).expanduser())
        return _backbone_from(file, name, config)
    try:
        return _create(name, config, pretrained=True)
    except Exception as err:  # the hub's client raises its own errors, and those of httpx and urllib
        raise TrainerError(
            f"the pretrained weights of `{name}` could not be had: {_first_line(err)}",
            hint="without internet, set `pretrained` to a folder of <timm name>.pth files, or to false",
        ) from err


def _backbone_from(file: Path, name: str, config: TrainConfig) -> nn.Module:
    try:
        model = _create(name, config, pretrained=True, pretrained_cfg_overlay={"file": str(file)})
        held = set(timm.models.load_state_dict(str(file), weights_only=True))
    except Exception as err:  # pickle, zipfile and safetensors raise errors of their own, also of no common class
        raise TrainerError(
            f"{file} does not hold weights of `{name}`: {_first_line(err)}",
            hint="the file has to be as torch.save(model.state_dict()) or safetensors writes it",
        ) from err
    # timm only warns of missing weights, and leaves them random.
    missing = [key for key in model.state_dict() if key not in held and not key.endswith("num_batches_tracked")]
    if missing:
        raise TrainerError(
            f"{file} does not hold weights of `{name}`: {len(missing)} are missing, among them {missing[0]}",
            hint="the file has to have timm's own names of parameters; is it another model's?",
        )
    return model


def _create(name: str, config: TrainConfig, **kwargs: Any) -> nn.Module:
    """Create timm's model without its classifier, for images of `config.image_size` and the other sizes of the run.

    A model of fixed size (ViT, Swin, EVA, DINOv2) is told the size, and timm fits the weights of its positions to it.
    """
    cfg = timm.models.get_pretrained_cfg(name)
    if cfg is None or not cfg.fixed_input_size:
        return _module(timm.create_model(name, num_classes=0, **kwargs))
    size = {"img_size": config.image_size}
    several = [{**size, **options} for options in SEVERAL_SIZES]
    random = torch.get_rng_state()
    for options in (*(several if len(sizes_seen(config)) > 1 else ()), size):
        try:
            return _module(timm.create_model(name, num_classes=0, **options, **kwargs))
        except TypeError:  # a model that does not know the option
            torch.set_rng_state(random)
    return _module(timm.create_model(name, num_classes=0, **kwargs))


def _pretrained_cfg(backbone: nn.Module) -> Mapping[str, Any]:
    cfg: Mapping[str, Any] = getattr(backbone, "pretrained_cfg", {})
    return cfg


def _module(model: object) -> nn.Module:
    assert isinstance(model, nn.Module)
    return model


def _count_features(name: str, backbone: nn.Module, image_size: int) -> int:
    """Count the pooled features by a forward pass: timm's `num_features` is wrong for some models (mobilenetv3)."""
    _check_patches(name, backbone, image_size)
    was_training = backbone.training
    try:
        with torch.no_grad():
            pooled: Tensor = backbone.eval()(torch.zeros(1, 3, image_size, image_size))
    except (AssertionError, RuntimeError) as err:
        raise TrainerError(
            f"`{name}` does not take images of {image_size} px: {_first_line(err)}",
            hint="change `image_size` (some take one size alone, or multiples of 32), or choose another backbone",
        ) from err
    backbone.train(was_training)
    if pooled.ndim != 2:
        raise TrainerError(
            f"`{name}` gives features of shape {tuple(pooled.shape)}, not one vector an image",
            hint="choose another backbone",
        )
    return int(pooled.shape[1])


def _check_patches(name: str, backbone: nn.Module, image_size: int) -> None:
    """Raise TrainerError where timm would cut off the pixels beyond the last whole patch without a word."""
    patch = getattr(getattr(backbone, "patch_embed", None), "patch_size", None)
    side = patch[0] if isinstance(patch, tuple) else patch
    if not isinstance(side, int) or image_size % side == 0:
        return
    smaller = image_size // side * side
    raise TrainerError(
        f"`{name}` sees patches of {side} px, and {image_size} px are no multiple",
        hint=f"set `image_size` to {smaller} or {smaller + side}, or choose another backbone",
    )


def _first_line(err: BaseException) -> str:
    lines = [line.strip() for line in str(err).splitlines() if line.strip()]
    return (lines[0] if len(lines) < 2 else f"{lines[0]} {lines[1]}")[:300] if lines else type(err).__name__
