"""Which column of a label file is which: told by the job file, or guessed, and then said."""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from cloudrun.imagedata.label_table import Table
from cloudrun.imagedata.vocabulary import is_missing, split_of_word
from cloudrun.imagedata.walk import FolderProblem

_IMAGE_COLUMNS = (
    "图片", "图像", "图片名", "图片名称", "文件名", "文件名称", "图片路径", "路径", "文件",
    "image", "images", "image_id", "imageid", "image_name", "imagename", "filename", "file_name", "file",
    "filepath", "filepaths", "file_path", "path", "image_path", "imagepath", "img", "img_path", "img_name",
    "image_file", "image_filename", "image_url", "photo", "photo_id", "picture", "pic", "isic_id", "id_code",
    "uuid", "name", "id",
)  # fmt: skip
_LABEL_COLUMNS = (
    "标签", "类别", "分类", "类别名", "类别名称", "病害", "种类",
    "label", "labels", "class", "classes", "class_name", "class_label", "category", "category_name", "categories",
    "species", "target", "diagnosis", "dx", "tags", "tag", "choice", "choices", "y", "class_id", "classid",
    "class_index", "category_id", "label_id", "label_name", "labelname",
)  # fmt: skip
_LESS_LIKELY = (
    "breed", "disease", "disease_name", "variety", "kind", "type", "attribute_ids", "individual_id",
    "landmark_id", "hotel_id", "grade", "level", "genus", "family", "scientific_name", "common_name",
)  # fmt: skip
_SPLIT_COLUMNS = ("split", "set", "subset", "data_set", "dataset", "partition", "phase", "usage", "fold")
_VALID_COLUMNS = ("is_valid", "is_val", "is_validation")
_GROUP_COLUMNS = ("group", "group_id", "groups")
_GROUPS_OF_A_FIELD = (
    "patient_id", "patientid", "patient", "lesion_id", "subject_id", "subject", "case_id", "plant_id", "scene_id",
    "location_id", "seq_id", "sequence_id",
)  # fmt: skip
_FLAGS = {
    **dict.fromkeys(("1", "1.0", "true", "yes", "y", "t"), True),
    **dict.fromkeys(("0", "0.0", "false", "no", "n", "f"), False),
}
_SPLIT_LIKE = frozenset(("fold", "folds", "kfold", "cv", "split", "train", "training", "test", "valid", "validation"))
_SAMPLE = 200


@dataclass(frozen=True, slots=True)
class LabelColumns:
    """What the job file says of a label file; None: to be guessed. `separator`: between the labels of a cell; "": none.

    `label`: a column of labels, or several columns of 0 and 1, each a class.
    """

    image: str | None = None
    label: str | tuple[str, ...] | None = None
    group: str | None = None
    split: str | None = None
    separator: str | None = None

    @property
    def is_told(self) -> bool:
        return self != LabelColumns()


GUESSED = LabelColumns()


@dataclass(frozen=True, slots=True)
class Columns:
    """The columns of a label file by what they are used for, as places in its header. `classes`: of 0 and 1."""

    header: tuple[str, ...]
    image: int
    label: int | None
    classes: tuple[int, ...] = ()
    split: int | None = None
    split_is_flag: bool = False
    group: int | None = None

    @property
    def unused(self) -> list[str]:
        used = {self.image, self.label, self.split, self.group, *self.classes}
        return [name or f"column {place + 1}" for place, name in enumerate(self.header) if place not in used]

    @property
    def unused_splits(self) -> list[str]:
        """Return the unused columns that may say which images train: `fold`, `is_train`."""
        return [name for name in self.unused if _SPLIT_LIKE & set(_key(name).split("_"))]

    def as_plain(self) -> dict[str, Any]:
        def named(place: int | None) -> str | None:
            return None if place is None else self.header[place]

        label = [self.header[place] for place in self.classes] if self.label is None else named(self.label)
        return {
            "image": named(self.image),
            "label": label,
            "group": named(self.group),
            "split": named(self.split),
            "unused": self.unused,
        }

    def text(self) -> str:
        """`image=id_code, label=diagnosis, unused: age, sex`."""
        found = self.as_plain()
        if isinstance(found["label"], list):
            found["label"] = f"{len(self.classes)} columns of 0 and 1"
        said = [f"{key}={found[key]}" for key in ("image", "label", "split", "group") if found[key] is not None]
        unused = self.unused
        more = f" and {len(unused) - 8} more" if len(unused) > 8 else ""
        return ", ".join(said) + (f", unused: {', '.join(unused[:8])}{more}" if unused else "")


