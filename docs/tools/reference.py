"""Write the generated parts of the reference: the keys of a job file, and the options of every command.

python -m docs.tools.reference              (`make reference`)
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import typer
from pydantic import BaseModel

import cloudrun.cli.main  # noqa: F401 - adds the commands
from cloudrun.cli.app import app
from cloudrun.job.spec import JobSpec
from cloudrun.recipe.train_config import KNOBS, TrainConfig
from docs.tools.fields import Field, fields_of

REFERENCE = Path(__file__).parents[1] / "reference"
_BEGIN, _END = "<!-- written by `make reference`: do not edit -->", "<!-- end of what `make reference` writes -->"

# The keys of `train`, by what a reader looks for.
_TRAIN: Mapping[str, tuple[str, ...]] = {
    "The network": (
        "backbones", "pretrained", "pooling", "head", "arcface_margin", "arcface_scale", "dropout", "dropout_samples",
        "drop_path",
    ),
    "The images": (
        "image_size", "start_image_size", "final_image_size", "final_epochs", "test_image_size", "decoded_size",
        "crop_scale_min", "flips", "rotation_degrees", "color_jitter", "augment", "rand_operations", "rand_magnitude",
        "random_erasing", "mixup", "cutmix", "plain_epochs", "max_unreadable",
    ),
    "The learning": (
        "epochs", "patience", "train_hours", "metric", "metric_beta", "metric_k",
        "batch_size", "lr", "backbone_lr", "layer_decay", "warmup_epochs", "frozen_epochs", "weight_decay",
        "label_smoothing", "loss", "generalized_ce_q", "logit_adjustment", "sampler", "class_weights", "focal_gamma",
        "grad_clip", "ema_decay", "swa_epochs", "swa_lr", "soup", "seed",
    ),
    "Which images train, validate and are predicted": (
        "val_fraction", "folds", "fold", "groups", "soft_labels", "soft_weight", "tta", "tta_sizes",
    ),
    "Where its figures go": ("trackers",),
    "The machine": (
        "precision", "device", "micro_batch", "grad_checkpointing", "memory_format", "compile", "sync_batchnorm",
        "workers", "cache_gb",
        "checkpoint_minutes",
    ),
}  # fmt: skip


def main() -> None:
    """Write both files anew."""
    for path, content in generated().items():
        path.write_text(content, encoding="utf-8")


def generated() -> dict[Path, str]:
    """Return each generated file with the content that it should have."""
    job_file = REFERENCE / "job-file.md"
    return {
        job_file: with_part(job_file.read_text(encoding="utf-8"), job_keys()),
        REFERENCE / "options.md": command_options(),
    }


def with_part(text: str, part: str) -> str:
    """Return a document with its generated part replaced."""
    before, begin, rest = text.partition(_BEGIN)
    _, end, after = rest.partition(_END)
    if not begin or not end:
        raise ValueError(f"the document lacks `{_BEGIN}` or `{_END}`")
    return f"{before}{_BEGIN}\n\n{part}\n{_END}{after}"


def job_keys() -> str:
    """Return a table of the keys of a job file for each of its sections."""
    parts = [f"### The whole job\n\n{_table(fields_of(JobSpec), '')}"]
    parts += [f"### `{path}`\n\n{_section(model, path)}" for path, model in _sections(JobSpec, "")]
    return "\n".join(parts)


def _sections(model: type[BaseModel], prefix: str) -> Iterator[tuple[str, type[BaseModel]]]:
    for field in fields_of(model):
        if field.section is not None:
            yield prefix + field.name, field.section
            yield from _sections(field.section, f"{prefix}{field.name}.")


def _section(model: type[BaseModel], path: str) -> str:
    intro = inspect.cleandoc(model.__doc__ or "").split("\n\n")[0].replace("\n", " ")
    intro = re.sub(r"; docs/guides/(\w+)\.md", r"; [Your own images](../guides/\1.md)", intro)
    if model is not TrainConfig:
        return f"{intro}\n\n{_table(fields_of(model), path)}"
    fields = {field.name: field for field in fields_of(TrainConfig)}
    grouped = [name for names in _TRAIN.values() for name in names]
    if sorted(grouped) != sorted(fields):
        raise ValueError(f"groups and keys of `train` differ: {sorted(set(grouped) ^ set(fields))}")
    tables = [f"**{title}**\n\n{_table([fields[name] for name in names], path)}" for title, names in _TRAIN.items()]
    return f"{intro}\n\n" + "\n".join(tables)


def _table(fields: Sequence[Field], path: str) -> str:
    ranges = {key: f" Sensible: {low:g} to {high:g}." for key, low, high, _, _ in KNOBS} if path == "train" else {}
    rows = ["| key | values | default | meaning |", "| --- | --- | --- | --- |"]
    for field in fields:
        below = f" Its keys stand [below](#{path + '.' if path else ''}{field.name})." if field.section else ""
        meaning = f"{field.meaning}{ranges.get(field.name, '')}{below}".strip().replace("|", "\\|")
        values = f"{field.values}".replace("|", "\\|")
        rows.append(f"| `{field.name}` | {values} | {field.default} | {meaning} |")
    return "\n".join(rows).replace("(#data.labels)", "(#datalabels)") + "\n"


def command_options() -> str:
    """Return the page of every command with its arguments, options and example."""
    intro = (
        f"# Every option\n\n{_BEGIN}\n\nAs `--help` shows it. [Commands](commands.md) says what each"
        " command is for. The variable beside an option sets it where the option is not given.\n"
    )
    return "\n".join([intro, *(_command(command, words) for words, command in _commands())]).rstrip() + "\n"


def _commands() -> Iterator[tuple[str, Any]]:
    def below(command: Any, words: str) -> Iterator[tuple[str, Any]]:
        if not hasattr(command, "commands"):
            yield words, command
        for name, one in sorted(getattr(command, "commands", {}).items()):
            yield from below(one, f"{words} {name}")

    yield from below(typer.main.get_command(app), "cloudrun")


def _command(command: Any, words: str) -> str:
    rows = [_option(one) for one in command.params if not one.hidden and "--help" not in one.opts]
    table = "\n".join(["| | |", "| --- | --- |", *rows, ""]) + "\n" if rows else ""
    example = inspect.cleandoc(command.epilog or "").removeprefix("Example:").strip()
    lines = [line.strip() for line in example.splitlines() if line.strip()]
    block = "```console\n" + "".join(f"$ {line}\n" for line in lines) + "```\n" if lines else ""
    return f"## `{words}`\n\n{inspect.cleandoc(command.help or '')}\n\n{table}{block}"


def _option(one: Any) -> str:
    names = ", ".join(f"`{name}`" for name in (*one.opts, *one.secondary_opts))
    if one.param_type_name == "argument":
        names = f"`{one.metavar or one.name.upper()}`"
    elif one.metavar and not one.is_flag:
        names += f" {one.metavar}"
    facts = [one.help or ""]
    if one.required:
        facts.append("Required.")
    if one.multiple:
        facts.append("May be repeated.")
    if one.param_type_name == "option" and isinstance(one.default, int | float) and not one.is_flag:
        facts.append(f"Default: {one.default:g}.")
    variable = one.envvar if isinstance(one.envvar, str) else None
    return f"| {names} | {' '.join(filter(None, facts))}{f' `{variable}`' if variable else ''} |".replace("||", "| |")


if __name__ == "__main__":
    main()
