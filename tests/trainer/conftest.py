"""What the trainer's tests share: a small drawn data set, a config of seconds, and real data where it lies."""

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from cloudrun.recipe.train_config import TrainConfig
from tests.support.trainer_runs import TINY, Train
from trainer.data.leaves import write_leaves
from trainer.distributed.stop import StopFlag
from trainer.outputs.progress import Progress
from trainer.outputs.writer import CheckpointWriter
from trainer.training.engine import train

_LABELS = {"healthy": "healthy", "multiple": "rust scab", "rust": "rust", "scab": "scab"}


@pytest.fixture(scope="session", autouse=True)
def own_temporary_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Runs that are stopped leave their decoded images for the next; not where this computer's own runs look."""
    folder = str(tmp_path_factory.mktemp("tmp"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TMPDIR", folder)
        patch.setattr(tempfile, "tempdir", folder)
        yield


@pytest.fixture(autouse=True)
def checkpoint_after_each_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Checkpoints are cheap here, however slow the disk is just now: what a run goes on from must not vary."""
    monkeypatch.setattr(CheckpointWriter, "pause_s", lambda _: 0.0)


@pytest.fixture(scope="session")
def leaves(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """32 train, 12 val and 12 test images in 4 classes."""
    folder = tmp_path_factory.mktemp("data") / "leaves"
    write_leaves(folder, train=32, val=12, test=12, size=48)
    return folder


@pytest.fixture(scope="session")
def plants(tmp_path_factory: pytest.TempPathFactory, leaves: Path) -> Path:
    """The drawn leaves in one folder a split, and train.csv; a leaf with two diseases has two labels."""
    folder = tmp_path_factory.mktemp("several") / "plants"
    rows = []
    for split in ("train", "val", "test"):
        (folder / split).mkdir(parents=True)
        for path in sorted((leaves / split).rglob("*.jpg")):
            shutil.copy(path, folder / split / path.name)
            rows.append(f"{split}/{path.name},{_LABELS[path.parent.name]}")
    (folder / "train.csv").write_text("\n".join(["image,labels", *rows]) + "\n")
    return folder


@pytest.fixture
def tiny_config() -> Callable[..., TrainConfig]:
    """A config that trains in a second, with changes."""
    return lambda **changes: TrainConfig.model_validate({**TINY, **changes})


@pytest.fixture
def train_quietly() -> Train:
    """Train in this process; the summary."""

    def act(config: TrainConfig, data: Path, out: Path, stop: StopFlag | None = None) -> dict[str, Any]:
        with Path(os.devnull).open("w") as nowhere:
            return train(config, data=data, out=out, stop=stop or StopFlag(), progress=Progress(stream=nowhere))

    return act
