"""Write predictions in the format of a competition's sample submission, and check them against it. Without torch."""

from __future__ import annotations

import csv
import io
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from cloudrun.imagedata.labels import SEPARATOR
from trainer.atomic import replacing
from trainer.errors import TrainerError
from trainer.outputs.prediction_table import PredictionTable, read_table

_NAMED = 5
_SEPARATORS = (" ", "|", ";", ",")


@dataclass(frozen=True)
class Sample:
    """A sample submission: its columns, the ids in order, and the values beside the ids."""

    path: Path
    columns: tuple[str, ...]
    ids: tuple[str, ...]
    labels: frozenset[str]


def write_submission(
    predictions_path: Path, *, sample_path: Path, out: Path, separator: str | None = None, say: Callable[[str], None]
) -> None:
    """Write `out`: the sample's columns and ids, in its order, filled from a predictions.csv.

    One column beside the id takes the label; several take probabilities, one for each class. Columns may spell a class
    with other case, blanks, hyphens or underscores; ids are paths, file names or names without suffix. `separator`:
    between several classes of an image; None: as in the sample. Raises TrainerError where an id has no image or
    several, columns and classes do not match, or the separator of classes is unknown.
    """
    sample, predictions = read_sample(sample_path), read_table(predictions_path)
    place_of = _places(sample, predictions, predictions_path)
    if len(sample.columns) == 2:
        labels = predictions.labels
        _check_labels(sample, predictions.classes)
        between = _separator(sample, predictions.classes, labels, separator)
        cells = [[labels[place].replace(SEPARATOR, between)] for place in place_of]
    else:
        order = _order(sample, predictions.classes)
        cells = [[f"{predictions.probabilities[place][at]:.6f}" for at in order] for place in place_of]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(sample.columns)
    writer.writerows([name, *row] for name, row in zip(sample.ids, cells, strict=True))
    with replacing(out) as file:
        file.write(text.getvalue().encode())
    unasked = len(predictions.images) - len(place_of)
    if unasked:
        say(f"warning: {unasked} of {len(predictions.images)} predictions have no row in {sample_path}")
    what = "a label" if len(sample.columns) == 2 else f"{len(sample.columns) - 1} probabilities"
    say(f"{len(sample.ids)} rows, {what} each, columns and ids as in {sample_path}")


def read_sample(path: Path) -> Sample:
    """Read a sample submission. Raises TrainerError naming the line that is wrong."""
    try:
        lines = list(csv.reader(io.StringIO(path.read_text(encoding="utf-8-sig"), newline="")))
    except (OSError, UnicodeDecodeError, csv.Error) as err:
        raise TrainerError(
            f"{path} cannot be read: {err}", hint="`--sample` takes the competition's sample file"
        ) from None
    if not lines or len(lines[0]) < 2:
        raise TrainerError(f"{path}:1: fewer than two columns", hint="an id, then a label or a column for each class")
    ids = []
    unique: set[str] = set()
    for number, cells in enumerate(lines[1:], start=2):
        if not cells:
            continue
        if len(cells) != len(lines[0]) or not cells[0]:
            raise TrainerError(
                f"{path}:{number}: the row has {len(cells)} cell(s), and the header {len(lines[0])}", hint="fix the row"
            )
        if cells[0] in unique:
            raise TrainerError(
                f"{path}:{number}: duplicate id `{cells[0]}`", hint="use the sample submission unchanged"
            )
        unique.add(cells[0])
        ids.append(cells[0])
    if not ids:
        raise TrainerError(f"{path} has no row below its header", hint="use the sample submission unchanged")
    labels = frozenset(cell.strip() for cells in lines[1:] for cell in cells[1:])
    return Sample(path, tuple(lines[0]), tuple(ids), labels)


