"""Before a launch: all that can be found wrong here, and the plan."""

from __future__ import annotations

import os
import re
import secrets
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

from cloudrun.dataset.survey import Survey, survey_folder
from cloudrun.errors import JobFileError, StoreError, UsageError
from cloudrun.imagedata.dataset import Reading
from cloudrun.job.job_file import Job, missing_secrets
from cloudrun.job.plan import Plan, make_plan
from cloudrun.job.spec import Data, SourceKind
from cloudrun.job.staging import base_task
from cloudrun.protocol.words import OnFinish
from cloudrun.runs.source_check import check_access, check_source
from cloudrun.runs.weights_check import check_weights
from cloudrun.state.run import new_run_id
from cloudrun.stores import open_store

_RSYNC = (3, 1)  # the first with `--info=progress2`
_KEYS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")


def check_job(job: Job) -> Survey | None:
    """The survey of the job's images, where they are here. Raises JobFileError."""
    check_access(job)
    _refuse_unready(job)
    if job.spec.data.kind is SourceKind.DEMO:
        return None
    if job.spec.data.kind is not SourceKind.FOLDER:
        return check_source(job)
    return survey_folder(
        Path(job.spec.data.source),
        custom=job.spec.run is not None,
        reading=reading_of(job.spec.data),
        train=job.spec.train,
    )


def reading_of(data: Data) -> Reading:
    """How the job file says that its images are to be read."""
    labels = data.labels
    if labels is None:
        return Reading(classes=data.classes)
    return Reading(Path(labels.file), labels.columns, data.classes)


def on_this_computer(job: Job) -> Job:
    """The job as this computer can run it: with `infra: local` and no GPU here it trains on the CPU, and says so.

    Raises JobFileError where `train.device` insists on a GPU.
    """
    spec = job.spec
    if spec.capabilities.is_remote or not spec.needs_gpu or spec.run is not None:
        return job
    wanted, found = spec.gpus[0], _gpus_here()
    if found >= wanted.count:
        return job
    if spec.train.device == "cuda":
        raise JobFileError(
            f"{job.path}: `train.device: cuda` with `infra: local`, and {found or 'no'} GPU works on this computer",
            hint="`nvidia-smi` says which there are; or rent one: leave out `infra`, or name a cloud",
        )
    train = spec.train
    warning = (
        f"this computer has {found or 'no'} GPU that works, so `infra: local` trains on the CPU, not on {wanted}:"
        f" {train.epochs} epochs of {' + '.join(train.backbones)} at {train.image_size} px are made for a GPU, and may"
        " take days; for a try: `--set train.epochs=1 --set train.image_size=64`"
    )
    return replace(job, spec=spec.model_copy(update={"gpu": ()}), warnings=(*job.warnings, warning))


def _gpus_here() -> int:
    try:
        done = subprocess.run(
            ["nvidia-smi", "-L"], stdin=subprocess.DEVNULL, capture_output=True, check=False, timeout=30
        )
    except (OSError, subprocess.TimeoutExpired):
        return 0
    return done.stdout.count(b"GPU ") if done.returncode == 0 else 0


def plan_for(job: Job, run_id: str | None = None) -> Plan:
    """The plan for `job`, as a new run or as the one that goes on."""
    return make_plan(job.spec, run_id or new_run_id(job.spec.name), python=sys.executable, base=base_task())


def check_store(job: Job) -> None:
    """Write, read back and remove a small object, where the job has a store. Raises StoreError."""
    spec = job.spec
    if spec.store is None:
        return
    store = open_store(spec.store, endpoint=spec.endpoint)
    key, content = f".cloudrun-probe-{secrets.token_hex(4)}", secrets.token_bytes(16)
    store.put(key, content)
    found = store.read(key)
    store.remove([key])
    if found != content:
        raise StoreError(
            f"`{spec.store}` does not give back what was written to it", hint="use a bucket that reads its own writes"
        )


def _refuse_unready(job: Job) -> None:
    """What a valid job file may say that this version cannot do yet."""
    spec = job.spec
    if OnFinish(spec.lifecycle.on_finish) is OnFinish.STOP:
        raise JobFileError(
            f"{job.path}: `lifecycle.on_finish: stop` is not supported yet",
            hint="use `down` (the results come home first), or `keep` to go on with `cloudrun resume`",
        )
    if spec.store is not None and spec.capabilities.is_remote:
        _refuse_missing_keys(job, f"store: {spec.store}")
    if spec.data.kind is SourceKind.S3 and spec.capabilities.is_remote:
        _refuse_missing_keys(job, f"data.source: {spec.data.source}")
    if spec.workdir is not None and not Path(spec.workdir).is_dir():
        raise JobFileError(
            f"{job.path}: `workdir`: there is no folder {spec.workdir}", hint="it is relative to the job file"
        )
    check_weights(job)
    if spec.capabilities.is_remote:
        _refuse_missing_programs()
    missing = missing_secrets(spec)
    if missing:
        raise JobFileError(
            f"{job.path}: `secrets` names {', '.join(missing)}, which this shell does not have",
            hint=f"`export {missing[0]}=...` first",
        )


def _refuse_missing_programs() -> None:
    """What reaches a rented machine: better missed before it is rented."""
    for program in ("ssh", "rsync"):
        if shutil.which(program) is None:
            raise UsageError(
                f"`{program}` is not installed on this computer, and nothing reaches a rented machine without it",
                hint=f"install it: `apt-get install {'openssh-client' if program == 'ssh' else program}`, or `brew`",
            )
    _refuse_old_rsync()


def _refuse_old_rsync() -> None:
    """macOS ships rsync 2.6.9 or openrsync, which know neither the progress nor the lists that transfers rest on."""
    done = subprocess.run(["rsync", "--version"], stdin=subprocess.DEVNULL, capture_output=True, check=False)
    said = (done.stdout + done.stderr).decode("utf-8", "replace").strip()
    version = re.search(r"^rsync +version v?(\d+)\.(\d+)", said, re.MULTILINE)
    if "openrsync" in said or version is None or (int(version[1]), int(version[2])) < _RSYNC:
        first = said.splitlines()[0].strip() if said else "it does not tell its version"
        raise UsageError(
            f"{shutil.which('rsync')} is too old to send data with ({first}): it has to be 3.1 or newer",
            hint="`brew install rsync` on macOS, then a new terminal; `apt-get install rsync` elsewhere",
        )


def _refuse_missing_keys(job: Job, what: str) -> None:
    """No credential goes to a rented machine unless the job file says so; without one it cannot use a bucket."""
    spec = job.spec
    wanted = [*_KEYS, "AWS_SESSION_TOKEN"] if os.environ.get("AWS_SESSION_TOKEN") else list(_KEYS)
    unnamed = [name for name in wanted if name not in spec.secrets]
    if unnamed:
        named = ", ".join(dict.fromkeys([*spec.secrets, *wanted]))
        raise JobFileError(
            f"{job.path}: `{what}` needs credentials on the machine, and `secrets` does not name {', '.join(unnamed)}",
            hint=f"add `secrets: [{named}]`; best a key that opens this bucket alone",
        )
