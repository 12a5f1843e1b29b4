"""Check a job for each mistake that can be found on this computer, and make its plan, before its launch."""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

from cloudrun.catalog.gpus import GpuRequest
from cloudrun.dataset.survey import Survey, survey_folder
from cloudrun.errors import JobFileError, StoreError
from cloudrun.imagedata.dataset import Reading
from cloudrun.job.job_file import Job, missing_secrets
from cloudrun.job.notify import channels_of
from cloudrun.job.plan import Plan, make_plan
from cloudrun.job.spec import Data, JobSpec, SourceKind
from cloudrun.job.staging import base_task
from cloudrun.protocol.words import OnFinish
from cloudrun.recipe.auto_epochs import are_auto
from cloudrun.runs.programs import refuse_missing_programs
from cloudrun.runs.source_check import check_access, check_source
from cloudrun.runs.weights_check import check_folder
from cloudrun.state.run import new_run_id
from cloudrun.stores import open_store

_KEYS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")


def check_job(job: Job) -> Survey | None:
    """Check the job, and return the survey of its images; None where they cannot be counted from here.

    Raises JobFileError; UsageError where this computer lacks a program that the launch needs.
    """
    check_access(job)
    _refuse_unready(job)
    if job.spec.data.kind is SourceKind.DEMO:
        return None
    if job.spec.data.kind is not SourceKind.FOLDER:
        return check_source(job)
    _set_limit(job)
    return survey_folder(
        Path(job.spec.data.source),
        custom=job.spec.run is not None,
        reading=reading_of(job.spec.data),
        train=job.spec.train,
    )


def _set_limit(job: Job) -> None:
    """Read images with the job's own limit. Raises JobFileError where it is no number."""
    from cloudrun.imagedata.pixels import LIMIT, set_limit

    told = job.spec.env.get(LIMIT)
    try:
        set_limit(None if told is None else float(told))
    except ValueError:
        raise JobFileError(
            f"{job.path}: `env.{LIMIT}` is {told}, and not a number", hint="write a number of megapixels, as 300"
        ) from None


def reading_of(data: Data) -> Reading:
    """How the job file says that its images are to be read."""
    labels = data.labels
    if labels is None:
        return Reading(classes=data.classes)
    return Reading(Path(labels.file), labels.columns, data.classes)


def on_this_computer(job: Job) -> Job:
    """Return the job as this computer can run it: with `infra: local` and no GPU here, on the CPU, with a warning.

    `gpu` names what to rent. Raises JobFileError where `train.device` insists on a GPU.
    """
    spec = job.spec
    if spec.capabilities.is_remote or not spec.needs_gpu:
        return job
    wanted, found = spec.gpus[0], _gpus_here()
    if found >= wanted.count:
        return job
    if spec.train.device == "cuda":
        raise JobFileError(
            f"{job.path}: `train.device: cuda` with `infra: local`, and {found or 'no'} GPU works on this computer",
            hint="`nvidia-smi` says which there are; or rent one: leave out `infra`, or name a cloud",
        )
    warning = _on_the_cpu(spec, wanted, found)
    return replace(job, spec=spec.model_copy(update={"gpu": ()}), warnings=(*job.warnings, warning))


def _on_the_cpu(spec: JobSpec, wanted: GpuRequest, found: int) -> str:
    there = f"this computer has {found or 'no'} GPU that works"
    if spec.run is not None:
        return f"{there}, and `gpu: {wanted}` is for a rented machine: here the command runs without it"
    train = spec.train
    epochs = "as many epochs as fit" if are_auto(train.epochs) else f"{train.epochs} epochs"
    return (
        f"{there}, so `infra: local` trains on the CPU, not on {wanted}:"
        f" {epochs} of {' + '.join(train.backbones)} at {train.image_size} px, which may take long (launch"
        " estimates it); for a try: `--set train.epochs=1 --set train.image_size=64`"
    )


def _gpus_here() -> int:
    try:
        done = subprocess.run(
            ["nvidia-smi", "-L"], stdin=subprocess.DEVNULL, capture_output=True, check=False, timeout=30
        )
    except (OSError, subprocess.TimeoutExpired):
        return 0
    return done.stdout.count(b"GPU ") if done.returncode == 0 else 0


def plan_for(job: Job, run_id: str | None = None) -> Plan:
    """Return the plan for `job`: as the run `run_id` where one goes on, else as a new run."""
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
    """Raise JobFileError or UsageError where a valid job file cannot be launched by this version or from here."""
    spec = job.spec
    if OnFinish(spec.lifecycle.on_finish) is OnFinish.STOP:
        raise JobFileError(
            f"{job.path}: `lifecycle.on_finish: stop` is not supported yet",
            hint="use `down` (the results come home first), or `keep` to go on with `cloudrun resume`",
        )
    if are_auto(spec.train.epochs) and spec.run is None and not spec.capabilities.is_remote:
        _refuse_endless(job)
    if spec.store is not None and spec.capabilities.is_remote:
        _refuse_missing_keys(job, f"store: {spec.store}")
    if spec.data.kind is SourceKind.S3 and spec.capabilities.is_remote:
        _refuse_missing_keys(job, f"data.source: {spec.data.source}")
    if spec.workdir is not None and not Path(spec.workdir).is_dir():
        raise JobFileError(
            f"{job.path}: `workdir`: there is no folder {spec.workdir}", hint="it is relative to the job file"
        )
    check_folder(job)
    if spec.capabilities.is_remote:
        refuse_missing_programs()
    missing = missing_secrets(spec)
    if missing:
        raise JobFileError(
            f"{job.path}: `secrets` names {', '.join(missing)}, which this shell does not have",
            hint=f"`export {missing[0]}=...` first",
        )
    channels_of(spec.notify)


def _refuse_endless(job: Job) -> None:
    """Raise JobFileError where `epochs: auto` on this computer, which costs nothing, has no hours of the user's."""
    spec = job.spec
    if spec.train.train_hours is None and "max_hours" not in spec.budget.model_fields_set:
        raise JobFileError(
            f"{job.path}: `train.epochs: auto` on this computer has no hours to fit epochs into",
            hint="set `train.train_hours` or `budget.max_hours` (`--max-hours 1`), or a number of epochs",
        )


def _refuse_missing_keys(job: Job, what: str) -> None:
    """Raise JobFileError where `secrets` does not name the credentials of the bucket that the machine has to use.

    No credential goes to a rented machine unless the job file names it.
    """
    spec = job.spec
    wanted = [*_KEYS, "AWS_SESSION_TOKEN"] if os.environ.get("AWS_SESSION_TOKEN") else list(_KEYS)
    unnamed = [name for name in wanted if name not in spec.secrets]
    if unnamed:
        named = ", ".join(dict.fromkeys([*spec.secrets, *wanted]))
        raise JobFileError(
            f"{job.path}: `{what}` needs credentials on the machine, and `secrets` does not name {', '.join(unnamed)}",
            hint=f"add `secrets: [{named}]`; best a key that opens this bucket alone",
        )
