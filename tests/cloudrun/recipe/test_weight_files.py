"""Files of pretrained weights that are something else: found by their first bytes, before a machine is rented."""

from __future__ import annotations

from pathlib import Path

import pytest

from cloudrun.recipe.weights import NoWeights, weight_file


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (
            "m.safetensors",
            b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n",
            "a pointer of git-lfs",
        ),
        ("m.pth", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n", "a pointer of git-lfs"),
        ("m.pth", b"\n<!DOCTYPE html><html>404</html>", "a web page"),
        ("m.safetensors", b"<html><head>", "a web page"),
        ("m.safetensors", b"", "empty"),
        ("m.safetensors", (10**9).to_bytes(8, "little") + b'{"a": 1', "cut short"),
        ("m.pth", b"hello", "no file that torch saved"),
    ],
)
def test_what_is_no_weights_is_named(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(NoWeights, match=message) as caught:
        weight_file("m", tmp_path)
    assert caught.value.hint


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("m.safetensors", (2).to_bytes(8, "little") + b"{}"),
        ("m.pth", b"PK\x03\x04zip"),
        ("m.tag.pth", b"\x80\x02pickle"),
    ],
)
def test_weights_are_taken(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    assert weight_file("m.tag", tmp_path) == tmp_path / name
