"""How the run was made, and how to make it again: settings, versions, commands. Pure but for a look for checkpoints."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import yaml

from cloudrun.protocol.checkpoints import bests
from cloudrun.protocol.outputs import JOB_FILE, PREDICTIONS
from cloudrun.recipe.train_config import TrainConfig
from cloudrun.render.report.results import Results
from cloudrun.render.report.wording import short
from cloudrun.state.run import Run

_HIDDEN = "(not shown)"
_SHOWN_WHOLE = 200  # characters of a setting's value


@dataclass(frozen=True, slots=True)
class Setting:
    """A key of `train:` whose value is not the default."""

    key: str
    value: str
    default: str


@dataclass(frozen=True, slots=True)
class SettingsSection:
    changed: tuple[Setting, ...]
    facts: tuple[tuple[str, str], ...]
    reproduce: str
    predict: str
    job: str


def settings_section(run: Run, results: Results) -> SettingsSection:
    """What the job file says, and what the trainer made of it."""
    train = run.job.get("train")
    settings = train if isinstance(train, dict) else {}
    return SettingsSection(
        changed_settings(settings) if run.job.get("run") is None else (),
        tuple(_facts(run, settings, results)),
        f"cloudrun launch {JOB_FILE}",
        _predict(results),
        job_text(run.job),
    )


def changed_settings(train: Mapping[str, Any]) -> tuple[Setting, ...]:
    """The settings that differ from the defaults, in the order of the reference."""
    defaults = TrainConfig().model_dump(mode="json")
    return tuple(
        Setting(key, setting_text(train[key]), setting_text(default))
        for key, default in defaults.items()
        if key in train and train[key] != default
    )


def setting_text(value: object) -> str:
    """A value as one writes it into a job file."""
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "null"}[value]
    if isinstance(value, float):
        return short(value)
    if isinstance(value, list | tuple):
        return ", ".join(map(setting_text, value))
    return str(value)[:_SHOWN_WHOLE]


def job_text(job: Mapping[str, Any]) -> str:
    """The resolved job file without the values of `env`: the page is given to others, and job.yaml has them."""
    env = job.get("env")
    shown = {**job, "env": dict.fromkeys(env, _HIDDEN)} if isinstance(env, dict) and env else dict(job)
    return yaml.safe_dump(shown, sort_keys=False, allow_unicode=True)


def _facts(run: Run, settings: Mapping[str, Any], results: Results) -> list[tuple[str, str]]:
    details = results.details
    parameters = None if details.parameters is None else f"{details.parameters / 1e6:.2f} M parameters"
    model = [*([" + ".join(details.backbones)] if details.backbones else []), *([parameters] if parameters else [])]
    device = [part for part in (details.gpu or details.device, details.precision) if part]
    facts = {
        "seed": setting_text(settings["seed"]) if "seed" in settings else "",
        "model": ", ".join(model),
        "device": ", ".join(device),
        "processes": str(details.processes) if (details.processes or 1) > 1 else "",
        "batch size": str(details.batch_size) if details.batch_size else "",
        "commit": run.commit or "",
        "versions": ", ".join(f"{name} {number}" for name, number in (details.versions or {}).items()),
        "page made by": f"cloudrun {_own_version()}, Python {platform.python_version()}",
    }
    return [(name, value) for name, value in facts.items() if value]


def _own_version() -> str:
    try:
        return version("cloudrun-gpu")
    except PackageNotFoundError:  # a copy of the source tree that nobody has installed
        return "of a source tree"


def _predict(results: Results) -> str:
    """Empty where no checkpoint is at home."""
    found = sorted(path.relative_to(results.folder).as_posix() for path in bests(results.folder))
    if not found:
        return ""
    return f"python -m cloudrun.trainer predict --checkpoint {found[0]} --data DIR --out {PREDICTIONS}"
