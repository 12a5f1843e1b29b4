"""Predictions in the format of a competition's sample submission, and checked against it."""

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
from trainer.outputs.predictions import Predictions, read_predictions

_NAMED = 5
_SEPARATORS = (" ", "|", ";", ",")


@dataclass(frozen=True)
class Sample:
    """A sample submission: its columns, the ids in order, and what stands beside them."""

    path: Path
    columns: tuple[str, ...]
    ids: tuple[str, ...]
    labels: frozenset[str]


def write_submission(
    predictions_path: Path, *, sample_path: Path, out: Path, separator: str | None = None, say: Callable[[str], None]
) -> None:
    """Write `out`: the sample's columns and ids, in its order, filled from a predictions.csv.

    One column beside the id takes the label; several take probabilities, one for each class. Columns may spell a
    class with other case, blanks, hyphens or underscores; ids are images' paths, file names or names without
    ending. `separator`: between several classes of an image; None: as the sample has it. Raises TrainerError where an
    id has no image or several, columns and classes do not match, or nothing says how classes are separated.
    """
    sample, predictions = read_sample(sample_path), read_predictions(predictions_path)
    place_of = _places(sample, predictions, predictions_path)
    if len(sample.columns) == 2:
        labels = _labels(predictions_path)
        _check_labels(sample, predictions.classes)
        between = _separator(sample, predictions.classes, labels, separator)
        cells = [[labels[place].replace(SEPARATOR, between)] for place in place_of]
    else:
        order = _order(sample, predictions.classes)
        table = predictions.probabilities.tolist()
        cells = [[f"{table[place][at]:.6f}" for at in order] for place in place_of]
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
    """Raises TrainerError naming the line that is wrong."""
    try:
        lines = list(csv.reader(io.StringIO(path.read_text(encoding="utf-8-sig"), newline="")))
    except (OSError, UnicodeDecodeError, csv.Error) as err:
        raise TrainerError(
            f"{path} cannot be read: {err}", hint="`--sample` takes the competition's sample file"
        ) from None
    if not lines or len(lines[0]) < 2:
        raise TrainerError(
            f"{path}:1: there are not two columns", hint="an id, then a label or a column for each class"
        )
    ids = []
    seen: set[str] = set()
    for number, cells in enumerate(lines[1:], start=2):
        if not cells:
            continue
        if len(cells) != len(lines[0]) or not cells[0]:
            raise TrainerError(
                f"{path}:{number}: the row has not the {len(lines[0])} cells of the header", hint="mend it"
            )
        if cells[0] in seen:
            raise TrainerError(
                f"{path}:{number}: `{cells[0]}` stands there twice", hint="take the file as it was given"
            )
        seen.add(cells[0])
        ids.append(cells[0])
    if not ids:
        raise TrainerError(f"{path} has no row below its header", hint="it has to name the images that are judged")
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
                hint="name the class folders, or the labels, as the competition does; or mend predictions.csv",
            )


def _separator(sample: Sample, classes: Sequence[str], labels: Sequence[str], asked: str | None) -> str:
    """What stands between several classes of an image. Raises TrainerError where nothing says it."""
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
        hint="say it: `--separator ' '`, as in Plant Pathology 2021; the competition's page on evaluation has it",
    )


def _is_number(label: str) -> bool:
    try:
        float(label)
    except ValueError:
        return False
    return True


def _places(sample: Sample, predictions: Predictions, path: Path) -> list[int]:
    """For each id of the sample, which row of the predictions it is; a whole path wins over a shorter name."""
    by_name: dict[str, list[int]] = defaultdict(list)
    for place, image in enumerate(predictions.images):
        whole = PurePosixPath(image)
        for name in {image, whole.name, whole.stem}:
            by_name[name].append(place)
    missing = [one for one in sample.ids if one not in by_name]
    if missing:
        raise TrainerError(
            f"{len(missing)} of the {len(sample.ids)} ids of {sample.path} are of no image in {path}: {_some(missing)}",
            hint="predict the folder that holds the competition's test images: `python -m cloudrun.trainer predict`",
        )
    places = []
    id_at: dict[int, str] = {}
    for one in sample.ids:
        exact = [place for place in by_name[one] if predictions.images[place] == one]
        found = exact or by_name[one]
        if len(found) > 1:
            raise TrainerError(
                f"`{one}` of {sample.path} may be {_some([predictions.images[place] for place in found])}",
                hint="predict only the folder of the competition's test images",
            )
        if found[0] in id_at:
            raise TrainerError(
                f"`{id_at[found[0]]}` and `{one}` of {sample.path} are both `{predictions.images[found[0]]}`",
                hint="take the file as it was given, and predict only the folder of its images",
            )
        id_at[found[0]] = one
        places.append(found[0])
    return places


def _order(sample: Sample, classes: Sequence[str]) -> list[int]:
    """For each of the sample's columns after the id, which class it is."""
    exact = {name: at for at, name in enumerate(classes)}
    loose: dict[str, list[int]] = defaultdict(list)
    for at, name in enumerate(classes):
        loose[_plain(name)].append(at)
    order: list[int | None] = []
    for column in sample.columns[1:]:
        near = loose.get(_plain(column), [])
        order.append(exact.get(column, near[0] if len(near) == 1 else None))
    unknown = [column for column, at in zip(sample.columns[1:], order, strict=True) if at is None]
    known = [at for at in order if at is not None]
    unused = [name for at, name in enumerate(classes) if at not in known]
    if unknown or unused or len(set(known)) < len(known):
        raise TrainerError(
            f"{sample.path}:1: the columns are not the model's classes: no class for {_some(unknown)}, "
            f"no column for {_some(unused)}",
            hint="name the class folders, or the labels' columns, as the competition names its classes",
        )
    return known


def _labels(path: Path) -> list[str]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        return [row["label"] for row in csv.DictReader(file)]


def _plain(name: str) -> str:
    return "".join(letter for letter in name.casefold() if letter not in " -_")


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(f"`{name}`" for name in names[:_NAMED]) + more or "none"
