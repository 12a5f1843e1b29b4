"""Folders and files under every kind of name, on this disk and as a zip's list says them."""

from __future__ import annotations

import functools
import io
import os
import stat
import zipfile
from collections import Counter
from pathlib import Path
from random import Random

import yaml
from PIL import Image

from benchmarks.mutate_data.damage import damaged
from benchmarks.mutate_data.readers import compare_readers, shown
from benchmarks.mutate_data.verdicts import Disagreement, Outcome
from cloudrun.dataset.job_template import yaml_text
from cloudrun.errors import CloudrunError
from cloudrun.imagedata.dataset import Reading, read_dataset
from cloudrun.imagedata.folders import Dataset
from cloudrun.imagedata.layout import ClassFolders
from cloudrun.sources.archive import DAMAGED, list_zip, root_of, unpack
from cloudrun.sources.layout import Layout, layout_of
from cloudrun.text.names import name_from

_FOLDERS = (
    "train", "Train", "training", "val", "valid", "validation", "dev", "test", "testing", "TEST",
    "train_images", "test_images", "seg_train", "images", "masks", "part_1", "part_2", "color", "grayscale",
    "data", "dataset", "raw", "a", "b", "c", "rust", "Rust", "ok", "0", "1", "10", "2", "class 1",
    "early blight", "early_blight", "叶", "锈病", "Ängste", "A\u0308ngste", "é", "e\u0301", "x" * 60,
    ".hidden", ".ipynb_checkpoints", "__MACOSX", "@eaDir", "#recycle", "$RECYCLE.BIN", " lead", "trail ",
    "tab\there", "new\nline", "quote\"s", "it's", "per%20cent", "a,b", "a|b", "a;b", "-", "nan", "None", "~",
    "con", "…", "🌿", "on", "null", "data #2", "a: b", "[x]", "{y}", "*", "&z", "!t", "?",
)  # fmt: skip
_FILES = (
    "1.jpg", "2.jpg", "a.png", "b.JPG", "c.jpeg", "d.webp", "e.gif", "f.tif", "g", "1", "h.jpg_large",
    "i.jpg.crdownload", "._1.jpg", ".hidden.jpg", "Thumbs.db", ".DS_Store", "readme.txt", "labels.csv",
    "x.heic", "叶.jpg", "e\u0301.jpg", "sp ace.jpg", "new\nline.jpg", "y" * 200 + ".jpg", "no_suffix.", ".jpg",
    "z.jfif", "z.avif", "z.jp2", "mask.png",
)  # fmt: skip


@functools.cache
def small_image(suffix: str) -> bytes:
    """Return the smallest image of a format; a JPEG for suffixes of no format."""
    Image.init()
    kind = Image.registered_extensions().get(suffix.lower(), "JPEG")
    file = io.BytesIO()
    Image.new("RGB", (4, 3), (90, 120, 30)).save(file, kind)
    return file.getvalue()


def try_tree(dice: Random, folder: Path) -> Outcome:
    """Lay images out at random, and read the folder twice; a list of the same names must say the same."""
    data = folder / dice.choice(("data", *_FOLDERS))
    data.mkdir()
    for name in _names(dice):
        _write(data / name, name, dice)
    if dice.random() < 0.1:
        _link(data, dice)
    classes: ClassFolders = dice.choice(("auto", "auto", "top", "deepest"))
    if yaml.safe_load(f"[{yaml_text(str(data))}]") != [str(data)] or not name_from(data):
        raise Disagreement(f"the job file would not name {data}")
    return compare_readers(data, Reading(classes=classes), dice)


def try_zip(dice: Random, folder: Path) -> Outcome:
    """Pack a tree, perhaps damage the zip, and compare its list with what lies there once it is unpacked."""
    archive = folder / "data.zip"
    content = _packed(_names(dice), dice)
    is_whole = dice.random() < 0.5
    archive.write_bytes(content if is_whole else damaged(content, dice))
    classes: ClassFolders = dice.choice(("auto", "auto", "top", "deepest"))
    listed, why_not = _listed(archive, classes)
    target = folder / "unpacked"
    target.mkdir()
    try:
        unpack(archive, target, shown="data.zip")
        found = read_dataset(root_of(target), Reading(classes=classes))
    except CloudrunError as err:
        if listed is None:
            return Outcome.REFUSED
        if is_whole and not _only_seen_in_files(err.message):
            raise Disagreement(f"the list is taken, the files are not: {err.message}: {shown(target)}") from None
        return Outcome.SEEN_LATER
    if listed is None:
        raise Disagreement(f"the files are taken, the list is not: {why_not}: {shown(target)}")
    if is_whole and _counts(found) != (listed.counts, listed.unlabelled_test):
        raise Disagreement(f"the list counts {listed.counts}, the files {_counts(found)}: {shown(target)}")
    return Outcome.READ


