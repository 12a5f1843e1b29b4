"""The bytes of a label file -> a header and rows of cells: dialects of CSV, exports in JSON."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cloudrun.imagedata.text_encoding import SAVE_AS, decode
from cloudrun.imagedata.vocabulary import IMAGE_SUFFIXES, suffix_of
from cloudrun.imagedata.walk import FolderProblem

SEPARATOR = "|"
"""Between the labels of one image, where this project writes them."""

_DELIMITERS = ",;\t|"
_JSON = re.compile(r"\s*(?:\[\s*[\[{\]]|\{\s*[\"}])")  # an object, or a list of objects or lists
_SPREADSHEETS = (b"PK\x03\x04", b"\xd0\xcf\x11\xe0")  # .xlsx, .xls


@dataclass(frozen=True, slots=True)
class Table:
    """`rows`: the number of a row's first line, and its cells. `notes`: what was guessed of the file's form.

    `header` is empty where the form has none.
    """

    path: Path
    header: list[str]
    rows: list[tuple[int, list[str]]]
    notes: tuple[str, ...] = ()
    header_line: int = 1


def read_table(path: Path) -> Table:
    """Read a CSV, TSV or JSON file of labels. Raises FolderProblem that says what to save it as."""
    if path.exists() and not path.is_file():
        raise FolderProblem(f"{path} is no file", hint="it has to be a CSV file")
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise no_file(path) from None
    except OSError as err:
        raise FolderProblem(f"{path} cannot be read: {err.strerror}", hint="it has to be a CSV file") from None
    if content.startswith(_SPREADSHEETS):
        raise FolderProblem(f"{path} is a spreadsheet, not a CSV file", hint=SAVE_AS)
    if content.startswith(b"version https://git-lfs"):
        raise FolderProblem(
            f"{path} is a pointer of git-lfs, not the file itself", hint="`git lfs pull` in its folder fetches it"
        )
    if content[:200].lstrip().lower().startswith((b"<!doctype", b"<html", b"<?xml")):
        raise FolderProblem(
            f"{path} is a web page or XML, not a CSV file", hint="download the file itself, not the page about it"
        )
    text, notes = decode(path, content)
    # By the content alone: on its way to the machine a label file gets another name.
    if _JSON.match(text):
        return _from_json(path, text, notes)
    return _from_csv(path, text, notes)


def with_header(table: Table, names_image: Callable[[str], bool]) -> Table:
    """Return the table with names for its columns where it has none: where the header names an image of the data.

    The first row is then a row like the others.
    """
    if table.header and not any(names_image(cell) for cell in table.header):
        return table
    rows = [(table.header_line, table.header), *table.rows] if table.header else table.rows
    header = [f"column {place + 1}" for place in range(len(rows[0][1]) if rows else 0)]
    note = f"{table.path.name} has no header: its first line is read as an image, too"
    return Table(table.path, header, rows, (*table.notes, note), table.header_line)


def no_file(path: Path) -> FolderProblem:
    """The error for a label file that is not there; the hint names those that are."""
    near = sorted(one.name for one in [*path.parent.glob("*.csv"), *path.parent.glob("*.tsv")])[:5]
    return FolderProblem(
        f"there is no labels file {path}",
        hint=f"files there: {', '.join(near)}" if near else "it is relative to the data folder, or to the job file",
    )


def _from_csv(path: Path, text: str, notes: tuple[str, ...]) -> Table:
    text = text.replace("\0", "")
    told = re.match(r'\s*"?sep=(.)"?\s*\r?\n', text, re.IGNORECASE)
    skipped = 0
    if told is not None:
        delimiter, text, skipped = told[1], text[told.end() :], text[: told.end()].count("\n")
    else:
        comments = re.match(r"(?:\s*#[^\r\n]*(?:\r\n|\r|\n))+", text)
        if comments is not None:
            remarks = [line for line in comments[0].splitlines() if line.strip()]
            text, skipped = text[comments.end() :], len(comments[0].splitlines())
            notes = (*notes, f"{path.name} begins with {len(remarks)} line(s) of remarks (`#`), which are passed over")
        lines = [line for line in text.splitlines() if line.strip()]
        if lines and all(_is_listed(line) for line in lines):
            rows = [(place + 1 + skipped, line.rsplit(None, 1)) for place, line in enumerate(text.splitlines())]
            return Table(path, [], [(place, cells) for place, cells in rows if cells], notes)
        delimiter = max(_DELIMITERS, key=(lines or [""])[0].count)
    records = _records(path, text, delimiter, skipped)
    if not records:
        raise FolderProblem(f"{path} is empty", hint="a header, then a row an image: `image,label`")
    (header_line, header), *rows = records
    # An index column of pandas or R has no name; R leaves the name out altogether.
    if rows and all(len(cells) == len(header) + 1 for _, cells in rows):
        header = ["", *header]
    return Table(path, header, rows, notes, header_line)


def _is_listed(line: str) -> bool:
    """Whether a line is a path and a label with a space between them, as lists of images are written: `a/1.jpg 0`."""
    words = line.rsplit(None, 1)
    return len(words) == 2 and suffix_of(words[0]) in IMAGE_SUFFIXES and not set(line) & set(_DELIMITERS)


def _records(path: Path, text: str, delimiter: str, skipped: int) -> list[tuple[int, list[str]]]:
    """Lines that are not empty as cells, each with the number of its first line."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=True)
    records = []
    line = 1
    try:
        for cells in reader:
            if any(cell.strip() for cell in cells):
                records.append((line + skipped, [cell.strip() for cell in cells]))
            line = reader.line_num + 1
    except csv.Error as err:
        raise FolderProblem(
            f"{path}:{line + skipped}: not a valid CSV file: {err}", hint="look for a quote that is not closed"
        ) from None
    return records