def find_columns(table: Table, told: LabelColumns, names_image: Callable[[str], bool]) -> Columns:
    """Choose the columns of `table`. `names_image`: whether a cell names an image of the data.

    Raises FolderProblem where a told column is not there, where none can be an image or a label, and where two
    columns that differ could both be the label.
    """
    keys = [_key(name) for name in table.header]
    places = {
        key: _told(table, keys, name)
        for key, name in (("image", told.image), ("group", told.group), ("split", told.split))
    }
    image = places["image"]
    if image is None:
        image = _image_column(table, keys, names_image, taken=_told_places(table, keys, told))
    columns = Columns(tuple(table.header), image, None)
    split, is_flag = _split_column(table, keys, places["split"], image)
    columns = replace(columns, split=split, split_is_flag=is_flag)
    columns = replace(columns, group=_group_column(table, keys, places["group"], (image, split)))
    if isinstance(told.label, str):
        return replace(columns, label=_told(table, keys, told.label))
    if told.label is not None:
        chosen = [_told(table, keys, name) for name in told.label]
        return replace(columns, classes=tuple(place for place in chosen if place is not None))
    return _with_label(table, keys, columns)


def is_flag(cell: str) -> bool | None:
    """Return whether a cell says yes (1, true) or no (0, false); None where it says neither."""
    return _FLAGS.get(cell.lower())


def _key(name: str) -> str:
    return "_".join(name.strip().lower().replace("-", " ").split())


def _told(table: Table, keys: Sequence[str], name: str | None) -> int | None:
    if name is None:
        return None
    if name in table.header:
        return table.header.index(name)
    if _key(name) in keys:
        return keys.index(_key(name))
    near = difflib.get_close_matches(name, table.header, n=1)
    raise FolderProblem(
        f"{table.path}:1: there is no column `{name}`; the columns are {', '.join(table.header) or 'none'}",
        hint=f"did you mean `{near[0]}`?" if near else "name one of them in `data.labels`",
    )


def _told_places(table: Table, keys: Sequence[str], told: LabelColumns) -> set[int]:
    labels = (told.label,) if isinstance(told.label, str) else told.label or ()
    found = [_told(table, keys, name) for name in (*labels, told.group, told.split)]
    return {place for place in found if place is not None}


