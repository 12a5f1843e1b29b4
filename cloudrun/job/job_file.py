"""Read a YAML job file and the command line's overrides into a JobSpec; each error names its place.

Every mistake that can be found without a network is found here or in `runs/prepare.py`, before a machine is rented.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from cloudrun.catalog.gpus import GpuRequest
from cloudrun.errors import JobFileError
from cloudrun.job.job_yaml import LARGEST_JOB_BYTES, Document, NotUnderstood, odd_text, read_yaml
from cloudrun.job.spec import Data, JobSpec, SourceKind
from cloudrun.job.workdir import warnings_of
from cloudrun.recipe.problems import Problem, describe
from cloudrun.recipe.train_config import knob_warnings
from cloudrun.text.names import name_from, shortened


class JobFileProblems(JobFileError):
    """All problems of one job file: (place, message, hint) of each. The message names the first."""

    def __init__(self, message: str, *, hint: str, problems: Sequence[tuple[str, str, str]]) -> None:
        super().__init__(message, hint=hint)
        self.problems = tuple(problems)


@dataclass(frozen=True, slots=True)
class Job:
    """A valid job file: its spec with absolute paths, the file's path, and warnings for the user."""

    spec: JobSpec
    path: Path
    warnings: tuple[str, ...]


# How many images of a batch each of several GPUs needs at the least, and how many are enough. The trainer refuses fewer
# than two for each GPU, and the batches at the end of an epoch may be half as large.
_LEAST_OF_EACH, _ENOUGH_FOR_EACH = 4, 16
_LONGEST_MESSAGE = 500  # letters: of a longer one, the middle is left out
_LONGEST_KEY = 200


def load_job(path: Path, *, overrides: Sequence[str] = (), options: Mapping[str, Any] | None = None) -> Job:
    """Read and check the job file at `path`.

    `overrides`: `--set` texts (`train.epochs=3`); `options`: whole keys that command-line options set
    (`{"gpu": ["A100:1"]}`). Both win over the file. Raises JobFileError with the place of the first problem, and the
    number of further problems.
    """
    return _build(path, _parse(path, _read(path)), overrides=overrides, options=options or {})


def reload_job(resolved: Mapping[str, Any], path: Path, *, overrides: Sequence[str], options: Mapping[str, Any]) -> Job:
    """Return the job of an earlier run, as the ledger holds it, with changes. Raises as `load_job` does."""
    return _build(path, Document(copy.deepcopy(dict(resolved))), overrides=overrides, options=options)


def _build(path: Path, document: Document, *, overrides: Sequence[str], options: Mapping[str, Any]) -> Job:
    tree, lines, remarks = document.tree, document.lines, dict(document.remarks)
    origins: dict[str, str] = {}
    for key, value in options.items():
        _assign(tree, key, value, origin=_option_of(key))
        origins[key] = _option_of(key)
    for override in overrides:
        key, set_to = _parse_override(override)
        # An address may be a secret: it is in no message.
        origins[key] = f"--set {key}" if key.startswith("notify") else f"--set {shortened(override)}"
        _assign(tree, key, set_to.tree, origin=origins[key])
        remarks.update(set_to.remarks)
    if tree.get("name") is None:
        tree["name"] = name_from(path)
    _refuse_odd_text(path, tree, lines, origins)
    try:
        spec = JobSpec.model_validate(tree)
    except ValidationError as err:
        problems = [_with_remark(one, remarks) for one in describe(err, JobSpec)]
        more = "" if len(problems) == 1 else f" (and {len(problems) - 1} more: `cloudrun check {path}` lists them)"
        first = problems[0]
        place = _place(path, first.where, lines, origins)
        raise JobFileProblems(
            f"{place}: {first.message}{more}",
            hint=first.hint,
            problems=[(_place(path, one.where, lines, origins), one.message, one.hint) for one in problems],
        ) from None
    for index, name, meant in spec.unknown_gpus():
        place = _place(path, f"gpu.{index}", lines, origins)
        raise JobFileError(
            f"{place}: no cloud has a GPU `{name}`",
            hint=(f"did you mean {' or '.join(f'`{one}`' for one in meant)}? " if meant else "")
            + "`cloudrun gpus` lists them; a cluster's own names need `infra: slurm` or `infra: kubernetes`",
        )
    batch = spec.train.batch_size
    for index, gpu in enumerate(spec.gpus):
        count = gpu.count * spec.nodes
        if spec.run is None and batch != "auto" and count > 1 and batch < _LEAST_OF_EACH * count:
            raise JobFileError(
                f"{_place(path, f'gpu.{index}', lines, origins)}: {_cards(spec, gpu)} cannot share a batch of {batch}"
                " images",
                hint=f"set `train.batch_size` to {_LEAST_OF_EACH * count} or more, or ask for fewer GPUs",
            )
    whole = _with_endpoint(_with_absolute_paths(spec, path.parent))
    return Job(whole, path, (*_warnings(spec), *_workdir_warnings(whole)))


