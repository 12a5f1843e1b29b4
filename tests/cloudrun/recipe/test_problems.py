"""describe() on models of any shape: a row is what a user wrote, and what they read."""

from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from cloudrun.recipe.problems import Problem, describe


class Part(BaseModel):
    model_config = ConfigDict(extra="forbid")

    size: Annotated[int, Field(gt=0)] = 1
    kind: Literal["a", "b"] = "a"


class Whole(BaseModel):
    model_config = ConfigDict(extra="forbid")

    name: str
    parts: list[Part] = []
    by_name: dict[str, Part] = {}
    either: Part | int | None = None
    even: int = 2

    @field_validator("even")
    @classmethod
    def _is_even(cls, value: int) -> int:
        if value % 2:
            raise ValueError(f"{value} is odd")
        return value


@pytest.mark.parametrize(
    ("tree", "where", "message"),
    [
        ({}, "name", "`name` is missing"),
        ({"name": 1}, "name", "`name` is 1, not a text"),
        ({"name": "x", "parts": 3}, "parts", "`parts` is 3, not a list"),
        ({"name": "x", "parts": [{}, {"size": 0}]}, "parts.1.size", "`parts.1.size` is 0; it must be more than 0"),
        ({"name": "x", "parts": [{"sise": 1}]}, "parts.0.sise", "unknown key `sise`"),
        ({"name": "x", "by_name": {"k": {"kind": "c"}}}, "by_name.k.kind", '`by_name.k.kind` is "c", not `a` or `b`'),
        ({"name": "x", "either": "y"}, "either", '`either` is "y", not a mapping of keys or a whole number'),
        ({"name": "x", "even": 3}, "even", "`even`: 3 is odd"),
    ],
)
def test_a_place_is_named_once_and_plainly(tree: dict[str, Any], where: str, message: str) -> None:
    with pytest.raises(ValidationError) as caught:
        Whole.model_validate(tree)
    [problem] = describe(caught.value, Whole)
    assert (problem.where, problem.message) == (where, message)
    assert problem.hint


def test_an_unknown_key_is_compared_with_the_keys_of_its_own_level() -> None:
    with pytest.raises(ValidationError) as caught:
        Whole.model_validate({"name": "x", "parts": [{"sise": 1}, {"zzz": 1}]})
    assert describe(caught.value, Whole) == [
        Problem("parts.0.sise", "unknown key `sise`", "did you mean `size`?"),
        Problem("parts.1.zzz", "unknown key `zzz`", "known keys here: size, kind"),
    ]