def _image_column(table: Table, keys: Sequence[str], names_image: Callable[[str], bool], *, taken: set[int]) -> int:
    """The column whose cells name images that lie there; of several the one with the more usual name."""
    step = max(1, len(table.rows) // _SAMPLE)
    some = [cells for _, cells in table.rows[::step] if len(cells) == len(table.header)]
    free = [place for place in range(len(keys)) if place not in taken]
    fits = [place for place in free if some and 2 * sum(names_image(row[place]) for row in some) >= len(some)]
    usual = {name: rank for rank, name in enumerate(_IMAGE_COLUMNS)}
    named = [place for place in free if keys[place] in usual]
    if fits or named:
        return min(fits or named, key=lambda place: usual.get(keys[place], len(usual)))
    for place in free:
        if difflib.get_close_matches(keys[place], _IMAGE_COLUMNS, n=1, cutoff=0.8):
            return place
    raise FolderProblem(
        f"{table.path}:1: no column names the image; the columns are {', '.join(table.header) or 'none'}",
        hint="say which it is: `labels: {file: FILE, image: COLUMN, label: COLUMN}`; its cells name image files",
    )


def _split_column(table: Table, keys: Sequence[str], told: int | None, image: int) -> tuple[int | None, bool]:
    candidates = [told] if told is not None else [place for place in range(len(keys)) if place != image]
    for place in candidates:
        values = {cells[place] for _, cells in table.rows if len(cells) > place and not is_missing(cells[place])}
        flags = bool(values) and all(is_flag(value) is not None for value in values)
        if flags and (told is not None or keys[place] in _VALID_COLUMNS):
            return place, True
        if told is not None or keys[place] == "split":
            return place, False
        if keys[place] in _SPLIT_COLUMNS and any(split_of_word(value) for value in values):
            return place, False
    return None, False


def _group_column(table: Table, keys: Sequence[str], told: int | None, taken: Sequence[int | None]) -> int | None:
    if told is not None:
        return told
    for names in (_GROUP_COLUMNS, _GROUPS_OF_A_FIELD):
        for place, key in enumerate(keys):
            if key in names and place not in taken:
                values = Counter(cells[place] for _, cells in table.rows if len(cells) > place)
                if names is _GROUP_COLUMNS or (1 < len(values) < len(table.rows)):
                    return place
    return None


def _with_label(table: Table, keys: Sequence[str], columns: Columns) -> Columns:
    taken = (columns.image, columns.split, columns.group)
    others = [place for place in range(len(keys)) if place not in taken and not _is_index(table, place)]
    for names in (_LABEL_COLUMNS, _LESS_LIKELY):
        named = [place for place in others if keys[place] in names]
        if named:
            return replace(columns, label=_one_of(table, named))
    flags = [place for place in others if _is_mostly_flags(table, place)]
    if len(flags) > 1:
        texts = [place for place in others if place not in flags and _looks_like_classes(table, place)]
        if texts:
            raise FolderProblem(
                f"{table.path}:1: the classes may be the columns of 0 and 1"
                f" ({', '.join(table.header[place] for place in flags[:3])}, ...) or the column"
                f" `{table.header[texts[0]]}`",
                hint=f"say which: `labels: {{file: {table.path.name}, label: {table.header[texts[0]]}}}`, or a list of"
                " columns as `label`",
            )
        return replace(columns, classes=tuple(flags))
    if len(others) == 1:
        return replace(columns, label=others[0])
    for place in others:
        if difflib.get_close_matches(keys[place], _LABEL_COLUMNS, n=1, cutoff=0.8):
            return replace(columns, label=place)
    raise FolderProblem(
        f"{table.path}:1: no column names the label, nor have all others 0 and 1; the columns are"
        f" {', '.join(table.header)}",
        hint=f"say which it is: `labels: {{file: {table.path.name}, label: COLUMN}}`",
    )


def _one_of(table: Table, named: Sequence[int]) -> int:
    """Of several columns that could be the label the one with texts, where all say the same in other words."""
    if len(named) == 1:
        return named[0]
    first = named[0]
    for other in named[1:]:
        pairs = {(cells[first], cells[other]) for _, cells in table.rows if len(cells) == len(table.header)}
        if len({one for one, _ in pairs}) != len(pairs) or len({two for _, two in pairs}) != len(pairs):
            one, two = table.header[first], table.header[other]
            if one == two:
                raise FolderProblem(
                    f"{table.path}:1: duplicate column `{one}`, with other cells", hint="remove or rename one of them"
                )
            raise FolderProblem(
                f"{table.path}:1: `{one}` and `{two}` may both be the label, and they differ",
                hint=f"say which: `labels: {{file: {table.path.name}, label: {two}}}`",
            )
    texts = [
        place for place in named if not all(_is_number(cells[place]) for _, cells in table.rows if len(cells) > place)
    ]
    return (texts or named)[0]


def _is_index(table: Table, place: int) -> bool:
    """A column that counts the rows, as pandas and R write it."""
    if table.header[place] and not table.header[place].lower().startswith("unnamed:"):
        return False
    return all(cells[place].isdigit() for _, cells in table.rows if len(cells) > place)


def _is_mostly_flags(table: Table, place: int) -> bool:
    some = [cells[place] for _, cells in table.rows[:50] if len(cells) > place]
    return bool(some) and 2 * sum(is_flag(cell) is not None for cell in some) >= len(some)


def _looks_like_classes(table: Table, place: int) -> bool:
    values = {cells[place] for _, cells in table.rows if len(cells) > place and not is_missing(cells[place])}
    return 1 < len(values) <= len(table.rows) // 2 and not all(map(_is_number, values))


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