def _warnings(spec: JobSpec) -> tuple[str, ...]:
    """Return a sentence for each setting that is allowed, but hardly meant."""
    batch = spec.train.batch_size
    small = [
        f"{_cards(spec, gpu)} share{'s' if spec.nodes == 1 else ''} a batch of {batch}: with {batch // count} images"
        f" each, the GPUs mostly wait; 16 or more each is sensible, a `train.batch_size` of {16 * count}"
        for gpu in spec.gpus
        if (count := gpu.count * spec.nodes) > 1
        and spec.run is None
        and batch != "auto"
        and batch < _ENOUGH_FOR_EACH * count
    ]
    return (*small, *_tracker_warnings(spec), *knob_warnings(spec.train, written_only=True))


def _tracker_warnings(spec: JobSpec) -> list[str]:
    """Return a sentence for each tracker whose key or address does not reach the machine."""
    if not spec.capabilities.is_remote:
        return []
    passed = {*spec.secrets, *spec.env}
    needs = {"wandb": "WANDB_API_KEY", "mlflow": "MLFLOW_TRACKING_URI", "aim": "AIM_REPO"}
    lacking = [(name, needs[name]) for name in spec.train.trackers if needs[name] not in passed]
    return [
        f"`train.trackers: {name}` without {variable} on the machine: its files come home with the results, and nothing"
        f" is sent; to send, add `secrets: [{variable}]`"
        for name, variable in lacking
    ]


def _workdir_warnings(spec: JobSpec) -> tuple[str, ...]:
    return () if spec.workdir is None else warnings_of(Path(spec.workdir), spec.workdir_secrets)


def _cards(spec: JobSpec, gpu: GpuRequest) -> str:
    return f"`{gpu}`" if spec.nodes == 1 else f"{spec.nodes} machines with `{gpu}`"


def missing_secrets(spec: JobSpec, environment: Mapping[str, str] | None = None) -> list[str]:
    """Return the names in `secrets` for which this shell has no value."""
    held = os.environ if environment is None else environment
    return [name for name in spec.secrets if not held.get(name)]


def _with_remark(problem: Problem, remarks: Mapping[str, str]) -> Problem:
    """Say what was understood, where a value was read in another way than it looks."""
    remark = remarks.get(problem.where)
    hint = f"{remark}; {problem.hint}" if remark else problem.hint
    return Problem(problem.where, shortened(problem.message, _LONGEST_MESSAGE), shortened(hint, _LONGEST_MESSAGE))


def _refuse_odd_text(path: Path, tree: dict[str, Any], lines: Mapping[str, int], origins: Mapping[str, str]) -> None:
    odd = odd_text(tree)
    if odd is not None:
        where, wrong = odd
        raise JobFileError(
            f"{_place(path, where, lines, origins)}: {f'`{shortened(where)}` ' if where else ''}{wrong}",
            hint="shorten it, or write a command's special characters as its shell does: `printf '\\033[31m'`",
        )


def _read(path: Path) -> str:
    try:
        with path.open("rb") as file:
            content = file.read(LARGEST_JOB_BYTES + 1)  # /dev/zero would never end
        if len(content) > LARGEST_JOB_BYTES:
            raise JobFileError(
                f"{path} is larger than {LARGEST_JOB_BYTES // 1000} kB",
                hint="a job file has a few kilobytes; images belong to `data`, programs into `workdir`",
            )
        return content.decode("utf-8")
    except FileNotFoundError:
        near = sorted({str(one) for one in [*path.parent.glob("*.yaml"), *Path("jobs").glob("*.yaml")]})[:4]
        raise JobFileError(
            f"there is no job file {path}",
            hint=f"job files here: {', '.join(near)}" if near else "`cloudrun init DATA_DIR` writes one",
        ) from None
    except IsADirectoryError:
        raise JobFileError(
            f"{path} is a folder, not a job file", hint=f"`cloudrun init {path}` writes a job file for it"
        ) from None
    except (OSError, UnicodeDecodeError) as err:
        raise JobFileError(
            f"{shortened(str(path))} cannot be read: {shortened(str(err), _LONGEST_MESSAGE)}",
            hint="it has to be a UTF-8 text file",
        ) from None


def _parse(path: Path, text: str) -> Document:
    """Return what the file says. Raises JobFileError."""
    try:
        document = read_yaml(text)
    except NotUnderstood as err:
        place = path if err.line is None else f"{path}:{err.line}"
        raise JobFileError(f"{place}: {shortened(err.message, _LONGEST_MESSAGE)}", hint=err.hint) from None
    if document.tree is None:
        raise JobFileError(f"{path} is empty", hint="the least it can say is `data: {source: FOLDER}`")
    if not isinstance(document.tree, dict):
        raise JobFileError(f"{path}:1: a job file is a mapping of keys", hint="start it with `name: my-job`")
    return document


