"""Read the YAML of a job file, or of one `--set` value, whoever wrote it: limited in size, depth and aliases.

A scalar is what YAML 1.2 says of it. What YAML 1.1 reads as something else than it looks like stays a text, so that
`max_hours: 1:30` is refused and not taken for 90 hours: dates, `1:30`, `0123`, `0x1F`. A value of `env` is its letters
as they stand there: `VERSION: 1.10` is not 1.1. Whatever was read in another way than written has a remark.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml

LARGEST_JOB_BYTES = 256_000
_DEEPEST = 16
_MOST_NODES = 5_000  # as they stand in the file, and as they are with each alias written out
_LONGEST_INTEGER = 18  # digits
_ENV = "env."
_TAG = "tag:yaml.org,2002:"
_RESOLVER = yaml.resolver.Resolver()

_INTEGER = re.compile(r"[-+]?(0|[1-9][0-9]*(_[0-9]+)*)")
_FLOAT = re.compile(r"[-+]?([0-9]+(_[0-9]+)*(\.[0-9]*)?|\.[0-9]+)([eE][-+]?[0-9]{1,4})?")
_SPECIAL_FLOATS = {".inf": math.inf, "+.inf": math.inf, "-.inf": -math.inf, ".nan": math.nan}
_BOOLS = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}


class NotUnderstood(Exception):
    """A text that is no YAML for a job file. `line` counts from 1; None where it is about the whole of it."""

    def __init__(self, message: str, *, hint: str, line: int | None = None, is_syntax: bool = False) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.line = line
        self.is_syntax = is_syntax


@dataclass(slots=True)
class Document:
    """What a YAML text says: `lines` and `remarks` by dotted key (`train.epochs`, `gpu.0`)."""

    tree: Any = None
    lines: dict[str, int] = field(default_factory=dict)
    remarks: dict[str, str] = field(default_factory=dict)


def read_yaml(text: str, *, place: str = "") -> Document:
    """Parse the YAML of a job file, or of the value at the dotted key `place`. Raises NotUnderstood."""
    if len(text) > LARGEST_JOB_BYTES:
        raise NotUnderstood(
            f"larger than {LARGEST_JOB_BYTES // 1000} kB",
            hint="a job file has a few kilobytes; images belong to `data`, programs into `workdir`",
        )
    root = _compose(text)
    document = Document()
    if root is not None:
        document.tree = _Builder(document).value(root, place, 0)
    return document


class _Loader(yaml.SafeLoader):
    """Composes nodes, and stops at the first that is too deep or one too many."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.depth = self.nodes = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        line = int(self.peek_event().start_mark.line) + 1  # type: ignore[no-untyped-call]
        self.depth += 1
        self.nodes += 1
        _refuse_too_much(self.depth, self.nodes, line)
        try:
            node: yaml.Node | None = super().compose_node(parent, index)
        finally:
            self.depth -= 1
        return node


def _refuse_too_much(depth: int, nodes: int, line: int) -> None:
    if depth > _DEEPEST:
        raise NotUnderstood(
            f"more than {_DEEPEST} levels, one inside the other",
            hint="no key of a job file is so deep; does an alias (`*name`) stand inside its own anchor (`&name`)?",
            line=line,
        )
    if nodes > _MOST_NODES:
        raise NotUnderstood(
            f"more than {_MOST_NODES:,} values, each alias (`*name`) counted with all that it stands for",
            hint="a job file has some dozens; write less, or fewer aliases",
            line=line,
        )


def _compose(text: str) -> yaml.Node | None:
    try:
        loader = _Loader(text)
        root: yaml.Node | None = loader.get_single_node()
    except yaml.MarkedYAMLError as err:
        line = err.problem_mark.line + 1 if err.problem_mark else 1
        raise NotUnderstood(
            f"not valid YAML: {err.problem}",
            hint="check the indentation, the colons and the quotes there",
            line=line,
            is_syntax=True,
        ) from None
    except yaml.reader.ReaderError as err:
        raise NotUnderstood(
            f"not valid YAML: it contains the character {_code(err.character)}",
            hint="a job file is plain text: remove that character",
            line=text.count("\n", 0, err.position) + 1,
            is_syntax=True,
        ) from None
    except (ValueError, OverflowError) as err:  # an escape such as "\UFFFFFFFF" is no character, and PyYAML's own error
        raise NotUnderstood(
            f"not valid YAML: {err}", hint="look for an escape such as \\U00110000, or a long number", is_syntax=True
        ) from None
    return root


