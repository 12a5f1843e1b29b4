"""Read what a pydantic model says about its fields: kind, limits, default, and the text below each field."""

from __future__ import annotations

import ast
import inspect
import types
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import annotated_types
import yaml
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

_PLAIN = {str: "text", int: "whole number", float: "number", bool: "true or false", dict: "mapping"}
_SIGNS: tuple[tuple[type, str, str], ...] = (
    (annotated_types.Ge, "ge", "of at least {}"),
    (annotated_types.Gt, "gt", "above {}"),
    (annotated_types.Le, "le", "at most {}"),
    (annotated_types.Lt, "lt", "below {}"),
)


@dataclass(frozen=True)
class Field:
    """One key of a section: its values and its meaning, as a reader of a job file needs them."""

    name: str
    values: str
    default: str
    meaning: str
    section: type[BaseModel] | None  # whose keys stand below this key


class NoDescription(ValueError):
    """A field has no text below it that says what it means."""


def fields_of(model: type[BaseModel]) -> list[Field]:
    """Return the fields of a model in the order of its source. Raises NoDescription where a plain field has no text."""
    texts = _texts_below(model)
    found = []
    for name, info in model.model_fields.items():
        section = _section(info.annotation)
        meaning = texts.get(name, "")
        if not meaning and section is None:
            raise NoDescription(f"{model.__name__}.{name} has no text below it")
        found.append(Field(name, _values(info), _default(info), meaning, section))
    return found


def _texts_below(model: type[BaseModel]) -> Mapping[str, str]:
    """Return the text that stands below each field in the source, as one paragraph."""
    (definition,) = ast.parse(inspect.getsource(model)).body
    assert isinstance(definition, ast.ClassDef)
    texts = {}
    for field, below in zip(definition.body, definition.body[1:], strict=False):
        if not (isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name)):
            continue
        if isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant):
            texts[field.target.id] = " ".join(str(below.value.value).split())
    return texts


def _section(annotation: Any) -> type[BaseModel] | None:
    kinds = [annotation, *get_args(annotation)]
    return next((kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel)), None)


def _values(info: FieldInfo) -> str:
    """Return the values that a field takes: `auto`, or a whole number from 2 to 65536."""
    extra = info.json_schema_extra
    words = extra.get("words", []) if isinstance(extra, dict) else []
    kinds = [f"`{word}`" for word in words] if isinstance(words, list) else []
    return ", or ".join(dict.fromkeys([*kinds, *_kinds(info.annotation, info.metadata)]))


def _kinds(annotation: Any, metadata: Iterable[Any] = ()) -> Iterator[str]:
    origin, inside = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        yield from _kinds(inside[0], [*inside[1:], *metadata])
    elif origin in (Union, types.UnionType):
        for one in inside:
            yield from _kinds(one, () if one is type(None) else metadata)
    elif origin is Literal:
        yield ", ".join(f"`{value}`" for value in inside)
    elif origin is tuple:
        yield f"list of {next(_kinds(inside[0])).split(',')[0]}s"
    elif annotation is type(None):
        yield "`null`"
    elif isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield "section"
    else:
        yield _PLAIN[origin or annotation] + _limits(metadata)


def _limits(metadata: Iterable[Any]) -> str:
    """Return limits as words: ` from 0 to 1`, ` above 0, at most 1`."""
    flat = [part for one in metadata for part in (getattr(one, "metadata", None) or [one])]
    limits = {
        words: f"{getattr(one, name):,}"
        for one in flat
        for kind, name, words in _SIGNS
        if isinstance(one, kind) and isinstance(getattr(one, name), int | float)
    }
    if set(limits) == {"of at least {}", "at most {}"}:
        return f" from {limits['of at least {}']} to {limits['at most {}']}"
    return "".join(f"{',' if number else ''} {words.format(limits[words])}" for number, words in enumerate(limits))


def _default(info: FieldInfo) -> str:
    """Return a default as a job file writes it; `required` where there is none."""
    value = info.get_default(call_default_factory=True, validated_data={})
    if value is PydanticUndefined:
        return "required"
    if isinstance(value, BaseModel):
        return ""
    plain = list(value) if isinstance(value, tuple) else value
    text = yaml.safe_dump(plain, default_flow_style=True, width=1000)
    return f"`{text.removesuffix('...' + chr(10)).strip()}`"