def _place(path: Path, where: str, lines: Mapping[str, int], origins: Mapping[str, str]) -> str:
    """Return the place of a key: `jobs/plants.yaml:14`, or the option that set it; of an absent key, its parent's."""
    parts = where.split(".") if where else []
    while parts:
        key = ".".join(parts)
        if key in origins:
            return origins[key]
        if key in lines:
            return f"{path}:{lines[key]}"
        parts.pop()
    return str(path)


def _parse_override(override: str) -> tuple[str, Document]:
    """Return the key, and what its value says; a value that is no YAML is a text."""
    name, equals, text = override.partition("=")
    key, said = name.strip(), f"--set {shortened(override)}"
    if not equals or not key:
        raise JobFileError(f"{said}: this is not KEY=VALUE", hint="for example `--set train.epochs=3`")
    if len(key) > _LONGEST_KEY or "" in key.split("."):
        raise JobFileError(f"{said}: `{shortened(key)}` is no key", hint="for example `--set train.epochs=3`")
    try:
        return key, read_yaml(text, place=key)
    except NotUnderstood as err:
        if err.is_syntax:
            return key, Document(text)
        raise JobFileError(f"{said}: {shortened(err.message, _LONGEST_MESSAGE)}", hint=err.hint) from None


def _assign(tree: dict[str, Any], key: str, value: object, *, origin: str) -> None:
    *parents, last = key.split(".")
    place = tree
    for parent in parents:
        inner = place.get(parent)
        if inner is None:
            inner = place[parent] = {}
        if not isinstance(inner, dict):
            raise JobFileError(f"{origin}: `{parent}` has no keys of its own", hint="see the job file")
        place = inner
    place[last] = value


def _option_of(key: str) -> str:
    return "--" + key.rsplit(".", 1)[-1].replace("_", "-")


def _with_absolute_paths(spec: JobSpec, base: Path) -> JobSpec:
    """Return the spec with absolute paths: paths in a job file are relative to the file, not to the shell's folder."""
    changes: dict[str, Any] = {}
    if spec.data.kind is SourceKind.FOLDER:
        folder = _absolute(base, spec.data.source, "data.source")
        changes["data"] = spec.data.model_copy(update={"source": str(folder)})
    if spec.data.labels is not None:
        data = changes.get("data", spec.data)
        labels = spec.data.labels.model_copy(update={"file": _labels_path(data, spec.data.labels.file, base)})
        changes["data"] = data.model_copy(update={"labels": labels})
    if isinstance(spec.train.pretrained, str):
        weights = _absolute(base, spec.train.pretrained, "train.pretrained")
        changes["train"] = spec.train.model_copy(update={"pretrained": str(weights)})
    if spec.ssh_key is not None:
        changes["ssh_key"] = str(_absolute(base, spec.ssh_key, "ssh_key"))
    if spec.workdir is not None:
        changes["workdir"] = str(_absolute(base, spec.workdir, "workdir"))
    return spec.model_copy(update=changes)


def _absolute(base: Path, text: str, key: str) -> Path:
    """Return the path that `key` names. Raises JobFileError where no file can have that name."""
    try:
        path = (base / Path(text).expanduser()).resolve()
        path.exists()
    except (OSError, RuntimeError, ValueError) as err:  # too long, a loop of links, `~nobody`
        why = err.strerror if isinstance(err, OSError) and err.strerror else str(err)
        raise JobFileError(
            f"`{key}`: {shortened(text)} is no name of a file: {why}", hint="it is relative to the job file"
        ) from None
    return path


def _labels_path(data: Data, file: str, base: Path) -> str:
    """Return the path of the labels file: in the data folder, or else beside the job file.

    A relative path stays where only the machine has the data, and the file is among them.
    """
    beside = _absolute(base, file, "data.labels")
    if data.kind is not SourceKind.FOLDER:
        return str(beside) if beside.is_file() else file
    inside = _absolute(Path(data.source), file, "data.labels")
    return str(beside if beside.is_file() and not inside.is_file() else Path(data.source, file))


def _with_endpoint(spec: JobSpec) -> JobSpec:
    """Return the spec with the bucket's server from the shell, by the variables that AWS's own tools read.

    It goes into the spec since a later shell may not have these variables.
    """
    has_bucket = spec.store is not None or spec.data.kind is SourceKind.S3
    if not has_bucket or spec.endpoint is not None:
        return spec
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or None
    return spec.model_copy(update={"endpoint": endpoint})
