"""Names that data sets use for splits, containers and litter. One vocabulary for folders, label files and listings."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from functools import lru_cache

SPLITS = ("train", "val", "test")

_SPLIT_WORDS = {
    "train": "train",
    "training": "train",
    "trainset": "train",
    "trn": "train",
    "训练": "train",
    "训练集": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "dev": "val",
    "valset": "val",
    "vld": "val",
    "验证": "val",
    "验证集": "val",
    "test": "test",
    "testing": "test",
    "testset": "test",
    "tst": "test",
    "测试": "test",
    "测试集": "test",
}

# Words that name a place where images are kept, and never what is on them.
_CONTAINER_WORDS = frozenset(
    ["image", "images", "img", "imgs", "photo", "photos", "picture", "pictures", "pic", "pics", "jpg", "jpgs",
     "jpeg", "jpegs", "png", "pngs", "file", "files", "mask", "masks", "label", "labels", "annotation",
     "annotations", "bbox", "bboxes", "box", "boxes", "seg", "segment", "segments", "segmented", "segmentation",
     "part", "parts", "batch", "batches", "chunk", "chunks", "shard", "shards", "volume", "volumes", "color",
     "colour", "rgb", "gray", "grey", "grayscale", "greyscale", "raw", "original", "originals", "resized",
     "resize", "cropped", "crops", "augmented", "processed", "preprocessed", "data", "dataset", "datasets",
     "folder", "set", "sets", "split", "pred", "prediction", "predictions", "unlabeled", "unlabelled", "holdout",
     "sample", "samples", "thumbnail", "thumbnails", "thumbs", "hidden", "output", "outputs", "result", "results",
     "runs", "models", "checkpoints", "untitled"]
)  # fmt: skip

_SIDE_WORDS = frozenset(
    ["mask", "masks", "label", "labels", "annotation", "annotations", "bbox", "bboxes", "seg", "segment",
     "segments", "segmented", "segmentation", "resized", "resize", "augmented", "thumbnail", "thumbnails",
     "thumbs"]
)  # fmt: skip

# A number after one of these counts containers: `part_1`, `images_001`. After another word it may count classes.
_NUMBERED = re.compile(r"[\W_]*\d+$")

_LITTER_FOLDERS = frozenset(
    ("__macosx", "@eadir", "#recycle", "$recycle.bin", "@recycle", "@recently-snapshot", "__pycache__",
     "lost+found", "system volume information", "@tmp", "node_modules", "venv", "site-packages")
)  # fmt: skip
_LITTER_FILES = frozenset(("thumbs.db", "desktop.ini", "ehthumbs.db", "icon\r", "picasa.ini"))

_BASIC_SUFFIXES = ("jpg", "jpeg", "jpe", "jfif", "jfi", "png", "apng", "webp", "bmp", "dib", "gif", "tif", "tiff",
                   "ppm", "pgm", "pbm", "pnm", "avif", "jp2", "j2k", "jpf", "jpx", "j2c", "mpo", "tga")  # fmt: skip
IMAGE_SUFFIXES = frozenset(f".{name}" for name in _BASIC_SUFFIXES)
HEIC_SUFFIXES = frozenset((".heic", ".heif", ".hif"))

# Values of a cell that mean that nobody knows, as pandas, R, SQL and spreadsheets write it.
_MISSING = frozenset(
    ("", "nan", "-nan", "na", "n/a", "n.a.", "#n/a", "#na", "<na>", "none", "null", "nil", "?", "-", "--", "\\n")
)


# What file managers add to the name of a copy.
_COPY = re.compile(
    r"^copy of |(?: - copy| copy| - kopie| - copia|[ _-]*副本)(?: ?\(\d+\)| \d+)?$| ?\(\d+\)$", re.IGNORECASE
)
_NEW_FOLDER = re.compile(r"(?:new folder|untitled folder|新建文件夹|nouveau dossier)\b", re.IGNORECASE)

_FOLDER_NAMES = 10_000  # that are remembered: each of the images in a folder asks about it again


def split_of_word(text: str) -> str | None:
    """Return the split that `text` names by itself (`Validation`: val), else None."""
    return _SPLIT_WORDS.get(text.strip().lower())


@lru_cache(_FOLDER_NAMES)
def split_of_folder(name: str) -> str | None:
    """Return the split of a folder whose name is a split word and container words alone: `seg_train`, `test_images`."""
    exact = split_of_word(name)
    if exact is not None:
        return exact
    words = _words(name)
    named = [word for word in words if word in _SPLIT_WORDS]
    others = [word for word in words if word not in _SPLIT_WORDS]
    if len(named) != 1 or len(others) > 3 or not all(word in _CONTAINER_WORDS for word in others):
        return None
    # `train_masks` are not the images of train, and `train2` is not train.
    if any(word.startswith(("mask", "label", "annotation", "bbox", "box")) for word in others):
        return None
    return None if re.search(r"\d", name) else _SPLIT_WORDS[named[0]]


def names_split(name: str) -> bool:
    """Tell whether a word of a folder's name is that of a split: `1_train`, `pets_test`, `fold_0`."""
    words = _words(name)
    return any(word in _SPLIT_WORDS or word in ("fold", "eval", "evaluation") for word in words)


