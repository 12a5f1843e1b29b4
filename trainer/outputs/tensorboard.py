"""Write the rows of metrics.jsonl as an event file, too, which TensorBoard reads.

Scalars alone need so little of the format that this needs no package: records of TFRecord (length, checksum, bytes,
checksum; github.com/tensorflow/tensorflow, tensorflow/core/lib/io/record_writer.h), each a protocol buffer `Event`
(tensorflow/core/util/event.proto).
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from trainer.atomic import replacing

_OF_BOTH = ("lr",)  # rows of train and of val have the same
_NO_CURVES = ("kind", "epoch", "step", "time", "fold")
_CASTAGNOLI = 0x82F63B78
_MASK = 0xA282EAD8


class EventFile:
    """The event file beside metrics.jsonl. It always holds just the rows that metrics.jsonl has."""

    def __init__(self, folder: Path, rows: Iterable[Mapping[str, Any]]) -> None:
        """Begin the file anew with `rows`: the rows after the checkpoint will be written again."""
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / "events.out.tfevents.0.cloudrun"  # TensorBoard knows an event file by `tfevents`
        rows = list(rows)
        began = _seconds(rows[0]) if rows else 0.0
        with replacing(self.path) as file:
            file.write(record(_double(1, began) + _text(3, "brain.Event:2")))
            for row in rows:
                file.write(_event(row))

    def append(self, row: Mapping[str, Any]) -> None:
        """Add a row of metrics.jsonl."""
        with self.path.open("ab") as file:
            file.write(_event(row))


def record(content: bytes) -> bytes:
    """Return a TFRecord."""
    length = struct.pack("<Q", len(content))
    return length + _checksum(length) + content + _checksum(content)


def crc32c(content: bytes) -> int:
    """Return the CRC-32C (Castagnoli) of `content`, as RFC 3720 defines it."""
    crc = 0xFFFFFFFF
    for byte in content:
        crc = _TABLE[(crc ^ byte) & 0xFF] ^ (crc >> 8)
    return crc ^ 0xFFFFFFFF


def _table_entry(number: int) -> int:
    for _ in range(8):
        number = number >> 1 ^ (_CASTAGNOLI if number & 1 else 0)
    return number


_TABLE = tuple(_table_entry(number) for number in range(256))


def _checksum(content: bytes) -> bytes:
    crc = crc32c(content)
    return struct.pack("<I", ((crc >> 15 | crc << 17) + _MASK) & 0xFFFFFFFF)


def _event(row: Mapping[str, Any]) -> bytes:
    curves = {
        name if name in _OF_BOTH else f"{row['kind']}/{name}": float(value)
        for name, value in row.items()
        if name not in _NO_CURVES
        and isinstance(value, int | float)
        and (name not in _OF_BOTH or row["kind"] == "train")
    }
    values = b"".join(
        _message(1, _text(1, tag) + _key(2, 5) + struct.pack("<f", value)) for tag, value in curves.items()
    )
    return record(_double(1, _seconds(row)) + _key(2, 0) + _varint(int(row["step"])) + _message(5, values))


def _seconds(row: Mapping[str, Any]) -> float:
    return datetime.fromisoformat(str(row["time"])).timestamp()


def _key(number: int, wire_type: int) -> bytes:
    return _varint(number << 3 | wire_type)


def _varint(value: int) -> bytes:
    found = bytearray()
    while value > 0x7F:
        found.append(value & 0x7F | 0x80)
        value >>= 7
    found.append(value)
    return bytes(found)


def _double(number: int, value: float) -> bytes:
    return _key(number, 1) + struct.pack("<d", value)


def _message(number: int, content: bytes) -> bytes:
    return _key(number, 2) + _varint(len(content)) + content


def _text(number: int, text: str) -> bytes:
    return _message(number, text.encode())
