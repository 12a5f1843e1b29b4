"""Names of images -> splits, classes, and what is not used. Pure: for folders here, and for listings from elsewhere."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from cloudrun.imagedata.unused import NO_SPLIT, OUTSIDE, Tally, left_out_text
from cloudrun.imagedata.vocabulary import (
    SPLITS,
    alike,
    copies,
    is_container,
    names_split,
    normal,
    plain,
    split_of_folder,
    split_of_word,
)
from cloudrun.imagedata.walk import FolderProblem, Parts

UNLABELLED = -1

ClassFolders = Literal["auto", "top", "deepest"]
"""Which folders are the classes: those at the top, or those that hold the images. auto: ask where both could be."""


@dataclass(frozen=True, slots=True)
class Layout:
    """`splits`: for each image of a split its place in the list that was read, and the index of its class."""

    classes: tuple[str, ...]
    splits: dict[str, list[tuple[int, int]]]
    warnings: tuple[str, ...]


class _Image(NamedTuple):  # made in half the time of a dataclass, for each image more than once
    number: int
    path: Parts  # from the data folder
    rest: Parts  # from the split's folder, or the folder that holds the class folders

    @property
    def name(self) -> str:
        return "/".join(self.path)


@dataclass(frozen=True, slots=True)
class _Place:
    """Where messages say that something lies."""

    shown: str
    told: ClassFolders

    def of(self, *parts: str) -> str:
        return "/".join((self.shown.rstrip("/"), *parts))


def lay_out(
    images: Sequence[Parts],
    *,
    shown: str,
    tally: Tally,
    empty: Iterable[Parts] = (),
    classes: ClassFolders = "auto",
) -> Layout:
    """Find splits and classes in the paths of `images`. `empty`: folders without an image. `shown`: the data's address.

    Adds what is not used to `tally`. Raises FolderProblem where this is no layout that can be trained on, or where
    the folders look like anything but classes.
    """
    place = _Place(shown, classes)
    warnings: list[str] = []
    base = _base_of(images)
    if base:
        warnings.append(f"all images lie in {place.of(*base)}: it is read as the data folder")
    place = _Place(place.of(*base) if base else shown, classes)
    inside = [_Image(index, path, path[len(base) :]) for index, path in enumerate(images)]
    below = [parts[len(base) :] for parts in empty if parts[: len(base)] == base and len(parts) > len(base)]
    inside = _classes_first(inside)
    folders = _split_folders(inside, place)
    splits: dict[str, list[tuple[int, int]]] = {}
    if not folders:
        names, of_class = _train_classes(inside, below, place, tally, warnings)
        splits["train"] = of_class
        return Layout(names, splits, (*warnings, *_alike_warnings(names)))
    outside = [one for one in inside if len(one.rest) == 1 or one.rest[0] not in folders.values()]
    tally.add(OUTSIDE, [one.name for one in outside if len(one.rest) == 1])
    tally.add(NO_SPLIT, [one.name for one in outside if len(one.rest) > 1])
    warnings += [
        f"the folder `{name}` is read as {split}" for split, name in folders.items() if split_of_word(name) is None
    ]
    of_train = _of_split(inside, folders["train"])
    under = [parts[1:] for parts in below if parts[0] == folders["train"] and len(parts) > 1]
    names, splits["train"] = _train_classes(
        of_train, under, _Place(place.of(folders["train"]), classes), tally, warnings
    )
    for split in SPLITS[1:]:
        if split in folders:
            files = _other_split(inside, split, folders[split], names, place, tally, warnings)
            splits[split] = files
        elif any(split_of_word(parts[0]) == split for parts in below):
            name = next(parts[0] for parts in below if split_of_word(parts[0]) == split)
            raise FolderProblem(
                f"{place.of(name)} has no images{left_out_text(tally)}", hint="add images, or remove the folder"
            )
    return Layout(names, splits, (*warnings, *_alike_warnings(names)))


def _base_of(images: Sequence[Parts]) -> Parts:
    """The folders that hold everything and say nothing: one in the other, until there is a choice or a split."""
    base: Parts = ()
    while images:
        depth = len(base)
        if any(len(path) < depth + 2 for path in images):
            break
        tops = {path[depth] for path in images}
        if len(tops) != 1 or split_of_word(next(iter(tops))) is not None:
            break
        loose = any(len(path) == depth + 2 for path in images)
        inner = {path[depth + 1] for path in images if len(path) > depth + 2}
        if not inner or (loose and len(inner) < 2):
            break
        base = (*base, next(iter(tops)))
    return base


def _classes_first(images: list[_Image]) -> list[_Image]:
    """Turn `rust/train/1.jpg` into `train/rust/1.jpg`, where all class folders hold splits."""
    swapped = []
    for one in images:
        if len(one.rest) < 3 or split_of_word(one.rest[1]) is None or split_of_folder(one.rest[0]) is not None:
            return images
        swapped.append(_Image(one.number, one.path, (one.rest[1], one.rest[0], *one.rest[2:])))
    return swapped if any(split_of_word(one.rest[0]) == "train" for one in swapped) else images


def _split_folders(images: Sequence[_Image], place: _Place) -> dict[str, str]:
    """The folder of each split; none where the folders are classes. Raises FolderProblem where they are neither."""
    tops = list(dict.fromkeys(one.rest[0] for one in images if len(one.rest) > 1))
    holds_folders = {one.rest[0] for one in images if len(one.rest) > 2}
    exact = {split: [name for name in tops if split_of_word(name) == split] for split in SPLITS}
    loose = {split: [name for name in tops if split_of_folder(name) == split] for split in SPLITS}
    # `train` is train, whatever `train_resized` beside it is. Without one, `test_images` may be anything.
    chosen = {split: exact[split] or loose[split] for split in SPLITS} if exact["train"] or loose["train"] else exact
    named = {split: names for split, names in chosen.items() if names}
    if not named or (place.told == "top" and not (set(named.get("train", ())) & holds_folders)):
        return {}
    others = [name for name in tops if not any(name in names for names in named.values())]
    if "train" not in named:
        _refuse_without_train(named, others, place)
    for split, names in named.items():
        if len(names) > 1:
            raise FolderProblem(
                f"{place.shown} has several folders for {split}: {', '.join(f'`{name}`' for name in names)}",
                hint="keep one of them, or put their images into one folder",
            )
    train = named["train"][0]
    if train not in holds_folders:
        _refuse_flat_train(train, others, named, place)
    return {split: named[split][0] for split in SPLITS if split in named}


def _refuse_without_train(named: Mapping[str, list[str]], others: Sequence[str], place: _Place) -> None:
    found = [name for names in named.values() for name in names]
    beside = f" beside {', '.join(f'`{name}`' for name in others[:4])}" if others else ""
    raise FolderProblem(
        f"{place.shown} has {' and '.join(f'`{name}`' for name in found)}{beside}, and no `train` folder:"
        " these names are reserved for splits",
        hint="call the folder of the training images `train`; where it is a class, rename it or say `classes: top`",
    )


def _refuse_flat_train(train: str, others: Sequence[str], named: Mapping[str, list[str]], place: _Place) -> None:
    if others and set(named) == {"train"} and split_of_word(train) is not None:
        raise FolderProblem(
            f"{place.of(train)} has 0 class folders, and lies beside {', '.join(f'`{name}`' for name in others[:4])}:"
            f" `{train}` is a reserved name, that of the training images",
            hint=f"if `{train}` is a class, rename the folder or say `classes: top`; labels may also be in a CSV file",
        )
    raise FolderProblem(
        f"{place.of(train)} has 0 class folder(s); at least 2 are needed",
        hint="put its images into one sub-folder a class; or name a CSV file with their labels: `labels: FILE`",
    )


def _of_split(images: Sequence[_Image], folder: str, classes: Sequence[str] = ()) -> list[_Image]:
    """Images of a split's folder, by their path in it; `train/train/...` and `train/images/...` are entered."""
    inside = [
        _Image(one.number, one.path, one.rest[1:]) for one in images if len(one.rest) > 1 and one.rest[0] == folder
    ]
    while inside and all(len(one.rest) > 2 for one in inside):
        tops = {one.rest[0] for one in inside}
        if len(tops) > 1 or tops & set(classes) or not all(is_container(name) or name == folder for name in tops):
            break
        inside = [_Image(one.number, one.path, one.rest[1:]) for one in inside]
    return inside


