"""The folder of the checkout that the tests belong to."""

from pathlib import Path

CHECKOUT = Path(__file__).parents[2]
