"""Write weights as safetensors: a model of one backbone as timm's own, several with a loader beside them."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import timm
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from trainer.errors import TrainerError
from trainer.export import load_ensemble
from trainer.export.deployed import preprocessing_of
from trainer.model.views import mean_logits
from trainer.session.trained_model import TrainedModel

# Keys of the config that timm's models know nothing of, beside their defaults.
_OF_OUR_OWN = ("head", "pooling")
WEIGHTS, CONFIG, LOADER = "model.safetensors", "config.json", "load.py"


def write_safetensors(trained: TrainedModel, folder: Path) -> Callable[[Tensor], Tensor]:
    """Write the weights and their config.json; return the logits of uint8 images by a model that was loaded anew.

    With one backbone, `timm.create_model("local-dir:FOLDER")` loads them. With several, or where timm's own classifier
    is not one linear layer on the pooled features, load.py does.
    Raises TrainerError where neither knows the head or the pooling.
    """
    own = [f"{key}: {getattr(trained.config, key)}" for key in _OF_OUR_OWN if _is_changed(trained, key)]
    if own:
        raise TrainerError(
            f"`--format safetensors` is for models as timm has them, and this one has `{own[0]}`",
            hint="take `--format onnx` or `--format torch`",
        )
    if len(trained.config.backbones) == 1:
        config = _write_for_timm(trained, folder)
        if config is not None:
            return _with_views(trained, _by_timm(folder))
    _write_ensemble(trained, folder)
    return _with_views(trained, _by_loader(folder))


def _is_changed(trained: TrainedModel, key: str) -> bool:
    return bool(getattr(trained.config, key) != type(trained.config).model_fields[key].default)


def _write_for_timm(trained: TrainedModel, folder: Path) -> dict[str, Any] | None:
    """Write the model as timm's; None where its classifier cannot take the head's weights."""
    name, (backbone,) = trained.config.backbones[0], trained.model.backbones.values()
    cfg, count = dict(getattr(backbone, "pretrained_cfg", {})), len(trained.classes)
    arguments = _arguments(trained, name)
    with torch.random.fork_rng(devices=()):
        whole = timm.create_model(name, pretrained=False, num_classes=count, **arguments)
    head, classifier = trained.model.head, cfg.get("classifier")
    assert isinstance(head, nn.Linear)
    wanted = whole.state_dict()
    if not isinstance(classifier, str) or wanted.get(f"{classifier}.weight") is None:
        return None
    tensors = dict(backbone.state_dict())
    for key, values in (("weight", head.weight), ("bias", head.bias)):
        place = f"{classifier}.{key}"
        if place not in wanted or wanted[place].numel() != values.numel():
            return None
        tensors[place] = values.detach().reshape(wanted[place].shape)
    if set(tensors) != set(wanted) or any(tensors[key].shape != wanted[key].shape for key in wanted):
        return None
    inputs, size = trained.model.inputs, trained.size
    config = {
        "architecture": name.partition(".")[0],
        "num_classes": count,
        "num_features": head.in_features,
        "label_names": list(trained.classes),
        "model_args": arguments,
        "pretrained_cfg": {
            "tag": "cloudrun",
            "custom_load": False,
            "input_size": [3, size, size],
            "fixed_input_size": bool(cfg.get("fixed_input_size")),
            "interpolation": inputs.interpolation,
            "crop_pct": inputs.crop,
            "crop_mode": "center",
            "mean": list(inputs.colourings[0].mean),
            "std": list(inputs.colourings[0].std),
            "num_classes": count,
            "pool_size": cfg.get("pool_size"),
            "first_conv": cfg.get("first_conv"),
            "classifier": classifier,
        },
    }
    _save(folder, tensors, config)
    return config


def _by_timm(folder: Path) -> Callable[[Tensor], Tensor]:
    model = timm.create_model(f"local-dir:{folder.absolute()}", pretrained=True).eval()
    cfg = timm.data.resolve_data_config({}, model=model)
    mean, std = (torch.tensor(cfg[name]).view(3, 1, 1) * 255 for name in ("mean", "std"))
    return lambda images: model((images.float() - mean) / std)


def _write_ensemble(trained: TrainedModel, folder: Path) -> None:
    model = trained.model
    tensors = {
        f"backbones.{place}.{key}": values
        for place, backbone in enumerate(model.backbones.values())
        for key, values in backbone.state_dict().items()
    }
    tensors |= {f"head.{key}": values for key, values in model.head.state_dict().items()}
    preprocessing = preprocessing_of(trained)
    config = {
        "layout": load_ensemble.LAYOUT,
        "backbones": [
            {
                "architecture": name,
                "model_args": _arguments(trained, name),
                "mean": list(colouring.mean),
                "std": list(colouring.std),
            }
            for name, colouring in zip(trained.config.backbones, model.inputs.colourings, strict=True)
        ],
        "num_features": model.head.in_features,
        "num_classes": len(trained.classes),
        "label_names": list(trained.classes),
        "preprocessing": preprocessing,
    }
    _save(folder, tensors, config)
    (folder / LOADER).write_text(Path(load_ensemble.__file__).read_text(encoding="utf-8"), encoding="utf-8")


def _by_loader(folder: Path) -> Callable[[Tensor], Tensor]:
    """Load by the file that was written, as its readers will."""
    spec = importlib.util.spec_from_file_location("cloudrun_exported_loader", folder / LOADER)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    loaded: Callable[[Tensor], Tensor] = module.load(folder)
    return loaded


def _with_views(trained: TrainedModel, logits_of: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """Weights know nothing of test-time augmentation: average the views of an image as the run's model does."""
    if not trained.model.views:
        return logits_of
    return lambda images: mean_logits(trained.model.views, images, logits_of)


def _arguments(trained: TrainedModel, name: str) -> dict[str, Any]:
    """Return the arguments with which timm makes the backbone for images of the run's size."""
    cfg = timm.models.get_pretrained_cfg(name)
    return {"img_size": trained.size} if cfg is not None and cfg.fixed_input_size else {}


def _save(folder: Path, tensors: dict[str, Tensor], config: dict[str, Any]) -> None:
    copies = {key: values.detach().clone().contiguous() for key, values in tensors.items()}
    save_file(copies, folder / WEIGHTS, metadata={"format": "pt"})
    (folder / CONFIG).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
