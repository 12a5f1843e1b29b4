"""Remember on this computer the hash of each file, for as long as the file is unchanged, and where sent content lies.

A cache: losing it costs time, never data. One SQLite file, which several processes may use at once.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import NamedTuple, Self

from cloudrun.packs.manifest import Extent

_SCHEMA = """
CREATE TABLE IF NOT EXISTS roots (id INTEGER PRIMARY KEY, name TEXT UNIQUE);
CREATE TABLE IF NOT EXISTS files (
  root INTEGER, path TEXT, size INTEGER, mtime_ns INTEGER, inode INTEGER, sha256 TEXT,
  PRIMARY KEY (root, path)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS sent (
  root INTEGER, sha256 TEXT, pack TEXT, offset INTEGER, length INTEGER,
  PRIMARY KEY (root, sha256)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS manifests (
  root INTEGER, manifest TEXT, packs TEXT,
  PRIMARY KEY (root, manifest)
) WITHOUT ROWID;
"""
_PATIENCE_S = 30.0


class Seen(NamedTuple):
    """A file as it was when it was hashed; `path` as in `Found`, `size` in bytes."""

    path: str
    size: int
    mtime_ns: int
    inode: int
    sha256: str


class FileIndex:
    """The index in one SQLite file. `root` is an absolute folder, or the name of a store."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._db = _opened(path)
        except sqlite3.DatabaseError:
            path.unlink(missing_ok=True)  # damaged: an empty one takes its place
            self._db = _opened(path)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._db.close()

    def files(self, root: str) -> dict[str, Seen]:
        """Return path -> the file as it was when it was hashed, of the folder `root`."""
        rows = self._db.execute(
            "SELECT path, size, mtime_ns, inode, sha256 FROM files WHERE root = ?", (self._root(root),)
        )
        return {row[0]: row for row in map(Seen._make, rows)}

    def remember(self, root: str, files: Iterable[Seen], gone: Iterable[str] = ()) -> None:
        """Add or replace `files` of the folder `root`, and forget the paths that are `gone`."""
        number = self._root(root)
        with self._db:
            self._db.executemany(
                "INSERT OR REPLACE INTO files VALUES (?, ?, ?, ?, ?, ?)",
                [(number, one.path, one.size, one.mtime_ns, one.inode, one.sha256) for one in files],
            )
            self._db.executemany("DELETE FROM files WHERE root = ? AND path = ?", [(number, path) for path in gone])

    def sent(self, store: str) -> list[Extent]:
        """Return what this computer has sent to `store`. Its packs may be gone by now: the caller has to check."""
        rows = self._db.execute("SELECT pack, offset, length, sha256 FROM sent WHERE root = ?", (self._root(store),))
        return [Extent(*row) for row in rows]

    def note_sent(self, store: str, extents: Sequence[Extent]) -> None:
        """Remember where content lies in `store`."""
        number = self._root(store)
        with self._db:
            self._db.executemany(
                "INSERT OR REPLACE INTO sent VALUES (?, ?, ?, ?, ?)",
                [(number, one.sha256, one.pack, one.offset, one.length) for one in extents],
            )

    def forget_sent(self, store: str, packs: Iterable[str]) -> None:
        """Forget all content that lies in these packs of `store`."""
        number = self._root(store)
        with self._db:
            self._db.executemany("DELETE FROM sent WHERE root = ? AND pack = ?", [(number, pack) for pack in packs])

    def packs_of(self, store: str, manifest: str) -> set[str] | None:
        """Return the packs that a manifest needs; None where this computer has not read the manifest yet."""
        row = self._db.execute(
            "SELECT packs FROM manifests WHERE root = ? AND manifest = ?", (self._root(store), manifest)
        ).fetchone()
        return None if row is None else set(row[0].split())

    def note_manifest(self, store: str, manifest: str, packs: Iterable[str]) -> None:
        with self._db:
            self._db.execute(
                "INSERT OR REPLACE INTO manifests VALUES (?, ?, ?)", (self._root(store), manifest, " ".join(packs))
            )

    def _root(self, name: str) -> int:
        with self._db:
            self._db.execute("INSERT OR IGNORE INTO roots (name) VALUES (?)", (name,))
            with closing(self._db.execute("SELECT id FROM roots WHERE name = ?", (name,))) as found:
                return int(found.fetchone()[0])


def _opened(path: Path) -> sqlite3.Connection:
    db = sqlite3.connect(path, timeout=_PATIENCE_S)
    try:
        with suppress(sqlite3.OperationalError):  # some file systems cannot
            db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = NORMAL")
        db.executescript(_SCHEMA)
    except BaseException:
        db.close()
        raise
    return db
