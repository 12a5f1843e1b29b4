"""Count images that cannot be read: each is named once and skipped; too many end the run."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from cloudrun.imagedata.folders import FolderProblem


class Unreadable:
    """Unreadable images among `images` training and validation images; at most `share` of them is allowed."""

    def __init__(self, *, images: int, share: float) -> None:
        self._images, self._share = images, share
        self._paths: dict[Path, str] = {}
        self.lines: list[str] = []
        """Warnings that were not shown yet: `say` appends here until it is replaced."""
        self.say = self.lines.append

    def __contains__(self, path: Path) -> bool:
        return path in self._paths

    @property
    def paths(self) -> list[Path]:
        """Paths of the unreadable images, sorted."""
        return sorted(self._paths)

    def found(self) -> list[tuple[Path, str]]:
        """Return path and reason of each, in the order in which they were found."""
        return list(self._paths.items())

    def remember(self, paths: Iterable[Path]) -> None:
        """Add images that an earlier process of this run has named and skipped."""
        self._paths.update(dict.fromkeys(paths, "found before"))

    def note(self, path: Path, reason: str) -> None:
        """Add an image. Raises FolderProblem where that is one too many."""
        if path in self._paths:
            return
        self._paths[path] = reason
        count = len(self._paths)
        if count > self._share * self._images:
            more = f"; it is number {count} of {self._images} images" if count > 1 else ""
            raise FolderProblem(
                f"{path} cannot be read as an image: {reason}{more}",
                hint=f"fix it, move it out of the data folder, or allow more: `max_unreadable` is {self._share:g}",
            )
        self.say(f"warning: {path} cannot be read as an image: {reason}; skipped ({count} so far)")
