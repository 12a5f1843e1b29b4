"""A YAML job file and the command line's overrides -> JobSpec, with each error located.

Everything that can be found wrong without a network is found here or in `dataset_check`,
before a machine is rented.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from cloudrun.catalog.gpus import GpuRequest
from cloudrun.errors import JobFileError
from cloudrun.job.spec import Data, JobSpec, SourceKind
from cloudrun.job.workdir import warnings_of
from cloudrun.recipe.problems import describe
from cloudrun.recipe.train_config import knob_warnings
from cloudrun.text.names import name_from


class JobFileProblems(JobFileError):
    """Every problem of one file; the message names the first."""

    def __init__(self, message: str, *, hint: str, problems: Sequence[tuple[str, str, str]]) -> None:
        super().__init__(message, hint=hint)
        self.problems = tuple(problems)


@dataclass(frozen=True, slots=True)
class Job:
    """A valid job file: its spec with absolute paths, where it lies, and what to warn about."""

    spec: JobSpec
    path: Path
    warnings: tuple[str, ...]


# Images of a batch for each of several GPUs: the trainer refuses fewer than two at the end of an epoch, whose batches
# may be half as large.
_LEAST_OF_EACH, _ENOUGH_FOR_EACH = 4, 16


def load_job(path: Path, *, overrides: Sequence[str] = (), options: Mapping[str, Any] | None = None) -> Job:
    """Read and check `path`. `overrides` are `--set` texts (`train.epochs=3`), `options` whole keys
    that command-line options set (`{"gpu": ["A100:1"]}`); both win over the file.

    Raises JobFileError with the first problem's place, and the number of further ones.
    """
    tree, lines = _parse(path, _read(path))
    return _build(path, tree, lines, overrides=overrides, options=options or {})


def reload_job(resolved: Mapping[str, Any], path: Path, *, overrides: Sequence[str], options: Mapping[str, Any]) -> Job:
    """The job of an earlier run, as the ledger holds it, with changes. Errors as for `load_job`."""
    return _build(path, copy.deepcopy(dict(resolved)), {}, overrides=overrides, options=options)


def _build(
    path: Path,
    tree: dict[str, Any],
    lines: Mapping[str, int],
    *,
    overrides: Sequence[str],
    options: Mapping[str, Any],
) -> Job:
    origins: dict[str, str] = {}
    for key, value in options.items():
        _assign(tree, key, value, origin=_option_of(key))
        origins[key] = _option_of(key)
    for override in overrides:
        key, value = _parse_override(override)
        _assign(tree, key, value, origin=f"--set {override}")
        origins[key] = f"--set {override}"
    if tree.get("name") is None:
        tree["name"] = name_from(path)
    try:
        spec = JobSpec.model_validate(tree)
    except ValidationError as err:
        problems = describe(err, JobSpec)
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
    """What is allowed, and hardly meant."""
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
    return (*small, *knob_warnings(spec.train))


def _workdir_warnings(spec: JobSpec) -> tuple[str, ...]:
    return () if spec.workdir is None else warnings_of(Path(spec.workdir), spec.workdir_secrets)


def _cards(spec: JobSpec, gpu: GpuRequest) -> str:
    return f"`{gpu}`" if spec.nodes == 1 else f"{spec.nodes} machines with `{gpu}`"


def missing_secrets(spec: JobSpec, environment: Mapping[str, str] | None = None) -> list[str]:
    """Names in `secrets` that this shell does not hold."""
    held = os.environ if environment is None else environment
    return [name for name in spec.secrets if not held.get(name)]


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
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
        raise JobFileError(f"{path} cannot be read: {err}", hint="it has to be a UTF-8 text file") from None


def _parse(path: Path, text: str) -> tuple[dict[str, Any], dict[str, int]]:
    """The file as a tree, and the line (from 1) of each dotted key."""
    lines: dict[str, int] = {}
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        if node is not None:
            _locate(path, node, "", lines)
        tree = yaml.safe_load(text)
    except yaml.MarkedYAMLError as err:
        line = err.problem_mark.line + 1 if err.problem_mark else 1
        raise JobFileError(
            f"{path}:{line}: not valid YAML: {err.problem}",
            hint="check the indentation, the colons and the quotes there",
        ) from None
    except yaml.YAMLError as err:
        raise JobFileError(f"{path}: not valid YAML: {' '.join(str(err).split())}", hint="is it a text file?") from None
    if tree is None:
        raise JobFileError(f"{path} is empty", hint="the least it can say is `data: {source: FOLDER}`")
    if not isinstance(tree, dict):
        raise JobFileError(f"{path}:1: a job file is a mapping of keys", hint="start it with `name: my-job`")
    return tree, lines


def _locate(path: Path, node: yaml.Node, prefix: str, lines: dict[str, int]) -> None:
    if isinstance(node, yaml.MappingNode):
        for key_node, value_node in node.value:
            key = f"{prefix}{key_node.value}"
            if key in lines:
                raise JobFileError(
                    f"{path}:{key_node.start_mark.line + 1}: duplicate key `{key}` (first in line {lines[key]})",
                    hint="keep one of the two",
                )
            lines[key] = key_node.start_mark.line + 1
            _locate(path, value_node, f"{key}.", lines)
    elif isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            lines[f"{prefix}{index}"] = item.start_mark.line + 1
            _locate(path, item, f"{prefix}{index}.", lines)


def _place(path: Path, where: str, lines: Mapping[str, int], origins: Mapping[str, str]) -> str:
    """`jobs/plants.yaml:14`, or the option that set it; the nearest parent where the key itself is absent."""
    parts = where.split(".") if where else []
    while parts:
        key = ".".join(parts)
        if key in origins:
            return origins[key]
        if key in lines:
            return f"{path}:{lines[key]}"
        parts.pop()
    return str(path)


def _parse_override(override: str) -> tuple[str, Any]:
    key, equals, text = override.partition("=")
    if not equals or not key.strip():
        raise JobFileError(f"--set {override}: this is not KEY=VALUE", hint="for example `--set train.epochs=3`")
    try:
        return key.strip(), yaml.safe_load(text)
    except yaml.YAMLError:
        return key.strip(), text


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
    """Folders in a job file are relative to the file, whatever folder the command is typed in."""
    changes: dict[str, Any] = {}
    if spec.data.kind is SourceKind.FOLDER:
        folder = (base / Path(spec.data.source).expanduser()).resolve()
        changes["data"] = spec.data.model_copy(update={"source": str(folder)})
    if spec.data.labels is not None:
        data = changes.get("data", spec.data)
        labels = spec.data.labels.model_copy(update={"file": _labels_path(data, spec.data.labels.file, base)})
        changes["data"] = data.model_copy(update={"labels": labels})
    if isinstance(spec.train.pretrained, str):
        weights = (base / Path(spec.train.pretrained).expanduser()).resolve()
        changes["train"] = spec.train.model_copy(update={"pretrained": str(weights)})
    if spec.workdir is not None:
        changes["workdir"] = str((base / Path(spec.workdir).expanduser()).resolve())
    return spec.model_copy(update=changes)


def _labels_path(data: Data, file: str, base: Path) -> str:
    """In the data folder, or else beside the job file; relative where only the machine has the data, and it in them."""
    beside = (base / Path(file).expanduser()).resolve()
    if data.kind is not SourceKind.FOLDER:
        return str(beside) if beside.is_file() else file
    inside = Path(data.source, file)
    return str(beside if beside.is_file() and not inside.is_file() else inside)


def _with_endpoint(spec: JobSpec) -> JobSpec:
    """The server that the shell names, by the variables that AWS's own tools read: a later shell may not have them."""
    has_bucket = spec.store is not None or spec.data.kind is SourceKind.S3
    if not has_bucket or spec.endpoint is not None:
        return spec
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or None
    return spec.model_copy(update={"endpoint": endpoint})