def _from_json(path: Path, text: str, notes: tuple[str, ...]) -> Table:
    try:
        tree = json.loads(text)
    except json.JSONDecodeError as err:
        try:
            tree = [json.loads(line) for line in text.splitlines() if line.strip()]
        except (ValueError, RecursionError):
            raise FolderProblem(
                f"{path}:{err.lineno}: not valid JSON: {err.msg}", hint="fix it, or use a CSV file"
            ) from None
    except RecursionError:
        raise FolderProblem(f"{path} is nested too deeply to hold labels", hint="use a CSV file") from None
    try:
        pairs = list(_pairs(tree))
    except (KeyError, TypeError, AttributeError, IndexError, ValueError):
        pairs = []
    if not pairs:
        raise FolderProblem(
            f"{path} is JSON of a kind that is not known here",
            hint="known are exports of Label Studio, COCO's images, annotations and categories, a list of objects, and"
            ' {"image": "label"}; or use a CSV file: `image,label`',
        )
    rows = [(place + 1, [image, label]) for place, (image, label) in enumerate(pairs)]
    return Table(path, ["image", "label"], rows, notes)


def _pairs(tree: Any) -> Iterator[tuple[str, str]]:
    """Image and label of each entry; several labels stand with SEPARATOR between them."""
    if isinstance(tree, dict) and {"images", "annotations", "categories"} <= tree.keys():
        yield from _coco(tree)
    elif isinstance(tree, dict) and (columns := _by_column(tree)) is not None:
        yield from columns
    elif isinstance(tree, dict):
        for image, label in tree.items():
            yield str(image), _label(label)
    else:
        for entry in tree:
            yield (_text_of(entry, _IMAGE_KEYS), _label_of(entry))


_IMAGE_KEYS = ("image", "img", "file_name", "filename", "file", "path", "image_id", "id", "url", "ocr")
_LABEL_KEYS = ("choice", "label", "labels", "class", "category", "target")


def _by_column(tree: dict[str, Any]) -> list[tuple[str, str]] | None:
    """Pairs of a tree that pandas wrote by columns: a list, or an object by row, for each; None for another tree."""
    found = [next((tree[key] for key in keys if key in tree), None) for keys in (_IMAGE_KEYS, _LABEL_KEYS)]
    images, labels = ([*one.values()] if isinstance(one, dict) else one for one in found)
    if not isinstance(images, list) or not isinstance(labels, list) or len(images) != len(labels):
        return None
    return [(str(image), _label(label)) for image, label in zip(images, labels, strict=True)]


def _coco(tree: dict[str, Any]) -> Iterator[tuple[str, str]]:
    names = {one["id"]: str(one["name"]) for one in tree["categories"]}
    found: dict[Any, list[str]] = {}
    for one in tree["annotations"]:
        of_image = found.setdefault(one["image_id"], [])
        if names[one["category_id"]] not in of_image:
            of_image.append(names[one["category_id"]])
    for one in tree["images"]:
        if one["id"] in found:
            yield str(one["file_name"]), SEPARATOR.join(found[one["id"]])


def _label_of(entry: dict[str, Any]) -> str:
    """The choices of a Label Studio task, or of an entry of its short form."""
    annotations = entry.get("annotations", entry.get("completions"))
    if isinstance(annotations, list):
        kept = [one for one in annotations if not one.get("was_cancelled")]
        return _label([name for one in kept[-1:] for result in one["result"] for name in _choices(result)])
    return _label(entry[next(key for key in _LABEL_KEYS if key in entry)] if set(_LABEL_KEYS) & entry.keys() else None)


def _choices(result: dict[str, Any]) -> list[str]:
    value = result.get("value", {})
    return [str(one) for key in ("choices", "labels") for one in value.get(key, [])]


def _text_of(entry: dict[str, Any], keys: tuple[str, ...]) -> str:
    data = entry.get("data")
    if isinstance(data, dict):
        entry = data
    found = next((entry[key] for key in keys if isinstance(entry.get(key), str | int)), None)
    if found is None:
        raise KeyError("image")
    return str(found)


def _label(value: Any) -> str:
    if isinstance(value, dict):
        value = value.get("choices", value.get("labels", ""))
    if isinstance(value, list):
        return SEPARATOR.join(dict.fromkeys(str(one) for one in value))
    return "" if value is None else str(value)