def _only_seen_in_files(message: str) -> bool:
    """A list shows neither links nor what files without suffix hold."""
    return "leads out" in message or "exclude one another" in message


def _listed(archive: Path, classes: ClassFolders) -> tuple[Layout | None, str]:
    try:
        with zipfile.ZipFile(archive) as opened:
            files = list_zip(opened, "data.zip")
        return layout_of(files, "data.zip", classes=classes), ""
    except DAMAGED as err:
        return None, str(err)
    except CloudrunError as err:
        return None, err.message


def _counts(dataset: Dataset) -> tuple[dict[str, dict[str, int]], int]:
    counts: dict[str, dict[str, int]] = {}
    unlabelled = 0
    for split, files in dataset.splits.items():
        if any(label < 0 for _, label in files):
            unlabelled += len(files)
            continue
        counts[split] = dict(Counter(dataset.classes[label] for _, label in files))
    return counts, unlabelled


def _names(dice: Random) -> list[str]:
    """Return paths of one to three folders each, alike enough that some are data sets."""
    tops = dice.sample(_FOLDERS, dice.choice((1, 2, 2, 3, 4)))
    if dice.random() < 0.3:
        tops = ["train", dice.choice(("val", "valid", "Validation", "test", "test_images")), *tops[:1]]
    inner = dice.sample(_FOLDERS, dice.choice((0, 2, 2, 3)))
    names = set()
    for top in tops:
        for below in inner or [""]:
            for deepest in dice.choice(([""], [""], [""], dice.sample(_FOLDERS, 2))):
                for file in dice.sample(_FILES, 3) + ["p.jpg", "q.jpg"][: dice.randrange(3)]:
                    names.add("/".join(part for part in (top, below, deepest, file) if part))
    return sorted(names)


def _write(path: Path, name: str, dice: Random) -> None:
    if dice.random() < 0.01:
        path = Path(os.fsdecode(os.fsencode(path.parent) + "/锈.jpg".encode("gbk")))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(
        small_image(Path(name).suffix) if dice.random() < 0.98 else dice.choice((b"", b"x", dice.randbytes(40)))
    )


def _link(data: Path, dice: Random) -> None:
    """Add a link: to a folder above, to one beside, or to nothing."""
    folders = sorted(path for path in data.rglob("*") if path.is_dir())
    place = dice.choice([data, *folders]) / "again"
    place.symlink_to(dice.choice([data, data.parent, *folders, Path("/nowhere"), place]))


class _Member(zipfile.ZipInfo):
    """A member whose name is written as given bytes, without the flag of UTF-8, as old programs do."""

    raw: bytes

    def _encodeFilenameFlags(self) -> tuple[bytes, int]:  # noqa: N802  zipfile's own hook
        return self.raw, self.flag_bits & ~0x800


def _packed(names: list[str], dice: Random) -> bytes:
    """Return a zip as many programs write them: without the flag of UTF-8, with backslashes, links, folders."""
    file = io.BytesIO()
    code_page = dice.choice((None, None, "gbk", "shift_jis", "utf-8"))
    with zipfile.ZipFile(file, "w", dice.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))) as packed:
        for name in names:
            stored = name.replace("/", "\\") if dice.random() < 0.02 else name
            if dice.random() < 0.005:
                stored = dice.choice(("../", "/", "C:/", "a/../")) + stored
            member = _member(stored, code_page, dice)
            packed.writestr(
                member, b"p.jpg" if stat.S_ISLNK(member.external_attr >> 16) else small_image(Path(name).suffix)
            )
            if dice.random() < 0.02:
                packed.writestr(zipfile.ZipInfo(f"{name.rpartition('/')[0]}/"), b"")
    return file.getvalue()


def _member(name: str, code_page: str | None, dice: Random) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)
    if code_page is not None:
        info = _Member(name)
        info.raw = name.encode(code_page, "replace")
    if dice.random() < 0.005:
        info.external_attr = (stat.S_IFLNK | 0o777) << 16
    return info