def _train_classes(
    images: Sequence[_Image], empty: Sequence[Parts], place: _Place, tally: Tally, warnings: list[str]
) -> tuple[tuple[str, ...], list[tuple[int, int]]]:
    """Class folders and their images. Raises FolderProblem where these are no classes."""
    tally.add(OUTSIDE, [one.name for one in images if len(one.rest) == 1])
    inside = [one for one in images if len(one.rest) > 1]
    if place.told != "deepest":
        if place.told == "auto":
            _refuse_no_classes(inside, place)
        _tell_sub_folders(inside, place, warnings)
        for parts in empty:
            if len(parts) == 1 and not any(one.rest[0] == parts[0] for one in inside):
                raise FolderProblem(
                    f"the class folder {place.of(parts[0])} has no images{left_out_text(tally)}",
                    hint="add images to it, or remove the folder",
                )
    by_name: dict[str, list[int]] = {}
    for one in inside:
        name = one.rest[-2] if place.told == "deepest" else one.rest[0]
        by_name.setdefault(name, []).append(one.number)
    if len(by_name) < 2:
        loose = len(images) - len(inside)
        beside = f", and {loose} image(s) beside them" if loose else ""
        raise FolderProblem(
            f"{place.shown} has {len(by_name)} class folder(s){beside}; at least 2 are needed",
            hint="put the images into one sub-folder a class, or into train/<class>, val/<class>, test/<class>;"
            " or name a CSV file with their labels: `labels: FILE`",
        )
    names = tuple(sorted(by_name))
    return names, [(index, label) for label, name in enumerate(names) for index in by_name[name]]


