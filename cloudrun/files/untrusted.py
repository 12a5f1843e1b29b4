"""Read a file and JSON that anybody may have written: limited in size, depth and numbers. The standard library alone.

A file that a machine, a bucket or a person's editor left under one of our names may be a folder, a pipe that never
answers, gigabytes large, or nested a million deep.
"""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path
from typing import Any

LARGEST_DOCUMENT_BYTES = 1_000_000
"""The limit of `result.json`, `status.json` and the like, which have some kilobytes."""
LARGEST_RESULT_BYTES = 32_000_000
"""The limit of `summary.json` and `metrics.jsonl`, which grow with the classes and the epochs."""

_DEEPEST = 32
_LONGEST_INTEGER = 18  # digits: a longer integer becomes a float, perhaps infinity
_LEAD = 60


class Unreadable(Exception):
    """A file that cannot be understood; the message says why, in a few words."""


def read_regular(path: Path, *, offset: int = 0, limit: int | None = None) -> bytes | None:
    """Return the bytes of a file from `offset` on, at most `limit`; None where there is no file of that name.

    A folder, a pipe or a device is not a file. Raises OSError where there is a file that cannot be read.
    """
    try:
        number = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)  # else a pipe would block
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError:
        if not path.is_file():  # a socket cannot even be opened
            return None
        raise
    if not stat.S_ISREG(os.fstat(number).st_mode):
        os.close(number)
        return None
    with os.fdopen(number, "rb") as file:
        file.seek(offset)
        return file.read() if limit is None else file.read(limit)


def read_limited(path: Path, largest_bytes: int) -> bytes | None:
    """Return the content of a file; None where there is no file.

    Raises Unreadable where the path is not a file, or the file is larger than `largest_bytes` or cannot be read.
    """
    try:
        content = read_regular(path, limit=largest_bytes + 1)
        if content is None and path.exists():
            raise Unreadable("a folder" if path.is_dir() else "neither a file nor a folder")
    except OSError as err:
        raise Unreadable(err.strerror or str(err)) from None
    if content is not None and len(content) > largest_bytes:
        raise _too_large(largest_bytes)
    return content


def read_object(path: Path, largest_bytes: int = LARGEST_DOCUMENT_BYTES) -> dict[str, Any] | None:
    """Return the JSON object in a file; None where there is no file, or it cannot be read or understood."""
    try:
        content = read_limited(path, largest_bytes)
        return None if content is None else parse_object(content, largest_bytes=largest_bytes)
    except Unreadable:
        return None


def parse_object(content: bytes, *, largest_bytes: int = LARGEST_DOCUMENT_BYTES) -> dict[str, Any]:
    """Return the JSON object in `content`. Raises Unreadable for anything else.

    Its texts can be written as UTF-8. NaN and infinities stay, as floats, and an integer of more than 18 digits
    becomes a float: a caller that uses a number has to check that the number is finite.
    """
    if len(content) > largest_bytes:
        raise _too_large(largest_bytes)
    if not content.strip():
        raise Unreadable("empty")
    try:
        value = json.loads(content.decode("utf-8", "replace"), parse_int=_integer)
    except RecursionError:
        raise Unreadable("nested too deeply") from None
    except ValueError:
        start = content[:_LEAD].decode("utf-8", "replace")
        raise Unreadable(f"not JSON: it begins with {start!r}") from None
    if not isinstance(value, dict):
        raise Unreadable(f"no JSON object, but {_kind(value)}")
    return {_text(name): _clean(item, 1) for name, item in value.items()}


def _integer(digits: str) -> int | float:
    return int(digits) if len(digits) <= _LONGEST_INTEGER else float(digits)


def _clean(value: Any, depth: int) -> Any:
    if depth > _DEEPEST:
        raise Unreadable("nested too deeply")
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, list):
        return [_clean(item, depth + 1) for item in value]
    if isinstance(value, dict):
        return {_text(name): _clean(item, depth + 1) for name, item in value.items()}
    return value


def _text(text: str) -> str:
    """Return the text with lone surrogates replaced: JSON can have them, a UTF-8 file cannot."""
    return text.encode("utf-8", "replace").decode("utf-8")


def _kind(value: object) -> str:
    if isinstance(value, list):
        return "a list"
    return "a text" if isinstance(value, str) else f"the value {str(value)[:_LEAD]}"


def _too_large(largest_bytes: int) -> Unreadable:
    return Unreadable(f"larger than {largest_bytes / 1e6:g} MB")
