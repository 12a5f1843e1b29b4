"""Find the images that a person names for prediction: a folder, an image, a list of paths, or a table of ids.

Imports no torch: wrong names are told before anything is installed or loaded.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cloudrun.imagedata.folders import FolderProblem, list_images
from cloudrun.imagedata.image_names import KnownImages
from cloudrun.imagedata.label_table import Table, read_table
from cloudrun.imagedata.vocabulary import HEIC_SUFFIXES, IMAGE_SUFFIXES, suffix_of

_TABLES = (".csv", ".tsv", ".json")


@dataclass(frozen=True, slots=True)
class ImageList:
    """Images in the order in which they are asked for, and the name of each: its path in the folder that was named."""

    names: tuple[str, ...]
    files: tuple[Path, ...]


def images_at(place: Path, *, folder: Path | None = None) -> ImageList:
    """Return the images that `place` names.

    A folder: all images in it, those of its folder `test` where it has one. An image file: that image. A CSV, TSV or
    JSON file: the images that a column names, with or without folder and suffix, in its order. Any other file: a path
    on each line. `folder`: where the images of a file are; None: beside the file. Raises FolderProblem where there are
    no images, or a name is of no image or of several.
    """
    if place.is_dir():
        return _in_folder(place)
    if not place.is_file():
        raise FolderProblem(f"there is no folder or file {place}", hint="name a folder, an image, a list or a CSV file")
    if suffix_of(place.name) in IMAGE_SUFFIXES or suffix_of(place.name) in HEIC_SUFFIXES:
        return ImageList((place.name,), (place,))
    beside = place.absolute().parent if folder is None else folder
    if place.suffix.lower() in _TABLES:
        return _of_table(read_table(place), beside)
    return _of_lines(place, beside)


def _in_folder(place: Path) -> ImageList:
    images = _images_of(place)
    if not images:
        raise FolderProblem(f"there are no images in {place}", hint="name a folder of images")
    return ImageList(tuple(image.relative_to(place).as_posix() for image in images), tuple(images))


def _images_of(folder: Path) -> list[Path]:
    """Return the images of the folder `test` where there is one: ids of other images may be the same."""
    return list_images(folder / "test" if (folder / "test").is_dir() else folder)


def _of_lines(place: Path, folder: Path) -> ImageList:
    try:
        lines = place.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError:
        raise FolderProblem(f"{place} is neither an image nor a list", hint="a path on each line, in UTF-8") from None
    named = [(number, line.strip()) for number, line in enumerate(lines, start=1) if line.strip()]
    if not named:
        raise FolderProblem(f"{place} names no image", hint="a path on each line")
    files = {name: folder / Path(name).expanduser() for _, name in named}
    missing = [(number, name) for number, name in named if not files[name].is_file()]
    if missing:
        number, name = missing[0]
        raise FolderProblem(
            f"{place}:{number}: there is no file {files[name]}"
            + (f" (and {len(missing) - 1} more)" if missing[1:] else ""),
            hint=f"paths are relative to {folder}; `--image-folder DIR` names another folder",
        )
    return ImageList(tuple(files), tuple(files.values()))


def _of_table(table: Table, folder: Path) -> ImageList:
    images = _images_of(folder)
    if not images:
        raise FolderProblem(
            f"there are no images in {folder}", hint=f"name the folder of the images of {table.path}: `--image-folder`"
        )
    known = KnownImages(images, folder)
    files = [_named_once(known.called(name)) for name in _ids(table, known)]
    found = dict.fromkeys(file for file in files if file is not None)
    return ImageList(tuple(file.relative_to(folder).as_posix() for file in found), tuple(found))


def _ids(table: Table, known: KnownImages) -> Sequence[str]:
    """Return the cells of the column that names images. Raises FolderProblem where no column names one in each row."""
    if not table.rows:
        raise FolderProblem(f"{table.path} has no rows", hint="a header, then a row an image")
    width = min(len(cells) for _, cells in table.rows)
    wrong: dict[int, list[int]] = {}
    for column in range(width):
        wrong[column] = [line for line, cells in table.rows if _named_once(known.called(cells[column])) is None]
        if not wrong[column]:
            return [cells[column] for _, cells in table.rows]
    nearest = min(wrong, key=lambda column: len(wrong[column]))
    if len(wrong[nearest]) == len(table.rows):
        raise FolderProblem(
            f"no column of {table.path} names images in {known.folder}",
            hint="name the folder that has them: `--image-folder DIR`",
        )
    cells = {line: row[nearest] for line, row in table.rows}
    name = cells[wrong[nearest][0]]
    message, hint = known.explain(name, known.called(name), guess=True)
    more = f" (and {len(wrong[nearest]) - 1} more rows)" if wrong[nearest][1:] else ""
    raise FolderProblem(f"{table.path}:{wrong[nearest][0]}: {message}{more}", hint=hint)


def _named_once(paths: Sequence[Path]) -> Path | None:
    return paths[0] if len(paths) == 1 else None