@lru_cache(_FOLDER_NAMES)
def is_container(name: str) -> bool:
    """Tell whether a folder's name says where images are kept (`images`, `part_1`, `masks`), not what is on them."""
    if _NEW_FOLDER.match(name):
        return True
    words = _words(name)
    if not words:
        return False
    if split_of_folder(name) is not None or all(word in _CONTAINER_WORDS or word in _SPLIT_WORDS for word in words):
        return True
    last = words[-1]
    if _NUMBERED.search(name):
        return last in ("part", "parts", "batch", "chunk", "shard", "volume", "images", "image", "set")
    return last in ("images", "imgs", "photos", "resized", "jpg", "jpeg", "png")


@lru_cache(_FOLDER_NAMES)
def is_side_folder(name: str) -> bool:
    """Tell whether a folder holds masks, annotations or smaller copies of the images that lie elsewhere."""
    if split_of_word(name) is not None or split_of_folder(name) is not None:
        return False
    return bool(_SIDE_WORDS & set(_words(name))) and is_container(name)


def is_litter_folder(name: str) -> bool:
    """Tell whether a folder belongs to a system or a program: hidden, thumbnails, trash, checkpoints of notebooks."""
    return name.startswith((".", "__")) or name.lower() in _LITTER_FOLDERS


def is_litter_file(name: str) -> bool:
    """Tell whether a file belongs to a system or a program: hidden, `._x.jpg` of macOS, `Thumbs.db`, `x.jpg~`."""
    return name.startswith((".", "~$")) or name.endswith("~") or name.lower() in _LITTER_FILES


def suffix_of(name: str) -> str:
    """Return the suffix in lower case, with what some downloads append to it removed: `.jpg_large` is `.jpg`."""
    stem, dot, rest = name.rpartition(".")
    if not dot or not stem:
        return ""
    suffix = f".{rest.lower()}"
    plain = re.match(r"\.[a-z0-9]+(?=[_!:~?-])", suffix)
    return plain[0] if plain is not None and plain[0] in IMAGE_SUFFIXES else suffix


def is_missing(cell: str) -> bool:
    """Tell whether a cell means that there is no value: empty, nan, N/A, None, null, ?, -."""
    return cell.strip().lower() in _MISSING


def normal(text: str) -> str:
    """Return `text` in the one form in which names are compared: macOS writes `é` as two characters."""
    return text if text.isascii() else unicodedata.normalize("NFC", text)


def plain(text: str) -> str:
    """Return what is left of a class's name without case, spaces, hyphens, underscores and invisible characters."""
    bare = re.sub(r"[\s_\-]+", "", normal(text).casefold())
    return bare if bare.isascii() else "".join(one for one in bare if unicodedata.category(one) != "Cf")


def copies(names: Iterable[str]) -> list[tuple[str, str]]:
    """Return the names that a file manager gives to a copy of another name, each with the other: `rust (1)`, rust."""
    known = {plain(name): name for name in sorted(names, reverse=True)}
    found = []
    for name in sorted(known.values()):
        other = known.get(plain(_COPY.sub("", name)))
        if other is not None and other != name:
            found.append((name, other))
    return found


def alike(names: Iterable[str]) -> list[list[str]]:
    """Return the groups of different names that only case, spaces, hyphens or underscores tell apart."""
    groups: dict[str, set[str]] = {}
    for name in names:
        groups.setdefault(plain(name), set()).add(name)
    return [sorted(group) for _, group in sorted(groups.items()) if len(group) > 1]


def _words(name: str) -> list[str]:
    return re.findall(r"[a-z]+", re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name).lower())