class _Builder:
    """Makes plain values of composed nodes. Each place of an alias gets a value of its own."""

    def __init__(self, document: Document) -> None:
        self._document = document
        self._nodes = 0

    def value(self, node: yaml.Node, place: str, depth: int) -> Any:
        self._nodes += 1
        _refuse_too_much(depth + 1, self._nodes, _line(node))
        if isinstance(node, yaml.MappingNode):
            _refuse_tag(node, "map")
            return self._mapping(node, place, depth)
        if isinstance(node, yaml.SequenceNode):
            _refuse_tag(node, "seq")
            items = []
            for index, item in enumerate(node.value):
                key = _joined(place, str(index))
                self._document.lines[key] = _line(item)
                items.append(self.value(item, key, depth + 1))
            return items
        found, remark = _scalar(node, as_text=place.startswith(_ENV))
        if remark:
            self._document.remarks[place] = remark
        return found

    def _mapping(self, node: yaml.MappingNode, place: str, depth: int) -> dict[str, Any]:
        lines = self._document.lines
        own: dict[str, Any] = {}
        merged: dict[str, Any] = {}
        for key_node, value_node in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                kind = "mapping" if isinstance(key_node, yaml.MappingNode) else "list"
                raise NotUnderstood(
                    f"a {kind} as a key", hint="a key is a word: `train: {epochs: 3}`", line=_line(key_node)
                )
            if key_node.tag == f"{_TAG}merge":
                merged.update(self._merged(value_node, place, depth))
                continue
            name = str(key_node.value)
            key = _joined(place, name)
            if name in own:
                raise NotUnderstood(
                    f"duplicate key `{key}` (first in line {lines[key]})",
                    hint="keep one of the two",
                    line=_line(key_node),
                )
            lines[key] = _line(key_node)
            own[name] = self.value(value_node, key, depth + 1)
        return {**merged, **own}

    def _merged(self, node: yaml.Node, place: str, depth: int) -> dict[str, Any]:
        """Return the keys that `<<: *name` brings in; of several mappings the first one's win."""
        sources = node.value if isinstance(node, yaml.SequenceNode) else [node]
        found: dict[str, Any] = {}
        for source in reversed(sources):
            if not isinstance(source, yaml.MappingNode):
                raise NotUnderstood(
                    "`<<` merges something that is no mapping", hint="write `<<: *name`", line=_line(node)
                )
            found.update(self.value(source, place, depth + 1))
        return found


def _scalar(node: yaml.Node, *, as_text: bool) -> tuple[Any, str | None]:
    """Return the value of a scalar, and a remark where that is not what its letters look like."""
    raw, kind = str(node.value), str(node.tag).removeprefix(_TAG)
    is_plain = kind == "str" or _resolved(raw) == node.tag
    if kind == "str" or (as_text and is_plain and kind != "null"):
        return raw, None
    if kind == "null" and is_plain:
        return None, None
    lower = raw.lower()
    if kind == "bool" and lower in _BOOLS:
        word = str(_BOOLS[lower]).lower()
        return _BOOLS[lower], None if lower == word else f"YAML reads `{raw}` as {word}; for the text write '{raw}'"
    if kind == "int" and _INTEGER.fullmatch(raw) and len(raw) <= _LONGEST_INTEGER:
        return int(raw), None
    if kind == "float" and lower in _SPECIAL_FLOATS:
        return _SPECIAL_FLOATS[lower], None
    if kind == "float" and _FLOAT.fullmatch(raw):
        return float(raw.replace("_", "")), None
    if is_plain:
        return raw, _odd(raw)
    raise NotUnderstood(
        f"the tag `{_short_tag(node)}` on `{raw[:40]}`",
        hint="write the value without a tag: a job file has texts, numbers, true, false, lists and mappings",
        line=_line(node),
    )


