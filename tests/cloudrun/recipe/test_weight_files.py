"""Files of pretrained weights that are something else: found by their first bytes, before a machine is rented."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path

import pytest

from cloudrun.recipe.weights import NoWeights, weight_file


def of_tensors(*places: tuple[int, int]) -> bytes:
    """Return a safetensors file of tensors from one byte to another."""
    tensors = {
        f"t{begin}": {"dtype": "U8", "shape": [end - begin], "data_offsets": [begin, end]} for begin, end in places
    }
    header = json.dumps({"__metadata__": {"format": "pt"}, **tensors}).encode()
    return len(header).to_bytes(8, "little") + header + b"0" * max(end for _, end in places)


def a_zip() -> bytes:
    """Return an archive as torch.save writes it, by its outer form."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as packed:
        packed.writestr("archive/data.pkl", b"tensor data")
    return file.getvalue()


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
        ("m.safetensors", (9).to_bytes(8, "little") + b'{"a" "b"}', "not a valid safetensors file"),
        ("m.safetensors", (2).to_bytes(8, "little") + b"{}more", "not a valid safetensors file"),
        ("m.safetensors", (2).to_bytes(8, "little") + b"[]", "not a valid safetensors file"),
        ("m.safetensors", (20).to_bytes(8, "little") + b"[" * 20, "not a valid safetensors file"),
        ("m.safetensors", of_tensors((0, 4), (4, 8))[:-1], "not a valid safetensors file, or cut short"),
        ("m.safetensors", of_tensors((0, 4), (6, 8)), "not a valid safetensors file"),
        ("m.pth", a_zip()[:-30], "damaged, or cut short"),
        ("m.pth", a_zip().replace(b"tensor data", b"tensor-data"), "damaged"),
        ("m.pth", b"hello", "not a file that torch saved"),
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
        ("m.safetensors", of_tensors((4, 8), (0, 4))),
        ("m.pth", a_zip()),
        ("m.tag.pth", b"\x80\x02pickle"),
    ],
)
def test_weights_are_taken(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    assert weight_file("m.tag", tmp_path) == tmp_path / name


def test_a_file_in_place_of_the_folder_of_weights_is_named(tmp_path: Path) -> None:
    (tmp_path / "resnet18.pth").touch()
    with pytest.raises(NoWeights, match=r"resnet18.pth is a file, and not a folder") as caught:
        weight_file("resnet18", tmp_path / "resnet18.pth")
    assert caught.value.hint == f"name its folder, {tmp_path}"
