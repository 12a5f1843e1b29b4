"""Put under a name what cannot be read: each kind of bad content, and what is not a file."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path


def _folder(path: Path) -> None:
    path.mkdir()
    (path / "inside").write_text("x")


def _of(content: bytes) -> Callable[[Path], object]:
    return lambda path: path.write_bytes(content)


def _large(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(3_000_000_000)  # a hole: it takes no room


def _socket(path: Path) -> None:
    os.mknod(path, 0o140644)


BAD: dict[str, Callable[[Path], object]] = {
    "garbage": _of(b"\x00\xff\xfegarbage \xf0\x28"),
    "empty": _of(b""),
    "a list": _of(b"[1, 2]"),
    "a number": _of(b"NaN"),
    "null": _of(b"null"),
    "deep": _of(b"[" * 100_000),
    "deep in an object": _of(b'{"phases": ' + b"[" * 500 + b"]" * 500 + b"}"),
    "400 digits": _of(b'{"epoch": 1' + b"0" * 400 + b', "exit_code": 1' + b"0" * 5000 + b"}"),
    "half": _of(b'{"reason": "fini'),
    "half a pair of surrogates": _of(b'{"reason": "\\ud800", "phase": "\\udfff", "message": "\\ud800"}'),
    "gigabytes": _large,
    "a folder": _folder,
    "a pipe": os.mkfifo,
    "a socket": _socket,
    "a link to itself": lambda path: path.symlink_to(path.name),
}
