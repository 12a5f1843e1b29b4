"""Represent `epochs: auto`: as many epochs as fit into the hours, up to a most.

Imports nothing of the config, which uses it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Literal

# More passes over the same images hardly ever help a network that was trained before.
MOST_EPOCHS: Final = 100


class AutoEpochs(int):
    """The most epochs that `auto` may mean, a number like any other, until a run has chosen fewer."""

    def __new__(cls) -> AutoEpochs:
        return super().__new__(cls, MOST_EPOCHS)


def read_epochs(value: object, validate: Callable[[object], int]) -> int:
    """Return AutoEpochs for `auto`, else the number that pydantic makes of `value`."""
    return AutoEpochs() if value == "auto" or isinstance(value, AutoEpochs) else validate(value)


def plain_epochs(epochs: int) -> int | Literal["auto"]:
    """Return what a file says: `auto`, or the number."""
    return "auto" if isinstance(epochs, AutoEpochs) else epochs


def are_auto(epochs: int) -> bool:
    """Return whether the run itself chooses its number of epochs."""
    return isinstance(epochs, AutoEpochs)
