"""The bytes of a label file -> a header and rows of cells: encodings, dialects of CSV, exports in JSON."""

from __future__ import annotations

import codecs
import csv
import io
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cloudrun.imagedata.walk import FolderProblem

SEPARATOR = "|"
"""Between the labels of one image, where this project writes them."""

_BOMS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_DELIMITERS = ",;\t|"
_SAVE_AS = "save it as UTF-8: in Excel as `CSV UTF-8`, in an editor with the encoding UTF-8"
_JSON = re.compile(r"\s*(?:\[\s*[\[{\]]|\{\s*[\"}])")  # an object, or a list of objects or lists
_SPREADSHEETS = (b"PK\x03\x04", b"\xd0\xcf\x11\xe0")  # .xlsx, .xls


@dataclass(frozen=True, slots=True)
class Table:
    """`rows`: the number of a row's first line, and its cells. `notes`: what was guessed of the file's form."""

    path: Path
    header: list[str]
    rows: list[tuple[int, list[str]]]
    notes: tuple[str, ...] = ()


def read_table(path: Path) -> Table:
    """Read a CSV, TSV or JSON file of labels. Raises FolderProblem that says what to save it as."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise no_file(path) from None
    except OSError as err:
        raise FolderProblem(f"{path} cannot be read: {err.strerror}", hint="it has to be a CSV file") from None
    if content.startswith(_SPREADSHEETS):
        raise FolderProblem(f"{path} is a spreadsheet, not a CSV file", hint=_SAVE_AS)
    text, notes = _decode(path, content)
    # By the content alone: on its way to the machine a label file gets another name.
    if _JSON.match(text):
        return _from_json(path, text, notes)
    return _from_csv(path, text, notes)


def no_file(path: Path) -> FolderProblem:
    """The error for a label file that is not there; the hint names those that are."""
    near = sorted(one.name for one in [*path.parent.glob("*.csv"), *path.parent.glob("*.tsv")])[:5]
    return FolderProblem(
        f"there is no labels file {path}",
        hint=f"files there: {', '.join(near)}" if near else "it is relative to the data folder, or to the job file",
    )


def _decode(path: Path, content: bytes) -> tuple[str, tuple[str, ...]]:
    for mark, codec in _BOMS:
        if content.startswith(mark):
            try:
                return content.decode(codec), ()
            except UnicodeDecodeError as err:
                raise FolderProblem(f"{path} cannot be read as {codec}: {err.reason}", hint=_SAVE_AS) from None
    if b"\0" in content[:4000]:
        codec = "utf-16-le" if content[1:2] == b"\0" else "utf-16-be"
        try:
            return content.decode(codec), (f"{path.name} has no mark of its encoding; read as {codec}",)
        except UnicodeDecodeError:
            raise FolderProblem(f"{path} is no text file", hint=_SAVE_AS) from None
    try:
        return content.decode(), ()
    except UnicodeDecodeError as err:
        guessed = _code_page(content)
        if guessed is None:
            line = content[: err.start].count(b"\n") + 1
            raise FolderProblem(
                f"{path}:{line}: byte 0x{content[err.start]:02x} is not UTF-8, and the file is in no encoding that is"
                " recognised",
                hint=_SAVE_AS,
            ) from None
        codec, name = guessed
        return content.decode(codec), (f"{path.name} is not UTF-8; read as {name}: look at the names of the classes",)


def _code_page(content: bytes) -> tuple[str, str] | None:
    """The code page that a file is most likely in. In Western text, single letters above 127 stand among others."""
    runs = re.findall(rb"[\x80-\xff]+", content)
    letters = sum(len(run) for run in runs if len(run) == 1 and run[0] >= 0xC0)
    among = len(
        re.findall(rb"[A-Za-z][\x80-\xff]{1,2}(?![\x80-\xff])|(?<![\x80-\xff])[\x80-\xff]{1,2}[A-Za-z]", content)
    )
    if 2 * letters >= sum(map(len, runs)) and 2 * among >= len(runs):
        return _first_that_fits(content, (("cp1252", "Windows-1252"),))
    candidates = (
        ("gb2312", "GBK"), ("shift_jis", "Shift-JIS"), ("gb18030", "GB18030"), ("cp932", "Shift-JIS"),
        ("big5", "Big5"), ("euc_kr", "EUC-KR"), ("cp1252", "Windows-1252"),
    )  # fmt: skip
    return _first_that_fits(content, candidates)


def _first_that_fits(content: bytes, candidates: tuple[tuple[str, str], ...]) -> tuple[str, str] | None:
    for codec, name in candidates:
        try:
            content.decode(codec)
        except UnicodeDecodeError:
            continue
        return codec, name
    return None


def _from_csv(path: Path, text: str, notes: tuple[str, ...]) -> Table:
    text = text.replace("\0", "")
    told = re.match(r'\s*"?sep=(.)"?\s*\r?\n', text, re.IGNORECASE)
    skipped = 0
    if told is not None:
        delimiter, text, skipped = told[1], text[told.end() :], text[: told.end()].count("\n")
    else:
        head = next((line for line in text.splitlines() if line.strip()), "")
        delimiter = max(_DELIMITERS, key=head.count)
    records = _records(path, text, delimiter, skipped)
    if not records:
        raise FolderProblem(f"{path} is empty", hint="a header, then a row an image: `image,label`")
    (_, header), *rows = records
    # An index column of pandas or R has no name; R leaves the name out altogether.
    if rows and all(len(cells) == len(header) + 1 for _, cells in rows):
        header = ["", *header]
    return Table(path, header, rows, notes)


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
    elif isinstance(tree, dict):
        for image, label in tree.items():
            yield str(image), _label(label)
    else:
        for entry in tree:
            yield (_text_of(entry, _IMAGE_KEYS), _label_of(entry))


_IMAGE_KEYS = ("image", "img", "file_name", "filename", "file", "path", "image_id", "id", "url", "ocr")
_LABEL_KEYS = ("choice", "label", "labels", "class", "category", "target")


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
