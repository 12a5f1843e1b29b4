"""What real runs find wrong with themselves: in the log, in summary.json, and after a resume."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from cloudrun.recipe.train_config import TrainConfig
from tests.support.trainer_runs import TINY, StopsAfter
from trainer.distributed.stop import StopFlag
from trainer.errors import StoppedEarly
from trainer.model.ensemble import Ensemble
from trainer.outputs.progress import Progress
from trainer.training.engine import train

Config = Callable[..., TrainConfig]


class SmallMemory:
    """While entered, memory runs out where the model trains on more than `images` at once."""

    def __init__(self, *, images: int) -> None:
        self._images = images

    def __enter__(self) -> "SmallMemory":
        self._hook = torch.nn.modules.module.register_module_forward_pre_hook(self._check)
        return self

    def __exit__(self, *_: object) -> None:
        self._hook.remove()

    def _check(self, module: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        if isinstance(module, Ensemble) and module.training and len(inputs[0]) > self._images:
            raise torch.OutOfMemoryError("CUDA out of memory")


def said_by(config: TrainConfig, data: Path, out: Path, stop: StopFlag | None = None) -> list[str]:
    """The lines of the log of training `config`, whether it ends or is stopped."""
    log = out.with_suffix(".txt")
    with log.open("w") as stream:
        try:
            train(config, data=data, out=out, stop=stop or StopFlag(), progress=Progress(stream=stream))
        except StoppedEarly as stopped:
            stream.write(stopped.message)
    return log.read_text().splitlines()


def findings(out: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((out / "summary.json").read_text())["findings"]
    return found


def test_a_run_that_learns_nothing_says_so_when_it_is_seen_and_at_the_end_though_stopped_between(
    leaves: Path, tmp_path: Path, tiny_config: Config
) -> None:
    config = tiny_config(backbones=["test_resnet"], lr=1e-7, epochs=6, batch_size=2)
    first = said_by(config, leaves, tmp_path / "out", StopsAfter(115))
    assert "in epoch 6/6" in first[-1]
    (told,) = (line for line in first if line.startswith("finding"))
    assert told.startswith("finding (epoch 5): the training loss does not fall: after epoch 5 it is 1.")
    (hint,) = (line for line in first if line.startswith("  try: first `python -m cloudrun.trainer overfit`"))
    assert "`lr` is 1e-07" in hint
    (kept,) = findings(tmp_path / "out")
    assert (kept["kind"], kept["epoch"]) == ("not_learning", 5)
    assert [f"finding (epoch 5): {kept['message']}", f"  try: {kept['hint']}"] == [told, hint]

    second = said_by(config, leaves, tmp_path / "out")
    assert not [line for line in second if line.startswith("finding")]  # it was told
    assert second[-3:-1] == [
        "1 finding; see above and summary.json for what to try:",
        f"  epoch 5: {kept['message']}",
    ]
    assert findings(tmp_path / "out") == [kept]


def test_memory_that_ran_out_is_a_finding(leaves: Path, tmp_path: Path, tiny_config: Config) -> None:
    with SmallMemory(images=4):
        said = said_by(tiny_config(backbones=["test_resnet"], epochs=1), leaves, tmp_path / "out")
    assert "out of memory: from here on 4 images at once, accumulated" in said
    (found,) = findings(tmp_path / "out")
    assert (found["kind"], found["epoch"]) == ("out_of_memory", 1)
    assert "4 images at once instead of 8" in found["message"]


def test_a_run_without_trouble_finds_nothing(leaves: Path, tmp_path: Path) -> None:
    said = said_by(TrainConfig.model_validate(TINY | {"lr": 3e-3}), leaves, tmp_path / "out")
    assert not [line for line in said if "finding" in line]
    assert findings(tmp_path / "out") == []


def test_the_share_of_time_spent_waiting_for_images_is_measured(tmp_path: Path, tiny_config: Config) -> None:
    """PNGs that take many times as long to decode as a tiny model takes for its step."""
    page = Image.effect_noise((1200, 1200), 30).convert("RGB")
    for split, images in (("train", 4), ("val", 1)):
        for name in ("a", "b"):
            folder = tmp_path / "data" / split / name
            folder.mkdir(parents=True)
            page.save(folder / "0.png", compress_level=1)
            for index in range(1, images):
                shutil.copy(folder / "0.png", folder / f"{index}.png")
    config = tiny_config(backbones=["test_resnet"], epochs=1, batch_size=4, cache_gb=0)
    said_by(config, tmp_path / "data", tmp_path / "out")
    row = json.loads((tmp_path / "out" / "metrics.jsonl").read_text().splitlines()[0])
    assert 0.2 < row["wait_share"] < 0.7  # of two batches the first is not counted
