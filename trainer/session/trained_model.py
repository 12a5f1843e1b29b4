"""Load a checkpoint for prediction: its model on the device, and batches as in its validation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from pydantic import ValidationError

from cloudrun.imagedata.folders import UNLABELLED
from cloudrun.recipe.inputs import inputs_from
from cloudrun.recipe.progressive import evaluation_size
from cloudrun.recipe.train_config import TrainConfig
from cloudrun.recipe.views import views_of
from trainer.data.augment import evaluation_transform
from trainer.data.loader import Loader, check_headers
from trainer.data.loader_budget import loader_budget
from trainer.errors import TrainerError
from trainer.model.ensemble import Ensemble, build_model
from trainer.model.targets import DecisionRule, decision_rule_from
from trainer.model.views import loaded_size
from trainer.outputs import checkpoint
from trainer.session.device import Device, choose_device, thread_count, tune_for_cpu, worker_count

_BATCH_GPU, _BATCH_CPU = 64, 32


@dataclass(frozen=True)
class TrainedModel:
    """A trained model, with the `classes` and the decision `rule` of its training."""

    config: TrainConfig
    classes: tuple[str, ...]
    rule: DecisionRule
    device: Device
    model: Ensemble

    @property
    def size(self) -> int:
        """Pixels a side of the images that the model is given: those of its largest view."""
        return loaded_size(self.model.views, otherwise=evaluation_size(self.config))

    def loader(self, images: Sequence[Path], *, size: int | None = None) -> Loader:
        """Return a loader of `images` in this order. Raises FolderProblem at an image whose header cannot be read.

        `size`: pixels a side; None: those that the model's views need.
        """
        files = [(image, UNLABELLED) for image in images]
        check_headers(files)
        size = size or self.size
        batch = _batch_size(size) if self.device.is_cuda else _BATCH_CPU
        loading = loader_budget(worker_count(self.config, self.device), batch_bytes=batch * 3 * size**2)
        return Loader(
            files,
            evaluation_transform(size, self.model.inputs),
            batch_size=batch,
            seed=None,
            workers=loading.workers,
            prefetch=loading.prefetch,
            pin_memory=self.device.is_cuda,
        )


def _batch_size(image_size: int) -> int:
    """Return, for a GPU, the images with as many pixels as 64 images of 224 px.

    They need less memory than in training.
    """
    return max(2, min(_BATCH_GPU, _BATCH_GPU * 224**2 // image_size**2))


def load_trained(
    path: Path, *, device: Literal["auto", "cuda", "cpu"] = "auto", tta: str | None = None
) -> TrainedModel:
    """Return the model of best.pt or last.pt, with its test-time augmentation, or another one: `tta`.

    Raises TrainerError where the file or the device cannot be used.
    """
    state = checkpoint.load(path)
    config = _config_of(state, path, device)
    if tta is not None:
        config = TrainConfig.model_validate({**config.model_dump(), "tta": tta})
    chosen = choose_device(config)
    model = build_model(config, classes=len(state["classes"]), pretrained=False)
    model.load_state_dict(state["model"])
    model.set_inputs(inputs_from(state.get("inputs"), backbones=len(config.backbones)))
    model.views = views_of(config)
    model.to(chosen.torch_device).use_default_formats(chosen.torch_device.type)
    if not chosen.is_cuda:
        tune_for_cpu()
        torch.set_num_threads(thread_count(parameters=model.parameter_count()))
    return TrainedModel(config, tuple(state["classes"]), decision_rule_from(state.get("naming")), chosen, model)


def _config_of(state: checkpoint.State, path: Path, device: str) -> TrainConfig:
    try:
        return TrainConfig.model_validate({**state["config"], "device": device, "precision": "auto"})
    except ValidationError as err:
        raise TrainerError(
            f"{path} was written by another version of the trainer: {err.error_count()} key(s) of its config differ",
            hint="predict with the version that trained it",
        ) from err