def _refuse_no_classes(images: Sequence[_Image], place: _Place) -> None:
    """Folders that are containers, copies of one another, or hold further classes."""
    tops = sorted({one.rest[0] for one in images})
    if len(tops) < 2:
        return
    below: dict[str, set[str]] = {name: set() for name in tops}
    direct: set[str] = set()
    for one in images:
        if len(one.rest) > 2:
            below[one.rest[0]].add(one.rest[1])
        else:
            direct.add(one.rest[0])
    way_out = "if they are the classes all the same, say `classes: top`"
    if any(map(names_split, tops)):
        way_out = f"if they are splits, call them `train`, `val` and `test`; {way_out}"
    if all(map(is_container, tops)):
        deeper = [name for name in tops if len(below[name]) > 1]
        hint = f"name the folder whose sub-folders are the classes, as {place.of(deeper[0])}; " if deeper else ""
        raise FolderProblem(
            f"the folders of {place.shown} are named like places for images, not like classes: {_some(tops)}",
            hint=f"{hint}name a CSV file with the labels: `labels: FILE`; {way_out}",
        )
    for name in tops:
        if len(below[name] & set(tops) - {name}) > 1 or (len(tops) == 2 and below[name] & set(tops) - {name}):
            raise FolderProblem(
                f"{place.of(name)} holds folders that also lie beside it ({_some(sorted(below[name] & set(tops)))}):"
                " it looks like a copy of the whole data set",
                hint=f"remove {place.of(name)}, or name it alone as the data folder; {way_out}",
            )
    with_folders = [name for name in tops if len(below[name]) > 1 and name not in direct]
    for name in with_folders:
        for other in with_folders:
            if name < other and below[name] == below[other] and not all(map(_is_number, below[name])):
                raise FolderProblem(
                    f"`{name}` and `{other}` in {place.shown} have the same sub-folders"
                    f" ({_some(sorted(below[name]))}): these look like the classes",
                    hint=f"name one of the two, as {place.of(name)}; or say `classes: deepest` to take both; {way_out}",
                )
    if with_folders:
        name = with_folders[0]
        raise FolderProblem(
            f"{len(with_folders)} of the {len(tops)} class folders of {place.shown} hold no image but further folders:"
            f" {name}/{sorted(below[name])[0]}, {name}/{sorted(below[name])[1]}, ...",
            hint="say which are the classes: `classes: top` (the outer folders) or `classes: deepest` (those that hold"
            " the images); or name one of the folders as the data folder",
        )


