"""What a train section may say, and how it is told what is wrong."""

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from cloudrun.recipe.problems import describe
from cloudrun.recipe.progressive import is_plain
from cloudrun.recipe.train_config import TrainConfig, knob_warnings
from trainer.config_file import load_config
from trainer.errors import ConfigError, TrainerError


def problems_of(section: dict[str, Any]) -> list[tuple[str, str, str]]:
    with pytest.raises(ValidationError) as caught:
        TrainConfig.model_validate(section)
    return [(one.where, one.message, one.hint) for one in describe(caught.value, TrainConfig, "train")]


def test_the_defaults_are_the_champion_recipe_and_warn_of_nothing() -> None:
    config = TrainConfig()
    assert config.backbones == ("efficientnet_b3", "resnest50d")
    assert (config.image_size, config.epochs, config.warmup_epochs, config.lr) == (224, 30, 5, 3e-4)
    assert (config.weight_decay, config.dropout, config.label_smoothing) == (1e-2, 0.3, 0.1)
    assert TrainConfig.model_validate(config.model_dump(mode="json")) == config
    assert knob_warnings(config) == []


@pytest.mark.parametrize(
    ("section", "where", "message", "hint"),
    [
        ({"epoch": 3}, "train.epoch", "unknown key `epoch`", "did you mean `epochs`?"),
        ({"epochs": "ten"}, "train.epochs", '`train.epochs` is "ten", not a whole number', "default, 30"),
        ({"epochs": True}, "train.epochs", "`train.epochs` is true, not a whole number", "default, 30"),
        ({"epochs": None}, "train.epochs", "`train.epochs` is empty, not a whole number", "default, 30"),
        ({"epochs": 0}, "train.epochs", "`train.epochs` is 0; it must be at least 1", "default, 30"),
        ({"lr": True}, "train.lr", "`train.lr` is true, not a number", "default, 0.0003"),
        ({"lr": ".inf"}, "train.lr", '`train.lr` is ".inf", not a number', "default, 0.0003"),
        ({"lr": float("nan")}, "train.lr", "`train.lr` is nan, not a finite number", "default, 0.0003"),
        ({"dropout": 1.5}, "train.dropout", "`train.dropout` is 1.5; it must be at most 0.95", "default, 0.3"),
        ({"batch_size": 1}, "train.batch_size", "is 1; it must be at least 2 or `auto`", '"auto"'),
        ({"batch_size": "big"}, "train.batch_size", '"big", not `auto` or a whole number', '"auto"'),
        ({"precision": "f16"}, "train.precision", "not `auto`, `bf16`, `fp16` or `fp32`", '"auto"'),
        ({"compile": "yes"}, "train.compile", '`train.compile` is "yes", not `auto`, `on` or `off`', '"auto"'),
        ({"memory_format": "nhwc"}, "train.memory_format", "not `auto`, `channels_last` or `contiguous`", '"auto"'),
        ({"backbones": []}, "train.backbones", "`train.backbones` is an empty list", "resnest50d"),
        ({"backbones": ["resnet18"] * 2}, "train.backbones", "duplicate resnet18", "keep one"),
        ({"backbones": ["EfficientNet-B3"]}, "train.backbones.0", '"EfficientNet-B3" is not', "`efficientnet_b3`"),
        ({"backbones": ["resnest50"]}, "train.backbones.0", '"resnest50" is not a model', "`resnest50d`"),
        ({"backbones": "resnet10t.c3"}, "train.backbones.0", '"resnet10t.c3" is not', "`resnet10t.c3_in1k`"),
        ({"backbones": ["resnet26s"]}, "train.backbones.0", '"resnet26s" is not a model', "`resnet26`"),
        ({"backbones": ["efficientnet_b8"]}, "train", "no pretrained weights for efficientnet_b8", "pretrained"),
        ({"backbones": "vit_base_patch14_dinov2", "image_size": 256}, "train", "14 px, and 256 px", "252 or 266"),
        ({"backbones": "vit_tiny_patch16_224", "image_size": 232}, "train", "16 px, and 232 px", "224 or 240"),
        ({"pretrained": 3}, "train.pretrained", "`train.pretrained` is 3, not true or false or a text", "true"),
    ],
)  # fmt: skip
def test_each_mistake_has_one_plain_line(section: dict[str, Any], where: str, message: str, hint: str) -> None:
    [(found_where, found_message, found_hint)] = problems_of(section)
    assert found_where == where
    assert message in found_message
    assert hint in found_hint


