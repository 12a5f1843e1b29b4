"""A checkpoint and a folder of images -> predictions.csv."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import torch
from pydantic import ValidationError

from trainer import checkpoint
from trainer.augment import evaluation_transform
from trainer.config import TrainConfig
from trainer.device import choose_device, thread_count, tune_for_cpu, worker_count
from trainer.errors import TrainerError
from trainer.folders import UNLABELLED, FolderProblem, list_images
from trainer.loader import Loader, check_headers
from trainer.model import build_model
from trainer.scores import evaluate
from trainer.summary import write_predictions
from trainer.targets import naming_from, targets_for

_BATCH_GPU, _BATCH_CPU = 64, 32


def predict(path: Path, *, data: Path, out: Path, device: Literal["auto", "cuda", "cpu"] = "auto") -> None:
    """Write `out`: a row for each image of `data`/test, or of `data` where it has no test folder.

    Raises TrainerError where the checkpoint or an image cannot be read, or there are no images.
    """
    state = checkpoint.load(path)
    naming = naming_from(state.get("naming"))
    targets = targets_for(naming, classes=len(state["classes"]))
    config = _config_of(state, path, device)
    folder = data / "test" if (data / "test").is_dir() else data
    files = [(image, UNLABELLED) for image in list_images(folder)]
    if not files:
        raise FolderProblem(f"there are no images in {folder}", hint="`--data` takes a folder of images")
    check_headers(files)
    place = choose_device(config)
    model = build_model(config, classes=len(state["classes"]), pretrained=False)
    model.load_state_dict(state["model"])
    model.has_mirror = config.tta == "flip"
    model.to(place.torch_device).lay_out_for(place.torch_device.type)
    if not place.is_cuda:
        tune_for_cpu()
        torch.set_num_threads(thread_count(parameters=model.parameter_count()))
    loader = Loader(
        files,
        evaluation_transform(config.image_size),
        batch_size=_BATCH_GPU if place.is_cuda else _BATCH_CPU,
        seed=None,
        workers=worker_count(config, place),
        pin_memory=place.is_cuda,
    )
    scores = evaluate(model, loader, place, targets=targets)
    names = [image.relative_to(data).as_posix() for image, _ in files]
    write_predictions(out, names, scores, state["classes"], naming)


def _config_of(state: checkpoint.State, path: Path, device: str) -> TrainConfig:
    try:
        return TrainConfig.model_validate({**state["config"], "device": device, "precision": "auto"})
    except ValidationError as err:
        raise TrainerError(
            f"{path} was written by another version of the trainer: {err.error_count()} key(s) of its config differ",
            hint="predict with the version that trained it",
        ) from err