def _tell_sub_folders(images: Sequence[_Image], place: _Place, warnings: list[str]) -> None:
    deep = [one for one in images if len(one.rest) > 2]
    if deep and place.told == "auto":
        folders = sorted({"/".join(one.rest[:2]) for one in deep})
        warnings.append(
            f"{len(deep)} image(s) lie in sub-folders of class folders and count for the class: {_some(folders)}"
        )
    odd = sorted(filter(is_container, {one.rest[0] for one in images}))
    if odd and place.told == "auto":
        warnings.append(f"class folder(s) named like a place for images: {_some(odd)}; are these classes?")


def _other_split(  # noqa: PLR0913 - all that tells one split from another
    images: Sequence[_Image],
    split: str,
    folder: str,
    classes: tuple[str, ...],
    place: _Place,
    tally: Tally,
    warnings: list[str],
) -> list[tuple[int, int]]:
    inside = _of_split(images, folder, classes)
    where = place.of(folder)
    deep = [one for one in inside if len(one.rest) > 1]
    known = _known_names(classes)
    named = {_class_folder(one, place.told) for one in deep}
    strange = sorted(name for name in named if _match(name, known) is None)
    if split == "test" and not (named - set(strange)) and len(named) < 2:
        if named:
            warnings.append(f"the images in {place.of(folder, *named)} are read as test images without labels")
        return [(one.number, UNLABELLED) for one in inside]
    if strange:
        hint = "class folders have the same names in every split"
        if all(map(is_container, strange)):
            hint = f"sort its images into class folders as in {place.of('train')}, or name a file with their labels"
        if split == "test":
            hint += f"; test images without labels belong directly into {where}"
        raise FolderProblem(
            f"{where} has the class `{strange[0]}`, which train does not have (train: {_some(classes, 12)})", hint=hint
        )
    if not deep:
        raise FolderProblem(
            f"{where} has no images in class folders",
            hint="put them into class folders as in train, or remove the folder; or name a CSV file: `labels: FILE`",
        )
    tally.add(OUTSIDE, [one.name for one in inside if len(one.rest) == 1])
    otherwise = sorted(name for name in named if name not in classes and normal(name) not in map(normal, classes))
    if otherwise:
        warnings.append(f"class folder(s) of {where} are spelled otherwise than in train: {_some(otherwise)}")
    reached = {_match(name, known) for name in named}
    missing = [name for label, name in enumerate(classes) if label not in reached]
    if missing:
        warnings.append(f"{where} has no image of {len(missing)} class(es): {_some(missing)}")
    files = []
    for one in deep:
        label = _match(_class_folder(one, place.told), known)
        assert label is not None
        files.append((one.number, label))
    return sorted(files, key=lambda file: (file[1], file[0]))


def _class_folder(image: _Image, told: ClassFolders) -> str:
    return image.rest[-2] if told == "deepest" else image.rest[0]


def _known_names(classes: Sequence[str]) -> tuple[dict[str, int], dict[str, int]]:
    exact = {normal(name): label for label, name in enumerate(classes)}
    loose: dict[str, int] = {}
    twice: set[str] = set()
    for label, name in enumerate(classes):
        if loose.setdefault(plain(name), label) != label:
            twice.add(plain(name))
    return exact, {key: label for key, label in loose.items() if key not in twice}


def _match(name: str, known: tuple[dict[str, int], dict[str, int]]) -> int | None:
    """The class of that name: the same in any normal form, else the one that case and spaces alone tell from it."""
    exact, loose = known
    return exact.get(normal(name), loose.get(plain(name)))


def _alike_warnings(classes: Sequence[str]) -> list[str]:
    said = [f"classes that only case, spaces or hyphens tell apart: {', '.join(group)}" for group in alike(classes)]
    twins = [f"`{name}` of `{other}`" for name, other in copies(classes)]
    if twins:
        said.append(f"class folder(s) named like a copy of another: {_some(twins)}; are these classes?")
    return said


def _is_number(name: str) -> bool:
    return name.isdigit()


def _some(names: Sequence[str], most: int = 5) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
