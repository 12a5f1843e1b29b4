"""Copy the code that a run executes into one folder at launch, so that later edits do not change the run."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from cloudrun.errors import CloudrunError
from cloudrun.job.plan import Plan
from cloudrun.job.workdir import look_through
from cloudrun.protocol.checkpoints import to_go_on
from cloudrun.protocol.run_folder import RunFolder
from cloudrun.recipe.weights import weight_file
from cloudrun.trainer import trainer_folder

_PACKAGE = Path(__file__).resolve().parents[1]
_NOT_SENT = shutil.ignore_patterns("__pycache__", "*.pyc", "_bundled")
_WORKDIR_LIMIT_BYTES = 200_000_000


class WorkdirTooLarge(CloudrunError):
    """The user's own code is too large to be sent at each launch."""

    def __init__(self, folder: Path, size_bytes: int) -> None:
        super().__init__(
            f"`workdir` {folder} holds {size_bytes / 1e6:.0f} MB; code is sent anew at each launch, up to 200 MB",
            hint="point `workdir` at the code alone, and put images into `data.source`",
        )


def base_task() -> dict[str, Any]:
    """Return the content of `sky.yaml`: the file is inside the installed package, and beside it in a checkout."""
    installed = _PACKAGE / "sky.yaml"
    path = installed if installed.is_file() else _PACKAGE.parent / "sky.yaml"
    base: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    return base


def demo_job() -> Path:
    """Return the job file of `cloudrun demo`: inside the package when installed, in `jobs/` in a checkout."""
    installed = _PACKAGE / "demo.yaml"
    return installed if installed.is_file() else _PACKAGE.parent / "jobs" / "demo.yaml"


def stage(plan: Plan, folder: Path) -> None:
    """Write the run's code, weights, labels and the trainer's config into `folder`, which becomes RUN_DIR."""
    folder.mkdir(parents=True, exist_ok=True)
    files = RunFolder(folder)
    for source in (_PACKAGE, trainer_folder()):
        shutil.copytree(source, files.code / source.name, ignore=_NOT_SENT, dirs_exist_ok=True)
    if plan.spec.workdir is not None:
        _stage_workdir(Path(plan.spec.workdir), plan.spec.workdir_secrets, files.workdir)
    if plan.weights_folder is not None and plan.capabilities.is_remote:
        files.weights.mkdir(exist_ok=True)
        for name in plan.spec.train.backbones:
            shutil.copy2(weight_file(name, plan.weights_folder), files.weights)
    if plan.labels_file is not None:
        shutil.copyfile(plan.labels_file, files.labels)
    files.train_config.write_text(plan.train_yaml, encoding="utf-8")


def _stage_workdir(workdir: Path, secrets: Sequence[str], target: Path) -> None:
    """Copy the files of the user's code that go with a run; a link stays a link. Raises WorkdirTooLarge."""
    names = look_through(workdir, secrets).sent
    size = sum((workdir / name).lstat().st_size for name in names)
    if size > _WORKDIR_LIMIT_BYTES:
        raise WorkdirTooLarge(workdir, size)
    target.mkdir(parents=True, exist_ok=True)
    for name in names:
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(workdir / name, target / name, follow_symlinks=False)


def stage_checkpoint(home: Path, staged: Path) -> None:
    """Add the files from which a resumed run goes on (checkpoints, log) from its results at home."""
    here, there = RunFolder(home), RunFolder(staged)
    there.out.mkdir(parents=True, exist_ok=True)
    for path in to_go_on(home):
        if path.is_dir():
            shutil.copytree(path, there.out / path.name, dirs_exist_ok=True)
        else:
            shutil.copy2(path, there.out / path.name)
    if here.log.exists():
        shutil.copy2(here.log, there.log)  # the log goes on, too
