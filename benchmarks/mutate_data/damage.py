"""Mutate bytes, as bad disks, cut downloads and broken programs do."""

from __future__ import annotations

from random import Random

_ODD = (b"\0", b"\xff", b"\x7f", b"\x80", b"\0\0\0\0", b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\x80\0\0\0")


def damaged(content: bytes, dice: Random, *, other: bytes = b"") -> bytes:
    """Return `content` with one to four mutations; `other`: content to splice in."""
    for _ in range(dice.choice((1, 1, 2, 4))):
        content = _once(content, dice, other)
    return content


def _once(content: bytes, dice: Random, other: bytes) -> bytes:
    if not content:
        return dice.randbytes(dice.randrange(64))
    # Headers decide most: half of all mutations are in the first 128 bytes.
    at = dice.randrange(min(len(content), 128 if dice.random() < 0.5 else len(content)))
    match dice.randrange(9):
        case 0:
            return content[:at] + bytes((content[at] ^ (1 << dice.randrange(8)),)) + content[at + 1 :]
        case 1:
            return content[:at] + bytes((dice.randrange(256),)) + content[at + 1 :]
        case 2:
            return content[:at]
        case 3:
            return content[:at] + dice.randbytes(dice.randrange(1, 9)) + content[at:]
        case 4:
            return content[:at] + content[at + dice.randrange(1, 33) :]
        case 5:
            odd = dice.choice(_ODD)
            return content[:at] + odd + content[at + len(odd) :]
        case 6:
            end = at + dice.randrange(1, 65)
            return content[:end] + content[at:end] + content[end:]
        case 7:
            return content[:at] + b"\0" * dice.randrange(1, 257) + content[at + dice.randrange(1, 257) :]
        case _:
            return content[:at] + (other or content)[dice.randrange(len(other or content)) :]
