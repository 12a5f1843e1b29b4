"""The reference pages are as the program writes them from the code."""

from __future__ import annotations

from typing import Annotated, Literal

import pytest
from pydantic import BaseModel, Field

from docs.tools import reference
from docs.tools.fields import NoDescription, fields_of
from tests.support.checkout import CHECKOUT


class Section(BaseModel):
    share: Annotated[float, Field(gt=0, le=1)] = 0.5
    """Share of the images."""
    names: tuple[str, ...] = ()
    """Names of the classes,
    in any order."""


class Example(BaseModel):
    size: Literal["auto"] | Annotated[int, Field(ge=2, le=4096)] = "auto"
    """Size in pixels."""
    title: str
    """Title of the page."""
    part: Section = Section()
    limit: Annotated[float | None, Field(ge=0, lt=2)] = None
    """Limit of the size."""


class Silent(BaseModel):
    size: int = 3


def test_a_field_has_its_values_default_and_the_text_below_it() -> None:
    assert [(field.name, field.values, field.default, field.meaning) for field in fields_of(Example)] == [
        ("size", "`auto`, or whole number from 2 to 4,096", "`auto`", "Size in pixels."),
        ("title", "text", "required", "Title of the page."),
        ("part", "section", "", ""),
        ("limit", "number of at least 0, below 2, or `null`", "`null`", "Limit of the size."),
    ]
    assert [(field.values, field.default, field.meaning) for field in fields_of(Section)] == [
        ("number above 0, at most 1", "`0.5`", "Share of the images."),
        ("list of texts", "`[]`", "Names of the classes, in any order."),
    ]


def test_a_key_without_a_text_is_refused() -> None:
    with pytest.raises(NoDescription, match=r"Silent\.size"):
        fields_of(Silent)


def test_a_document_without_a_place_for_its_generated_part_is_refused() -> None:
    with pytest.raises(ValueError, match="lacks"):
        reference.with_part("# A page\n", "a table")


@pytest.mark.parametrize(
    ("path", "content"), reference.generated().items(), ids=lambda value: getattr(value, "name", "")
)
def test_each_reference_page_is_as_make_reference_writes_it(path: object, content: str) -> None:
    assert (CHECKOUT / str(path)).read_text() == content, "run `make reference`"
