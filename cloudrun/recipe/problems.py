"""Turn pydantic's validation errors into one plain line for each place in the file, with a hint.

Works for any nested model, lists, mappings and unions.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

_EXPECTED = {
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "float_parsing": "a number",
    "finite_number": "a finite number",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "string_type": "a text",
    "list_type": "a list",
    "tuple_type": "a list",
    "dict_type": "a mapping of keys",
    "model_type": "a mapping of keys",
    "model_attributes_type": "a mapping of keys",
    "none_required": "empty",
}
_BOUNDS = {
    "greater_than_equal": ("ge", "at least"),
    "greater_than": ("gt", "more than"),
    "less_than_equal": ("le", "at most"),
    "less_than": ("lt", "less than"),
}


@dataclass(frozen=True, slots=True)
class Problem:
    """A single mistake: `where` is the dotted place (`train.epochs`, `gpu.0`), empty for the whole file."""

    where: str
    message: str
    hint: str


@dataclass(frozen=True, slots=True)
class _Located:
    """An error, its place without pydantic's union tags, and the model whose field it is."""

    path: tuple[str | int, ...]
    owner: type[BaseModel]
    is_section: bool
    error: ErrorDetails


def describe(error: ValidationError, model: type[BaseModel], prefix: str = "") -> list[Problem]:
    """Return the problems that `error` found in a `model`, each place once, in the file's order of fields.

    `prefix` is put before each place: `train` where `model` is that section of a larger file.
    """
    groups: dict[tuple[str | int, ...], list[_Located]] = {}
    for detail in error.errors(include_url=False):
        located = _locate(detail, model)
        groups.setdefault(located.path, []).append(located)
    return [_problem(group, prefix) for group in groups.values()]


def _problem(group: Sequence[_Located], prefix: str) -> Problem:
    first = group[0]
    where = ".".join(str(part) for part in (prefix, *first.path) if part != "")
    # In a union each branch has an error; that of the branch of the right type explains most.
    telling = [located for located in group if not _expected(located.error)]
    if not telling:
        expected = list(dict.fromkeys(text for located in group if (text := _expected(located.error))))
        message = f"`{where}` is {_shown(first.error['input'])}, not {' or '.join(expected)}"
        return Problem(where, message, _default_hint(first))
    best = telling[0]
    match best.error["type"]:
        case "extra_forbidden":
            return Problem(where, f"unknown key `{best.path[-1]}`", _near_keys(best))
        case "missing":
            return Problem(where, f"`{where}` is missing", f"add it: `{best.path[-1]}: ...`")
        case kind if kind in _BOUNDS:
            return Problem(where, f"`{where}` is {_shown(best.error['input'])}; {_bounds(group)}", _default_hint(best))
        case "too_short" if best.error.get("ctx", {}).get("actual_length") == 0:
            return Problem(where, f"`{where}` is an empty list", _default_hint(best))
    text, hint = _own_words(best.error)
    message = text if best.is_section or not where or f"`{where}`" in text else f"`{where}`: {text}"
    return Problem(where, message, hint or _default_hint(best))


def _expected(error: ErrorDetails) -> str | None:
    """Return what a value of the wrong type should have been; None where the type is right."""
    if error["type"] in ("literal_error", "enum"):
        return str(error["ctx"]["expected"]).replace("'", "`")
    return _EXPECTED.get(error["type"])


def _bounds(group: Sequence[_Located]) -> str:
    words = []
    for located in group:
        if located.error["type"] in _BOUNDS:
            key, text = _BOUNDS[located.error["type"]]
            words.append(f"{text} {located.error['ctx'][key]:g}")
        elif expected := _expected(located.error):
            words.append(expected)
    # `auto` first in a union reads worse than the bound first.
    return "it must be " + " or ".join(sorted(dict.fromkeys(words), key=lambda text: text.startswith("`")))


def _own_words(error: ErrorDetails) -> tuple[str, str]:
    """Return message and hint of an error that a model's own validator raised."""
    context = error.get("ctx", {})
    text = str(context["error"]) if error["type"] == "value_error" and "error" in context else error["msg"]
    if error["type"] == "string_pattern_mismatch":
        text = f"{_shown(error['input'])} does not have the form {context['pattern']}"
    return text, str(context.get("hint", ""))


def _near_keys(located: _Located) -> str:
    fields = list(located.owner.model_fields)
    near = difflib.get_close_matches(str(located.path[-1]), fields, n=1)
    return f"did you mean `{near[0]}`?" if near else f"known keys here: {', '.join(fields)}"


def _default_hint(located: _Located) -> str:
    names = [part for part in located.path if isinstance(part, str) and part in located.owner.model_fields]
    if names:
        field = located.owner.model_fields[names[-1]]
        if not field.is_required() and field.default_factory is None and not isinstance(field.default, BaseModel):
            return f"leave it out for its default, {_shown(field.default)}"
    return "docs/reference/job-file.md describes every key"


def _shown(value: object) -> str:
    """Return a value as a YAML file would have it, shortened."""
    if value is None:
        return "empty"
    if isinstance(value, float) and not isinstance(value, bool):
        return f"{value:g}"
    if isinstance(value, list | tuple) and all(isinstance(item, str) for item in value):
        text = f"[{', '.join(value)}]"
    else:
        text = json.dumps(value, default=str, ensure_ascii=False)
    return text if len(text) <= 60 else text[:57] + "..."


def _locate(error: ErrorDetails, model: type[BaseModel]) -> _Located:
    path: list[str | int] = []
    owner, at = model, _members(model)
    rest = list(error["loc"])
    while rest:
        part = rest.pop(0)
        if len(at) > 1:  # pydantic names the union's branch before what is inside it
            at = _branch(at, str(part))
            continue
        kind = at[0] if at else Any
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            owner = kind
            field = kind.model_fields.get(str(part))
            at = _members(field.annotation) if field else []
        else:
            at = _item_type(kind)
            if part == "[key]":
                continue
        path.append(part)
    is_section = len(at) == 1 and isinstance(at[0], type) and issubclass(at[0], BaseModel)
    return _Located(tuple(path), owner, is_section, error)


def _members(annotation: Any) -> list[Any]:
    """Return the types that `annotation` allows, without None and Annotated."""
    while get_origin(annotation) is Annotated:
        annotation = get_args(annotation)[0]
    if get_origin(annotation) in (Union, UnionType):
        return [member for arg in get_args(annotation) for member in _members(arg)]
    return [] if annotation is NoneType else [annotation]


def _branch(members: list[Any], tag: str) -> list[Any]:
    def name(member: Any) -> str:
        if get_origin(member) is Literal:
            return "literal"
        return str(getattr(get_origin(member) or member, "__name__", member))

    named = [member for member in members if name(member) in tag]
    return named[:1] or members[:1]


def _item_type(kind: Any) -> list[Any]:
    origin, args = get_origin(kind), [arg for arg in get_args(kind) if arg is not Ellipsis]
    if not args or origin is Literal:
        return []
    return _members(args[-1] if isinstance(origin, type) and issubclass(origin, Mapping) else args[0])
