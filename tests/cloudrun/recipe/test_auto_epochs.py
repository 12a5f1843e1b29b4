"""`epochs: auto` in a config: a number until a run chooses, and the same word again in a file."""

from typing import Any

import pytest
from pydantic import ValidationError

from cloudrun.recipe.auto_epochs import MOST_EPOCHS, are_auto
from cloudrun.recipe.train_config import TrainConfig


def test_auto_is_the_most_epochs_and_is_written_as_it_was() -> None:
    config = TrainConfig.model_validate({"epochs": "auto"})
    assert config.epochs == MOST_EPOCHS
    assert are_auto(config.epochs)
    dumped = config.model_dump(mode="json")
    assert dumped["epochs"] == "auto"
    assert TrainConfig.model_validate(dumped) == config
    assert are_auto(config.model_copy(update={"seed": 1}).epochs)


def test_a_number_is_a_number() -> None:
    for config in (TrainConfig(), TrainConfig(epochs=MOST_EPOCHS)):
        assert not are_auto(config.epochs)
        assert config.model_dump(mode="json")["epochs"] == config.epochs


@pytest.mark.parametrize("wrong", ["automatic", 0, 2.5, True, None])
def test_other_words_and_numbers_are_refused(wrong: Any) -> None:
    with pytest.raises(ValidationError):
        TrainConfig(epochs=wrong)
