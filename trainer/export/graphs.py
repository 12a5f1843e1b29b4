"""Write the model as one graph: ONNX, or torch.export's .pt2. Any number of images at once, of one size."""

from __future__ import annotations

import contextlib
import io
import json
import warnings
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from trainer.errors import TrainerError
from trainer.export.deployed import INPUT_NAME, OUTPUT_NAMES, Deployed, preprocessing_of
from trainer.session.trained_model import TrainedModel

_EXAMPLES = 2  # images while tracing: of one image, torch.export would take the number for fixed
_OPSET = 18


def write_torch(trained: TrainedModel, folder: Path) -> Callable[[Tensor], Tensor]:
    """Write model.pt2, and return its logits as a function of uint8 images, by the file as it was written."""
    path = folder / "model.pt2"
    graph = _graph(trained)
    torch.export.save(graph, path, extra_files={"preprocessing.json": json.dumps(preprocessing_of(trained))})
    module = torch.export.load(path).module()
    return lambda images: module(images)[0]


def write_onnx(trained: TrainedModel, folder: Path) -> Callable[[Tensor], Tensor]:
    """Write model.onnx, and return its logits as a function of uint8 images, by ONNX Runtime."""
    import onnx
    import onnxruntime

    path = folder / "model.onnx"
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")  # of onnxscript, about itself
        program = torch.onnx.export(
            _graph(trained),
            input_names=[INPUT_NAME],
            output_names=list(OUTPUT_NAMES),
            dynamo=True,
            opset_version=_OPSET,
            verbose=False,
        )
    assert program is not None
    program.save(str(path))
    model = onnx.load(str(path))
    for key, value in preprocessing_of(trained).items():
        entry = model.metadata_props.add()
        entry.key, entry.value = key, value if isinstance(value, str) else json.dumps(value)
    onnx.save(model, str(path))
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return lambda images: torch.from_numpy(session.run([OUTPUT_NAMES[0]], {INPUT_NAME: images.numpy()})[0])


def _graph(trained: TrainedModel) -> torch.export.ExportedProgram:
    size = trained.size
    example = torch.zeros(_EXAMPLES, 3, size, size, dtype=torch.uint8)
    try:
        return torch.export.export(
            Deployed.of(trained), (example,), dynamic_shapes={"images_BCHW": {0: torch.export.Dim("batch", min=1)}}
        )
    except Exception as err:  # torch.export raises errors of many kinds for what it cannot trace
        lines = str(err).splitlines() or [type(err).__name__]
        raise TrainerError(
            f"torch.export cannot trace {' + '.join(trained.config.backbones)}: {lines[0][:300]}",
            hint="`--format safetensors` needs no graph",
        ) from err
