"""Let botocore read an upload from memory as from a file, without a copy."""

from __future__ import annotations


class Body:
    """Reads from `content`, which must stay as it is until the upload has ended."""

    def __init__(self, content: memoryview) -> None:
        self._content = content
        self._at = 0

    def read(self, size: int = -1) -> memoryview:
        end = len(self._content) if size < 0 else min(self._at + size, len(self._content))
        piece = self._content[self._at : end]
        self._at = end
        return piece

    def seek(self, offset: int, whence: int = 0) -> int:
        self._at = offset + (0, self._at, len(self._content))[whence]
        return self._at

    def tell(self) -> int:
        return self._at