def _odd(raw: str) -> str:
    """Return why a plain scalar that YAML 1.1 takes for a number or a date was read as a text."""
    shown = raw if len(raw) <= 40 else raw[:37] + "..."
    if ":" in raw and "-" not in raw[1:]:
        return f"`{shown}` was read as a text: hours and minutes are one number, as in 1.5"
    if re.fullmatch(r"[-+]?0[0-9_]+", raw):
        return f"`{shown}` was read as a text: write the number without 0 before it"
    if re.fullmatch(r"[-+]?0[xXbBoO].*", raw):
        return f"`{shown}` was read as a text: write the number with the digits 0 to 9"
    if re.fullmatch(r"[-+]?[0-9_]+", raw):
        return f"`{shown}` was read as a text: a number has at most {_LONGEST_INTEGER} digits"
    return f"`{shown}` was read as a text"


def _resolved(raw: str) -> str:
    """Return the tag that YAML gives to these letters where they stand without quotes and without a tag."""
    return str(_RESOLVER.resolve(yaml.ScalarNode, raw, (True, False)))  # type: ignore[no-untyped-call]


def _refuse_tag(node: yaml.Node, wanted: str) -> None:
    if node.tag != _TAG + wanted:
        raise NotUnderstood(
            f"the tag `{_short_tag(node)}`",
            hint="write the value without a tag: a job file has texts, numbers, true, false, lists and mappings",
            line=_line(node),
        )


def _short_tag(node: yaml.Node) -> str:
    tag = str(node.tag)
    return ("!!" + tag.removeprefix(_TAG) if tag.startswith(_TAG) else tag)[:40]


def _joined(place: str, name: str) -> str:
    return f"{place}.{name}" if place else name


def _line(node: yaml.Node) -> int:
    return int(node.start_mark.line) + 1


def _code(character: Any) -> str:
    return f"U+{character if isinstance(character, int) else ord(character):04X}"


def odd_text(tree: Any) -> tuple[str, str] | None:
    """Return the place of the first text that no file, command or terminal can take, and what is wrong with it.

    Of texts of any origin: a job file, options, the ledger, a program.
    """
    return _odd_text(tree, "", 0)


# Letters of a value that is no command and no value of `env`: a path of Linux has 4,096 bytes.
_LONGEST_TEXT, _LONGEST_COMMAND = 1_000, 100_000
_LONG = ("run", "setup", "env")


def _odd_text(value: Any, place: str, depth: int) -> tuple[str, str] | None:
    if depth > _DEEPEST:
        return place, f"has more than {_DEEPEST} levels"
    if isinstance(value, str):
        is_long = place.split(".")[0] in _LONG
        return _wrong_with(value, place, _LONGEST_COMMAND if is_long else _LONGEST_TEXT, "\t\n\r" if is_long else "\t")
    pairs = value.items() if isinstance(value, Mapping) else enumerate(value) if isinstance(value, list | tuple) else ()
    for name, item in pairs:
        wrong = _wrong_with(name, place, _LONGEST_TEXT, "") if isinstance(name, str) else None
        wrong = wrong or _odd_text(item, _joined(place, str(name)), depth + 1)
        if wrong:
            return wrong
    return None


def _wrong_with(text: str, place: str, longest: int, allowed: str) -> tuple[str, str] | None:
    if len(text) > longest:
        return place, f"has a text of {len(text):,} letters, and at most {longest:,} can be"
    for letter in text:
        code = ord(letter)
        if (code < 0x20 and letter not in allowed) or 0x7F <= code < 0xA0:
            return place, f"contains the control character {_code(letter)}"
        if 0xD800 <= code < 0xE000:
            return place, f"contains {_code(letter)}, half of a pair of surrogates, which is no character"
    return None
