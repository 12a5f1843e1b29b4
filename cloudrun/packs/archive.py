"""Build a pack: an uncompressed zip file in memory, with a note of where each content lies in it."""

from __future__ import annotations

import hashlib
import io
import secrets
import zipfile
from dataclasses import dataclass
from typing import cast

from cloudrun.packs.flow import PACK_BYTES
from cloudrun.packs.manifest import Extent

_LOCAL_HEADER_BYTES, _ENTRY_BYTES, _COMMENT_BYTES = 30, 46, 16
_END_BYTES = 22 + _COMMENT_BYTES
_ROOM_BYTES = PACK_BYTES + 64 * 1024


@dataclass(frozen=True, slots=True)
class Pack:
    """A finished pack; its id is the sha256 of its bytes. They are valid until `Memory.give_back`."""

    id: str
    content: memoryview
    extents: tuple[Extent, ...]


class Memory:
    """Buffers for packs, used again and again: to allocate one takes longer than to write a pack to it."""

    def __init__(self) -> None:
        self._free: list[memoryview] = []

    def take(self) -> memoryview:
        """Return a buffer that no other pack uses."""
        return self._free.pop() if self._free else memoryview(bytearray(_ROOM_BYTES))

    def give_back(self, pack: Pack) -> None:
        """Let the buffer of a pack be used again; the pack's content is no longer valid."""
        room = pack.content.obj
        assert isinstance(room, bytearray)
        self._free.append(memoryview(room))


class Archive:
    """A pack under construction. Each content is named by its path when it was packed, for whoever uses `unzip`.

    `room` is enough for a pack of `PACK_BYTES` bytes, or for one content of that size.
    """

    def __init__(self, room: memoryview) -> None:
        self._file = _Room(room)
        self._zip = zipfile.ZipFile(cast("io.BytesIO", self._file), "w", zipfile.ZIP_STORED)
        self._members: list[tuple[int, int, str]] = []
        self._directory_bytes = _END_BYTES

    @property
    def is_empty(self) -> bool:
        return not self._members

    def has_room(self, name: str, length: int, limit: int) -> bool:
        """Return whether the pack would have at most `limit` bytes with one more content of `length` bytes."""
        more = _LOCAL_HEADER_BYTES + _ENTRY_BYTES + 2 * len(name.encode()) + length
        return self._file.tell() + self._directory_bytes + more <= limit

    def add(self, name: str, content: bytes, sha256: str) -> None:
        """Add a content; `~` is appended to a name that is taken."""
        while name in self._zip.NameToInfo:
            name += "~"
        member = zipfile.ZipInfo(name)
        member.external_attr = 0o644 << 16
        self._zip.writestr(member, content)
        self._members.append((self._file.tell() - len(content), len(content), sha256))
        self._directory_bytes += _ENTRY_BYTES + len(name.encode())

    def finish(self) -> Pack:
        """Return the pack. Nothing can be added after that."""
        # No two packs are alike: a pack that is sent in place of a marked one must not have the marked one's id.
        self._zip.comment = secrets.token_hex(_COMMENT_BYTES // 2).encode()
        self._zip.close()
        content = self._file.content()
        pack = hashlib.sha256(content).hexdigest()
        return Pack(pack, content, tuple(Extent(pack, *member) for member in self._members))


class _Room:
    """A buffer that `zipfile` writes to as to a file."""

    def __init__(self, room: memoryview) -> None:
        self._room = room
        self._at = self._end = 0

    def write(self, part: bytes) -> int:
        self._room[self._at : self._at + len(part)] = part
        self._at += len(part)
        self._end = max(self._end, self._at)
        return len(part)

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = 0) -> int:
        self._at = offset + (0, self._at, self._end)[whence]
        return self._at

    def flush(self) -> None:
        """Nothing is held back."""

    def content(self) -> memoryview:
        return self._room[: self._end]