def _check_labels(sample: Sample, classes: Sequence[str]) -> None:
    """Raise TrainerError where the competition numbers its classes, or spells them otherwise than the model."""
    names = [name for name in classes if not name.isdecimal()]
    if names and all(_is_number(label) for label in sample.labels):
        raise TrainerError(
            f"the labels of {sample.path} are numbers, and the model's classes are {_some(names)}",
            hint="train with class folders, or labels, that are the competition's numbers",
        )
    spelled = {_plain(name): name for name in classes}
    for label in sorted(sample.labels - set(classes)):
        if _plain(label) in spelled:
            raise TrainerError(
                f"{sample.path} spells a class `{label}`, and the model `{spelled[_plain(label)]}`",
                hint="name the class folders, or the labels, as the competition does; or fix predictions.csv",
            )


def _separator(sample: Sample, classes: Sequence[str], labels: Sequence[str], asked: str | None) -> str:
    """Return the separator between several classes of an image. Raises TrainerError where it is unknown."""
    several = [label for label in labels if SEPARATOR in label]
    if not several or asked is not None:
        return asked or SEPARATOR
    for between in _SEPARATORS:
        for label in sample.labels - set(classes):
            parts = [part.strip() for part in label.split(between)]
            if len(parts) > 1 and set(parts) <= set(classes):
                return between
    raise TrainerError(
        f"{len(several)} image(s) have several classes, as `{several[0]}`, and no row of {sample.path} shows how the "
        "competition separates them",
        hint="give it: `--separator ' '`, as in Plant Pathology 2021; see the competition's page on evaluation",
    )


def _is_number(label: str) -> bool:
    try:
        float(label)
    except ValueError:
        return False
    return True


def _places(sample: Sample, predictions: PredictionTable, path: Path) -> list[int]:
    """Return for each id of the sample its row in the predictions; a whole path has precedence over a shorter name."""
    by_name: dict[str, list[int]] = defaultdict(list)
    for place, image in enumerate(predictions.images):
        whole = PurePosixPath(image)
        for name in {image, whole.name, whole.stem}:
            by_name[name].append(place)
    missing = [image_id for image_id in sample.ids if image_id not in by_name]
    if missing:
        raise TrainerError(
            f"{len(missing)} of the {len(sample.ids)} ids of {sample.path} are of no image in {path}: {_some(missing)}",
            hint="predict the folder that holds the competition's test images: `python -m cloudrun.trainer predict`",
        )
    places = []
    id_at: dict[int, str] = {}
    for image_id in sample.ids:
        exact = [place for place in by_name[image_id] if predictions.images[place] == image_id]
        matches = exact or by_name[image_id]
        if len(matches) > 1:
            raise TrainerError(
                f"`{image_id}` of {sample.path} may be {_some([predictions.images[place] for place in matches])}",
                hint="predict only the folder of the competition's test images",
            )
        if matches[0] in id_at:
            raise TrainerError(
                f"`{id_at[matches[0]]}` and `{image_id}` of {sample.path} are both `{predictions.images[matches[0]]}`",
                hint="use the sample submission unchanged, and predict only the folder of its images",
            )
        id_at[matches[0]] = image_id
        places.append(matches[0])
    return places


def _order(sample: Sample, classes: Sequence[str]) -> list[int]:
    """Return for each of the sample's columns after the id the index of its class."""
    exact = {name: at for at, name in enumerate(classes)}
    loose: dict[str, list[int]] = defaultdict(list)
    for at, name in enumerate(classes):
        loose[_plain(name)].append(at)
    order: list[int | None] = []
    for column in sample.columns[1:]:
        near = loose.get(_plain(column), [])
        order.append(exact.get(column, near[0] if len(near) == 1 else None))
    unknown = [column for column, at in zip(sample.columns[1:], order, strict=True) if at is None]
    matched = [at for at in order if at is not None]
    unused = [name for at, name in enumerate(classes) if at not in matched]
    if unknown or unused or len(set(matched)) < len(matched):
        raise TrainerError(
            f"{sample.path}:1: the columns are not the model's classes: no class for {_some(unknown)}, "
            f"no column for {_some(unused)}",
            hint="name the class folders, or the labels' columns, as the competition names its classes",
        )
    return matched


def _plain(name: str) -> str:
    return "".join(letter for letter in name.casefold() if letter not in " -_")


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(f"`{name}`" for name in names[:_NAMED]) + more or "none"
