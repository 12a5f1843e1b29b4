"""Mutated label files: cells, columns, dialects, encodings, exports in JSON, and bytes."""

from __future__ import annotations

import csv
import functools
import io
import json
import shutil
import string
from collections.abc import Callable
from pathlib import Path
from random import Random

from benchmarks.mutate_data.damage import damaged
from benchmarks.mutate_data.readers import compare_readers
from benchmarks.mutate_data.trees import small_image
from benchmarks.mutate_data.verdicts import Outcome
from cloudrun.imagedata.dataset import Reading
from cloudrun.imagedata.label_columns import GUESSED, LabelColumns

_ENCODINGS = ("utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-32", "gb18030", "shift_jis", "cp1252", "big5")
_MISSING = ("", "nan", "N/A", "None", "null", "?", "-", "NULL", " ")
# fmt: off
_ODD_CELLS = (*_MISSING, "0", "1", "1.0", "2", "a|b", "rust scab", "early blight", '"', "'", ",", "\n", "train",
              "valid", "锈病", "ächz", "\ufeff", "\x00", '{"choices": ["a", "b"]}', "[1, 2]", "im_3", "../im_3.jpg")
# fmt: on
# fmt: off
_HEADERS = ("image", "label", "labels", "image_id", "id", "split", "group", "fold", "is_valid", "set", "target",
            "class", "healthy", "rust", "", "Unnamed: 0", "patient_id", "path", "file name", "诊断", "species")
# fmt: on

Rows = list[list[str]]


def try_labels(dice: Random, folder: Path) -> Outcome:
    """Mutate a label file of eighteen images, and read the data set with it twice."""
    data = folder / "data"
    shutil.copytree(_images(), data, copy_function=_link)
    suffix, content = _file(dice)
    if dice.random() < 0.15:
        content = damaged(content, dice)
    labels = (data if dice.random() < 0.7 else folder) / f"train{suffix}"
    labels.write_bytes(content)
    return compare_readers(data, Reading(labels, _told(dice)), dice)


def _link(source: str, target: str) -> None:
    Path(target).hardlink_to(source)


