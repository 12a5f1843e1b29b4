"""Images by what a row of a label file may call them."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from urllib.parse import unquote

from cloudrun.imagedata.vocabulary import normal
from cloudrun.imagedata.walk import Parts

# Label Studio puts eight random digits in front of the name of an uploaded file: `/data/upload/1/3fa2b1c0-a.jpg`.
_UPLOADED = re.compile(r"(?:^|/)[0-9a-f]{8}-([^/]+)$")


class KnownImages:
    """Images by path, with or without folder and suffix; in any case, normal form, and number of zeros in front."""

    def __init__(self, images: Sequence[Path], folder: Path) -> None:
        self._by_path: dict[str, Path] = {}
        self._by_name: dict[str, list[Path]] = {}
        self._loosely: dict[str, list[Path]] | None = None
        self.folder = folder
        self._tops: set[str] = set()
        skip = len(folder.parts)
        for path in images:
            parts = path.parts[skip:]
            inner = normal("/".join(parts))
            self._by_path[inner] = path
            name = normal(parts[-1])
            stem = name.rpartition(".")[0] or name
            front = inner[: len(inner) - len(name)]
            for called in {f"{front}{stem}", name, stem}:
                self._by_name.setdefault(called, []).append(path)
            if len(parts) > 1:
                self._tops.add(normal(parts[0]))

    def called(self, name: str, *, strictly: bool = False) -> Sequence[Path]:
        """Return the images that `name` may mean. Folders in front of it that the data do not have are passed over.

        `strictly`: not in another case, nor as a number without its zeros.
        """
        found = self._exactly(name)
        if not found and "%" in name:
            found = self._exactly(unquote(name))
        if not found and "?d=" in name:  # Label Studio's address of a file on its own disk
            found = self._exactly(unquote(name.partition("?d=")[2]))
        if not found and (upload := _UPLOADED.search(name)) is not None:
            found = self._exactly(unquote(upload[1]))
        if not found and not strictly:
            found = self._nearly(name)
        return found

    def _exactly(self, name: str) -> Sequence[Path]:
        parts = _parts(name)
        while parts:
            inner = "/".join(parts)
            if inner in self._by_path:
                return [self._by_path[inner]]
            if inner in self._by_name:
                return self._by_name[inner]
            if len(parts) > 1 and parts[0] in self._tops:
                break  # a folder that is there, without the image
            parts = parts[1:]
        return []

    def _nearly(self, name: str) -> Sequence[Path]:
        if self._loosely is None:
            self._loosely = {}
            for called, paths in self._by_name.items():
                for key in {called.casefold(), *_as_number(called)}:
                    known = self._loosely.setdefault(key, [])
                    known.extend(path for path in paths if path not in known)
        parts = _parts(name)
        while parts:
            inner = "/".join(parts)
            stem = inner.rpartition(".")[0]
            for key in (inner.casefold(), stem.casefold(), *(_as_number(inner) if len(parts) == 1 else ())):
                if key in self._loosely:
                    return self._loosely[key]
            if len(parts) > 1 and parts[0] in self._tops:
                break
            parts = parts[1:]
        return []

    def explain(self, name: str, paths: Sequence[Path], *, guess: bool) -> tuple[str, str]:
        """Return message and hint for a row whose image is not there, or there more than once."""
        if paths:
            where = ", ".join(path.relative_to(self.folder).as_posix() for path in paths[:3])
            return f"`{name}` may be any of {len(paths)} images: {where}", "write the image with its folder and suffix"
        if not name:
            return "the row names no image", "write one, or remove the row"
        hint = self._meant(name) if guess else None
        return f"there is no image `{name}` in {self.folder}", hint or "add the image, or remove the row"

    def _meant(self, name: str) -> str | None:
        some = list(self._by_path)[:5000]
        near = difflib.get_close_matches(name, some, n=1, cutoff=0.85)
        if not near:
            last = {PurePosixPath(one).name: one for one in some}
            near = [last[one] for one in difflib.get_close_matches(PurePosixPath(name).name, last, n=1, cutoff=0.85)]
        return f"did you mean `{near[0]}`?" if near else None


def _parts(name: str) -> Parts:
    whole = normal(name.replace("\\", "/"))
    return tuple(part for part in PurePosixPath(whole).parts if part not in ("/", ".."))


def _as_number(text: str) -> tuple[str, ...]:
    """`00012.jpg` and `12` as one key, which no name of a file is."""
    stem = text.partition(".")[0]
    return (f"/{int(stem)}",) if stem.isascii() and stem.isdigit() and len(stem) < 20 else ()
