"""Write the model card of an export: what the model is, what it rests on, how to load it, and its limits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import timm

from trainer.session.trained_model import TrainedModel

_SETTINGS = (
    "image_size", "epochs", "batch_size", "lr", "weight_decay", "dropout", "label_smoothing", "ema_decay", "mixup",
    "cutmix", "tta", "seed", "folds", "fold",
)  # fmt: skip

_LOAD_TIMM = """```python
import timm, torch

model = timm.create_model("local-dir:PATH/TO/THIS/FOLDER", pretrained=True).eval()
transform = timm.data.create_transform(**timm.data.resolve_data_config({}, model=model))
logits = model(transform(image).unsqueeze(0))  # image: a PIL image in RGB
```

Uploaded to a hub as it is, the folder loads by `timm.create_model("hf-hub:USER/NAME", pretrained=True)`."""

_LOAD_ENSEMBLE = """```python
from pathlib import Path
from load import load, probabilities  # load.py of this folder

print(probabilities(Path("."), ["image.jpg"]))
```

`python load.py image.jpg` prints its class; it needs torch, torchvision, timm, safetensors and Pillow.
`config.json` describes the layout: `backbones.N.*` are the weights of backbone N under timm's own names,
`head.weight` and `head.bias` the linear layer on their pooled features, concatenated in order."""

_LOAD_ONNX = """```python
import json, onnxruntime

session = onnxruntime.InferenceSession("model.onnx")
told = session.get_modelmeta().custom_metadata_map  # classes, resize, thresholds, ...
logits, probabilities = session.run(None, {"images": images})  # uint8 RGB (B, 3, S, S), not normalised
```"""

_LOAD_TORCH = """```python
import torch

files = {"preprocessing.json": ""}
model = torch.export.load("model.pt2", extra_files=files).module()
logits, probabilities = model(images)  # uint8 RGB (B, 3, S, S), not normalised
```"""


def model_card(
    trained: TrainedModel,
    *,
    form: str,
    state: Mapping[str, Any],
    summary: Mapping[str, Any] | None,
    files: Sequence[str],
) -> str:
    """Return README.md. `state`: the checkpoint; `summary`: that of its run, None where it has none."""
    told = summary or {}
    parts = [
        f"# {' + '.join(trained.config.backbones)}, {len(trained.classes)} classes",
        f"Trained by cloudrun's trainer, exported as {form}. Files: {', '.join(files)}, README.md.",
        "## What it predicts",
        _classes(trained),
        "## How good it is",
        _figures(state, told),
        "## How to load it",
        _loading(form, files),
        "## Images",
        _images(trained, is_graph=form in ("onnx", "torch")),
        "## Training",
        _training(trained, told),
        "## Weights and licence",
        _weights(trained),
        "## Limits",
        _limits(state, told),
    ]
    return "\n\n".join(parts) + "\n"


def _classes(trained: TrainedModel) -> str:
    limits = trained.rule.thresholds
    if limits is None:
        return "One class an image, the most probable of: " + ", ".join(f"`{name}`" for name in trained.classes) + "."
    rows = [f"| `{name}` | {limit:.4f} |" for name, limit in zip(trained.classes, limits, strict=True)]
    otherwise = "none" if trained.rule.allows_none else "the most probable one"
    head = f"Any number of classes an image: each above its threshold; where none is, {otherwise}."
    return "\n".join([head, "", "| class | threshold |", "| --- | --- |", *rows])


def _figures(state: Mapping[str, Any], summary: Mapping[str, Any]) -> str:
    images = summary.get("images") or {}
    name = summary.get("metric_name") or "val_accuracy"
    value = summary.get("best_metric", state.get("val_accuracy"))
    chosen = "The epoch was chosen by these images, so that the figure is a little too good."
    counted = f"on {images.get('val', 'the')} validation images"
    lines = [f"- `{name}` {_shown(value)} in epoch {state.get('epoch')}, {counted}. {chosen}"]
    if summary.get("test_accuracy") is not None:
        lines.append(
            f"- accuracy {_shown(summary['test_accuracy'])} on {images.get('test')} test images,"
            " which had no part in any choice."
        )
    else:
        lines.append("- No labelled test images: nothing says how good it is on images that had no part in a choice.")
    return "\n".join(lines)


def _loading(form: str, files: Sequence[str]) -> str:
    if form == "onnx":
        return _LOAD_ONNX
    if form == "torch":
        return _LOAD_TORCH
    return _LOAD_ENSEMBLE if "load.py" in files else _LOAD_TIMM


def _images(trained: TrainedModel, *, is_graph: bool) -> str:
    inputs, size = trained.model.inputs, trained.size
    resized = f"the shorter side resized to {inputs.resized_side(size)} px ({inputs.interpolation})"
    lines = [
        f"RGB, {resized}, the middle {size} x {size} px. `preprocessing.json` has this for programs.",
        *(["The graph normalises by these numbers inside:"] if is_graph else []),
        "",
        *(
            f"- `{name}`: mean {list(one.mean)}, standard deviation {list(one.std)}"
            for name, one in zip(trained.config.backbones, inputs.colourings, strict=True)
        ),
    ]
    if len(trained.model.views) > 1:
        lines.append(
            f"\nThe figures above are of the mean over {len(trained.model.views)} views of an image"
            f" (`tta: {trained.config.tta}`). Graphs do that inside; weights that timm loads do not."
        )
    return "\n".join(lines)


def _training(trained: TrainedModel, summary: Mapping[str, Any]) -> str:
    config = trained.config.model_dump(mode="json")
    images = summary.get("images") or {}
    counted = f"{images['train']} training images. " if "train" in images else ""
    settings = [f"| {key} | {config[key]} |" for key in _SETTINGS if key in config]
    versions = ", ".join(f"{name} {value}" for name, value in (summary.get("versions") or {}).items())
    return "\n".join(
        [
            f"{counted}{f'Versions: {versions}.' if versions else ''}",
            "",
            "| setting | value |",
            "| --- | --- |",
            *settings,
        ]
    ).strip()


def _weights(trained: TrainedModel) -> str:
    if trained.config.pretrained is False:
        return (
            "Trained from random weights. The licence of this model is yours to choose; that of the images may bind it."
        )
    lines = []
    for name in trained.config.backbones:
        cfg = timm.models.get_pretrained_cfg(name)
        licence = getattr(cfg, "license", None) or "timm states none: look at the page of the weights"
        hub = getattr(cfg, "hf_hub_id", None)
        page = f", https://huggingface.co/{str(hub).rstrip('/')}" if hub and "/" in str(hub) else ""
        lines.append(f"- `{name}` began from pretrained weights; licence as timm states it: {licence}{page}")
    lines.append("\nThe licence of the weights, and that of the images, may bind what is made of this model.")
    return "\n".join(lines)


def _limits(state: Mapping[str, Any], summary: Mapping[str, Any]) -> str:
    lines = [
        "- It knows its classes alone, and names one for any image, whatever the image shows.",
        "- It was tried on images like those it was trained on. Other cameras, seasons or places were not.",
        "- Probabilities are not calibrated.",
    ]
    if summary.get("stopped_early") or not summary:
        lines.append(f"- The run had not ended: this is its best model up to epoch {state.get('epoch')}.")
    if summary.get("findings"):
        lines += [f"- Found in training: {one.get('message')}" for one in summary["findings"] if isinstance(one, dict)]
    return "\n".join(lines)


def _shown(value: object) -> str:
    return f"{value:.4f}" if isinstance(value, int | float) else "unknown"
