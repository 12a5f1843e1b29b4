"""Look up names in the SkyPilot that is installed: `python -m tests.support.programs.look_at_skypilot < QUESTIONS`.

QUESTIONS is `{"uses": [Use ...], "values": [expression ...]}`. The answer is `{"uses": [what is wrong, or "" ...],
"values": [value ...]}`; an expression may call `found(name)`, `has(a_class, attribute)`, `source(an_object)`, and
`text(package, file)`, which imports nothing.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import json
import sys
from pathlib import Path
from typing import Any


def found(name: str) -> Any:
    """Return what a dotted name stands for. Raises AttributeError with the part that is missing."""
    first, *parts = name.split(".")
    value = importlib.import_module(first)
    path = first
    for part in parts:
        path += f".{part}"
        try:
            value = getattr(value, part)
        except AttributeError:
            try:
                value = importlib.import_module(path)
            except ModuleNotFoundError:
                raise AttributeError(f"SkyPilot has no `{path}` any more") from None
    return value


def wrong_with(use: dict[str, Any]) -> str:
    """Return what is wrong with a use: the name is gone, or takes other arguments; empty where nothing is."""
    signature: Any = ""
    try:
        value = found(use["name"])
        if use["positional"] is None:
            return ""
        signature = inspect.signature(value)
        bind = signature.bind_partial if use["has_more"] else signature.bind
        bind(*[None] * use["positional"], **dict.fromkeys(use["keywords"]))
    except TypeError as err:
        return f"`{use['name']}{signature}` cannot be called so: {err}"
    except Exception as err:  # noqa: BLE001 - an upgrade may raise anything, and hides no other name
        return str(err) if isinstance(err, AttributeError) else f"{type(err).__name__}: {err}"
    return ""


def has(owner: Any, name: str) -> bool:
    """Return whether objects of a class have an attribute, be it set by `__init__` alone."""
    fields = {*getattr(owner, "model_fields", ()), *getattr(owner, "_fields", ())}
    if name in fields or hasattr(owner, name):
        return True
    return any(f"self.{name}" in source(one.__init__) for one in inspect.getmro(owner) if "__init__" in vars(one))


def source(value: Any) -> str:
    return inspect.getsource(inspect.unwrap(value)) if not inspect.ismodule(value) else Path(value.__file__).read_text()


def text(package: str, file: str) -> str:
    """Return the text of a file of an installed package."""
    spec = importlib.util.find_spec(package)
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent.joinpath(file).read_text()


def main() -> None:
    questions = json.load(sys.stdin)
    known = {"found": found, "has": has, "source": source, "text": text}
    values = []
    for expression in questions["values"]:
        try:
            values.append(eval(expression, dict(known)))
        except Exception as err:  # noqa: BLE001 - as above
            values.append(f"{type(err).__name__}: {err}")
    answers = {"uses": [wrong_with(use) for use in questions["uses"]], "values": values}
    sys.stdout.write("\n" + json.dumps(answers))


if __name__ == "__main__":
    main()
