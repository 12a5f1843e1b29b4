"""Export a run's best model: write the files, check them against the model, and only then give them their names."""

from __future__ import annotations

import importlib.util
import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from trainer.cross_validation.predict_folds import best_of, is_folds_run, summary_of
from trainer.errors import TrainerError
from trainer.export.deployed import Deployed, preprocessing_of
from trainer.export.graphs import write_onnx, write_torch
from trainer.export.model_card import model_card
from trainer.export.safetensors_files import write_safetensors
from trainer.outputs import checkpoint
from trainer.session.trained_model import TrainedModel, load_trained

Format = Literal["safetensors", "onnx", "torch"]
Write = Callable[[TrainedModel, Path], Callable[[Tensor], Tensor]]

PREPROCESSING = "preprocessing.json"
_TOLERANCE = 1e-3  # of the largest logit, at least of 1
_CHECKED_IMAGES = 3
_WRITERS: dict[str, Write] = {"safetensors": write_safetensors, "onnx": write_onnx, "torch": write_torch}
_NEEDS: dict[str, tuple[str, ...]] = {
    "onnx": ("onnx", "onnxscript", "onnxruntime"),
    "safetensors": ("safetensors",),
    "torch": (),
}


@dataclass(frozen=True, slots=True)
class Exported:
    """A folder with an exported model, and how far its logits are from the model's on the images of the check."""

    folder: Path
    largest_difference: float


def export_run(
    folder: Path, *, form: Format, out: Path, fold: int | None = None, say: Callable[[str], None]
) -> list[Exported]:
    """Export the best model of the run in `folder` to `out`; of folds each, to `out`/fold-I, or that of `fold`.

    Raises TrainerError where the run has no best model, not all its folds have ended, or a file does not answer as the
    model does; then no file has its name.
    """
    _refuse_missing(form)
    if (folder / "stacking.json").is_file():
        raise TrainerError(
            f"{folder} is a stack: it combines the predictions of several models, and is no model itself",
            hint="export its runs one by one; `cloudrun predict` answers as the whole stack does",
        )
    if not is_folds_run(folder):
        if fold is not None:
            raise TrainerError(f"{folder} has no folds, and fold {fold} was asked for", hint="leave out `--fold`")
        return [export_checkpoint(folder / "checkpoints" / "best.pt", form=form, out=out, run=folder, say=say)]
    wanted = [fold] if fold is not None else list(range(summary_of(folder)["folds"]))
    return [
        export_checkpoint(
            best_of(folder, one),
            form=form,
            out=out if fold is not None else out / f"fold-{one}",
            run=folder / f"fold-{one}",
            say=say,
        )
        for one in wanted
    ]


def export_checkpoint(
    path: Path, *, form: Format, out: Path, run: Path | None = None, say: Callable[[str], None]
) -> Exported:
    """Export the model of a checkpoint to `out`. `run`: the folder whose summary.json the model card tells of."""
    _refuse_missing(form)
    trained = load_trained(path, device="cpu")
    state = checkpoint.load(path)
    trained.model.eval().set_memory_formats(["contiguous"] * len(trained.config.backbones))
    deployed = Deployed.of(trained)
    preprocessing = preprocessing_of(trained)
    out.mkdir(parents=True, exist_ok=True)
    partial = out / ".partial"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    try:
        say(f"writing {form} of {path}")
        logits_of = _WRITERS[form](trained, partial)
        difference = _check(logits_of, deployed, trained.size, form)
        say(f"checked: logits of {_CHECKED_IMAGES} images differ from the model's by {difference:.1e} at most")
        (partial / PREPROCESSING).write_text(json.dumps(preprocessing, indent=2) + "\n", encoding="utf-8")
        card = model_card(trained, form=form, state=state, summary=_summary(run), files=_names(partial))
        (partial / "README.md").write_text(card, encoding="utf-8")
        for file in sorted(partial.iterdir()):
            file.replace(out / file.name)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return Exported(out, difference)


def _check(logits_of: Callable[[Tensor], Tensor], deployed: Deployed, image_size: int, form: str) -> float:
    """Return the largest difference of the logits. Raises TrainerError where it is beyond the tolerance."""
    images = _some_images(image_size)
    with torch.inference_mode():
        expected = deployed(images)[0]
        found = logits_of(images)
    limit = _TOLERANCE * max(1.0, float(expected.abs().max()))
    difference = float((found - expected).abs().max()) if found.shape == expected.shape else float("inf")
    if not difference <= limit:
        raise TrainerError(
            f"the exported file ({form}) does not answer as the model does: logits differ by {difference:.3g}, and"
            f" {limit:.3g} is allowed; no file was written",
            hint="try another `--format`, and please report the backbone",
        )
    return difference


def _some_images(image_size: int) -> Tensor:
    """Return uint8 (3, 3, S, S): noise, and two slopes of light."""
    noise = torch.randint(0, 256, (1, 3, image_size, image_size), generator=torch.Generator().manual_seed(0))
    slope = torch.linspace(0, 255, image_size).expand(3, image_size, image_size)
    parts = [noise[0].float(), slope, slope.flip(0).transpose(1, 2)]
    return torch.stack(parts).to(torch.uint8)


def _summary(run: Path | None) -> dict[str, Any] | None:
    try:
        found = json.loads((run / "summary.json").read_text(encoding="utf-8")) if run is not None else None
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def _names(folder: Path) -> Sequence[str]:
    return sorted(path.name for path in folder.iterdir())


def _refuse_missing(form: Format) -> None:
    missing = [name for name in _NEEDS[form] if importlib.util.find_spec(name) is None]
    if missing:
        raise TrainerError(
            f"`--format {form}` needs {', '.join(missing)}, which this Python has not",
            hint=f"`cloudrun export` installs them by itself; here: `pip install {' '.join(missing)}`",
        )