def test_every_mistake_is_found_at_once() -> None:
    assert [where for where, _, _ in problems_of({"epoch": 1, "dropout": 2, "seed": "x"})] == [
        "train.dropout",
        "train.seed",
        "train.epoch",
    ]


def test_numbers_that_yaml_reads_as_text_are_numbers() -> None:
    assert TrainConfig.model_validate({"lr": "3e-4"}).lr == 3e-4


@pytest.mark.parametrize(
    ("text", "wish"), [("on", "on"), ("off", "off"), ("true", "on"), ("auto", "auto"), ("'on'", "on")]
)
def test_on_and_off_are_what_yaml_reads_as_true_and_false(tmp_path: Path, text: str, wish: str) -> None:
    (tmp_path / "c.yaml").write_text(f"compile: {text}\n")
    config = load_config(tmp_path / "c.yaml")
    assert config.compile == wish
    assert TrainConfig.model_validate(config.model_dump(mode="json")) == config


@pytest.mark.parametrize(
    ("section", "words"),
    [
        ({"lr": 0.5}, ["`lr` is 0.5", "1e-05 to 0.01", "diverges"]),
        ({"lr": 1e-6}, ["`lr` is 1e-06", "too slow"]),
        ({"weight_decay": 0.1}, ["`weight_decay` is 0.1", "0.0001 to 0.01"]),
        ({"dropout": 0.6}, ["`dropout` is 0.6", "0.2 to 0.5"]),
        ({"label_smoothing": 0}, ["`label_smoothing` is 0", "0.05 to 0.2"]),
        ({"batch_size": 8}, ["`batch_size` is 8", "16 to 256"]),
        ({"epochs": 3}, ["`warmup_epochs` is 5 of 3 epochs", "1.5"]),
    ],
)
def test_a_knob_outside_its_range_warns_and_is_not_refused(section: dict[str, Any], words: list[str]) -> None:
    [line] = knob_warnings(TrainConfig.model_validate(section))
    assert all(word in line for word in words)


@pytest.mark.parametrize("text", ["epochs: 7\n", "name: plants\ngpu: [A100:1]\ntrain:\n  epochs: 7\n"])
def test_a_config_file_is_the_train_section_or_a_whole_job_file(tmp_path: Path, text: str) -> None:
    (tmp_path / "c.yaml").write_text(text)
    assert load_config(tmp_path / "c.yaml") == TrainConfig(epochs=7)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("epochs: ten", '`epochs` is "ten"'),
        ("train: {epochs: ten, lr: x}", '`train.epochs` is "ten", not a whole number (and 1 more)'),
        ("a: [", "is not valid YAML"),
        ("- 1", "is not a mapping"),
    ],
)
def test_a_bad_config_file_is_named(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "c.yaml").write_text(text)
    with pytest.raises(ConfigError, match=r"c\.yaml") as caught:
        load_config(tmp_path / "c.yaml")
    assert message in caught.value.message
    assert caught.value.hint


def test_a_missing_config_file_is_an_error_with_a_hint(tmp_path: Path) -> None:
    with pytest.raises(TrainerError, match="there is no config file"):
        load_config(tmp_path / "none.yaml")


def test_the_last_epochs_are_plain_whatever_their_number() -> None:
    config = TrainConfig(epochs=10, plain_epochs=3)
    assert [epoch for epoch in range(1, 11) if is_plain(epoch, config)] == [8, 9, 10]
    fewer = config.model_copy(update={"epochs": 6})  # as where its hours have no room for more
    assert [epoch for epoch in range(1, 7) if is_plain(epoch, fewer)] == [4, 5, 6]
    assert not any(is_plain(epoch, TrainConfig()) for epoch in range(1, 31))


def test_a_run_of_plain_epochs_alone_is_told() -> None:
    [line] = knob_warnings(TrainConfig(epochs=2, warmup_epochs=1, plain_epochs=2))
    assert line == "`plain_epochs` is 2 of 2 epochs: no epoch has strong augmentation, mixup or cutmix"


def test_two_ways_to_favour_rare_classes_are_told() -> None:
    [line] = knob_warnings(TrainConfig(sampler="balanced", class_weights="balanced"))
    assert "twice" in line