@functools.cache
def _images() -> Path:
    """Return a folder of eighteen images: some beside one another, some in folders of splits and classes."""
    import atexit
    import tempfile

    folder = Path(tempfile.mkdtemp(prefix="mutate-labels-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    for name in _NAMES:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(small_image(path.suffix))
    return folder


_NAMES = (
    *(f"im_{number}.jpg" for number in range(8)), *(f"train/{number:04}.png" for number in range(4)),
    "valid/rust/x.jpg", "valid/ok/x.jpg", "test_images/t1.jpg", "test_images/t2.JPG", "masks/im_1.png", "光/叶.jpg",
)  # fmt: skip


def _file(dice: Random) -> tuple[str, bytes]:
    rows = _rows(dice)
    for _ in range(dice.choice((0, 1, 1, 2, 5))):
        rows = dice.choice(_CHANGES)(rows, dice)
    if dice.random() < 0.15:
        return dice.choice((".json", ".jsonl")), _as_json(rows, dice).encode("utf-8", "surrogatepass")
    text = io.StringIO()
    delimiter = dice.choice(",,,;\t|")
    if dice.random() < 0.05:
        text.write(f"sep={delimiter}\r\n")
    end = dice.choice(("\n", "\r\n"))
    if dice.random() < 0.5:
        csv.writer(text, delimiter=delimiter, lineterminator=end).writerows(rows)
    else:
        csv.writer(text, delimiter=delimiter, lineterminator=end, quoting=csv.QUOTE_ALL).writerows(rows)
    suffix = dice.choice((".csv", ".csv", ".tsv", ".CSV", ".txt"))
    return suffix, text.getvalue().encode(dice.choice(_ENCODINGS), "replace")


_SPELLINGS: tuple[Callable[[str], str], ...] = (
    lambda name: name,
    lambda name: name.rpartition("/")[2],
    lambda name: name.rpartition(".")[0],
)


def _rows(dice: Random) -> Rows:
    """Return a good label file, of one of the usual forms."""
    names = [name for name in _NAMES if dice.random() < 0.9 and not name.startswith("masks")]
    shown = dice.choice(_SPELLINGS)
    match dice.randrange(4):
        case 0:
            body = [[shown(name), dice.choice(("rust", "ok", "锈病"))] for name in names]
            return [
                [dice.choice(("image", "image_id", "filename", "photo")), dice.choice(("label", "class", "x"))],
                *body,
            ]
        case 1:
            body = [[shown(name), *dice.choice((["1", "0"], ["0", "1"], ["1", "1"], ["0", "0"]))] for name in names]
            return [["image", "rust", "scab"], *body]
        case 2:
            words = ("rust scab", "rust", "scab", "rust|ok", "ok;scab", "early blight")
            return [["image", "labels"], *([shown(name), dice.choice(words)] for name in names)]
        case _:
            body = [
                [
                    str(at),
                    shown(name),
                    dice.choice(("0", "1", "2")),
                    dice.choice(("train", "val", "test", "")),
                    f"g{at % 4}",
                ]
                for at, name in enumerate(names)
            ]
            return [["", "id_code", "diagnosis", dice.choice(("split", "set", "fold")), "group"], *body]


def _change_cell(rows: Rows, dice: Random) -> Rows:
    row = dice.choice(rows)
    if row:
        row[dice.randrange(len(row))] = dice.choice(_ODD_CELLS)
    return rows


def _change_column(rows: Rows, dice: Random) -> Rows:
    at, value = dice.randrange(max(1, len(rows[0]))), dice.choice(_ODD_CELLS)
    return [
        row[:at] + [value if dice.random() < 0.7 else cell for cell in row[at : at + 1]] + row[at + 1 :] for row in rows
    ]


def _change_header(rows: Rows, dice: Random) -> Rows:
    if rows[0]:
        rows[0][dice.randrange(len(rows[0]))] = dice.choice(_HEADERS)
    return rows


def _add_column(rows: Rows, dice: Random) -> Rows:
    values = [dice.choice(_ODD_CELLS) for _ in range(dice.choice((1, 2, 5)))]
    return [[*rows[0], dice.choice(_HEADERS)], *([*row, dice.choice(values)] for row in rows[1:])]


def _drop_column(rows: Rows, dice: Random) -> Rows:
    at = dice.randrange(max(1, len(rows[0])))
    return [row[:at] + row[at + 1 :] for row in rows]


def _shorten(rows: Rows, dice: Random) -> Rows:
    row = dice.choice(rows)
    del row[dice.randrange(len(row) + 1) :]
    return rows


def _repeat(rows: Rows, dice: Random) -> Rows:
    row = list(dice.choice(rows))
    rows.insert(dice.randrange(1, len(rows) + 1), row)
    return rows


def _spell_otherwise(rows: Rows, dice: Random) -> Rows:
    change: Callable[[str], str] = dice.choice((str.upper, str.title, str.strip, lambda text: f" {text} "))
    return [rows[0], *([change(cell) if dice.random() < 0.3 else cell for cell in row] for row in rows[1:])]


def _long_cell(rows: Rows, dice: Random) -> Rows:
    row = dice.choice(rows)
    row.append(dice.choice(string.printable) * dice.choice((300, 140_000)))
    return rows


_CHANGES: tuple[Callable[[Rows, Random], Rows], ...] = (
    _change_cell, _change_cell, _change_column, _change_header, _add_column, _drop_column, _shorten, _repeat,
    _spell_otherwise, _long_cell, lambda rows, dice: rows[: dice.randrange(1, len(rows) + 1)],
    lambda rows, dice: [rows[0], *dice.sample(rows[1:], len(rows) - 1)],
)  # fmt: skip


def _as_json(rows: Rows, dice: Random) -> str:
    header, *body = rows
    plain = [dict(zip(header, row, strict=False)) for row in body]
    match dice.randrange(6):
        case 0:
            return json.dumps(plain)
        case 1:
            return "\n".join(map(json.dumps, plain))
        case 2:
            return json.dumps({row[0]: row[-1] for row in body if row})
        case 3:
            chosen = [(row[0], [{"value": {"choices": row[1:]}}]) for row in body if row]
            return json.dumps(
                [{"data": {"image": f"/d?d={one}"}, "annotations": [{"result": it}]} for one, it in chosen]
            )
        case 4:
            images = [{"id": at, "file_name": row[0]} for at, row in enumerate(body) if row]
            noted = [{"image_id": at, "category_id": dice.randrange(4)} for at in range(len(body))]
            kinds = [{"id": at, "name": f"kind {at}"} for at in range(dice.choice((2, 4)))]
            return json.dumps({"images": images, "annotations": noted, "categories": kinds})
        case _:
            odd = ("{}", "[]", "null", "[[]]", "[null]", '{"images": 1, "annotations": [], "categories": []}')
            return dice.choice((*odd, "[" * 10, "[" * 100_000))


def _told(dice: Random) -> LabelColumns:
    if dice.random() < 0.7:
        return GUESSED
    image, label, group, split = (dice.choice((None, None, *_HEADERS)) for _ in range(4))
    separator = dice.choice((None, None, "", " ", "|", ";", ", "))
    several = tuple(dice.sample(_HEADERS, 2)) if dice.random() < 0.3 else label
    return LabelColumns(image, several, group, split, separator)
