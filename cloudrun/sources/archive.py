"""Unpack an archive from somebody else. Nothing in it is trusted: no path, no link, no size."""

from __future__ import annotations

import errno
import lzma
import os
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO

from cloudrun.imagedata.text_encoding import code_page_of_names
from cloudrun.imagedata.unused import printable
from cloudrun.imagedata.vocabulary import is_litter_folder, split_of_word
from cloudrun.sources import SourceProblem
from cloudrun.text.names import shortened
from cloudrun.text.units import size

_ZIP = (b"PK\x03\x04", b"PK\x05\x06")
_PACKED_TAR = (b"\x1f\x8b", b"BZh", b"\xfd7zXZ\x00")
# What a damaged archive raises. ValueError: a name is in no known encoding.
DAMAGED = (zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError, EOFError, NotImplementedError, ValueError)
_DEEPEST = 100
_LONGEST = 255  # bytes of a name, of any usual file system
# Kept free of the disk, as a part of it: what trains needs some, too.
_KEPT_FREE = 0.02
# Files and folders that some systems put into every archive.
_LITTER = ("__MACOSX", ".DS_Store", "Thumbs.db", "desktop.ini")


@dataclass(frozen=True, slots=True)
class _Member:
    name: str
    is_folder: bool
    size_bytes: int
    link: str | None  # where a symbolic link leads
    twin: str | None  # the earlier member that a hard link is another name of
    open: Callable[[], IO[bytes]]


def kind_of(start: bytes) -> str | None:
    """Return `zip` or `tar`, from the first 512 bytes of a file; None where it is neither."""
    if start.startswith(_ZIP):
        return "zip"
    if start.startswith(_PACKED_TAR) or start[257:262] == b"ustar":
        return "tar"
    return None


def unpack(archive: Path, folder: Path, *, shown: str) -> int:
    """Write the archive's files below `folder`, which must be empty; return how many. `shown` is its name in errors.

    Raises SourceProblem, which names the member, for a path or a link that leads out, a member that is neither file,
    folder nor link, more bytes than the disk has, a password, or damage.
    """
    links: list[tuple[Path, str, str]] = []
    count = 0
    try:
        with _members(archive, shown) as members:
            for member in members:
                target = inside(folder, member.name, shown)
                if target == folder or target.name in _LITTER:
                    continue
                if member.is_folder:
                    target.mkdir(parents=True, exist_ok=True)
                    continue
                target.parent.mkdir(parents=True, exist_ok=True)
                if member.link is not None:
                    links.append((target, member.link, member.name))
                elif member.twin is not None:
                    _twin(target, inside(folder, member.twin, shown), member, shown)
                else:
                    _write(member, target, shown)
                count += 1
            # Links are made last, so that nothing is ever written through a link.
            _link(folder, links, shown)
    except DAMAGED as err:
        raise _damaged(shown, err) from err
    except RuntimeError as err:  # links in a circle
        raise _damaged(shown, err) from err
    except (FileExistsError, NotADirectoryError, IsADirectoryError, FileNotFoundError) as err:
        raise SourceProblem(f"{shown} has names that exclude one another: {err.filename}", hint="pack it anew") from err
    except OSError as err:
        if err.errno in (errno.ENAMETOOLONG, errno.ELOOP):
            raise SourceProblem(
                f"{shown} has a name or a link that no disk can hold: {shortened(str(err.filename))}: {err.strerror}",
                hint="pack it anew, with shorter names",
            ) from err
        if err.errno not in (None, errno.EINVAL):
            raise
        raise _damaged(shown, err) from err  # gzip and bzip2 raise it, and a seek to before the first byte
    return count


def _damaged(shown: str, err: Exception) -> SourceProblem:
    return SourceProblem(f"{shown} is damaged: {err}", hint="is it whole where it comes from?")


def list_zip(opened: zipfile.ZipFile, shown: str) -> list[tuple[str, int]]:
    """Return name and bytes of all members; the name of a folder ends with a slash.

    Raises SourceProblem where `unpack` would, as far as the list shows it: a path that leads out, a password.
    """
    listed = []
    codec, _ = codec_of(opened)
    for info in opened.infolist():
        name = name_of(info, codec)
        inside(Path(), name, shown)
        _refuse_password(info, shown)
        listed.append((f"{name.rstrip('/')}/" if info.is_dir() else name, info.file_size))
    return listed


def root_of(folder: Path) -> Path:
    """Return `folder`, or the folder below it that holds everything and is neither a split nor a system's."""
    while True:
        items = [path for path in folder.iterdir() if path.name not in _LITTER]
        if len(items) != 1 or not items[0].is_dir() or items[0].is_symlink():
            return folder
        if split_of_word(items[0].name) is not None or is_litter_folder(items[0].name):
            return folder
        folder = items[0]


def codec_of(opened: zipfile.ZipFile) -> tuple[str, str]:
    """Return the code page, codec and usual name, of the names in a zip that have no flag for UTF-8."""
    return code_page_of_names(b"\n".join(_raw(info) for info in opened.infolist() if not _is_marked(info)))


def note_of_names(opened: zipfile.ZipFile) -> str | None:
    """Return what is guessed of the names in a zip; None where nothing has to be."""
    unmarked = [info for info in opened.infolist() if not _is_marked(info)]
    if not unmarked:
        return None
    codec, name = codec_of(opened)
    said = ", ".join(dict.fromkeys(PurePosixPath(name_of(info, codec)).name for info in unmarked[:3]))
    return f"{len(unmarked)} name(s) are not marked as UTF-8, and are read as {name}: {printable(said)}"


def name_of(info: zipfile.ZipInfo, codec: str) -> str:
    """Return the name of a zip's member, where it has no flag for UTF-8 by the code page of the zip's names."""
    if _is_marked(info):
        return info.filename
    try:
        return _raw(info).decode(codec)
    except UnicodeDecodeError:
        return info.filename


def _is_marked(info: zipfile.ZipInfo) -> bool:
    return bool(info.flag_bits & 0x800) or info.filename.isascii()


def _raw(info: zipfile.ZipInfo) -> bytes:
    """Return the bytes of a name, which Python reads as code page 437; empty where another field gave the name."""
    try:
        return info.filename.encode("cp437")
    except UnicodeEncodeError:
        return b""


def inside(folder: Path, name: str, shown: str) -> Path:
    """Return the path of a file of that name below `folder`. Raises SourceProblem where the name leads out of it."""
    parts = PurePosixPath(name.replace("\\", "/")).parts
    if ".." in parts or (parts and (parts[0].startswith("/") or parts[0].endswith(":"))) or "\0" in name:
        raise SourceProblem(f"{shown} wants to write outside its folder: {name}", hint="do not use it")
    if any(len(part.encode("utf-8", "surrogateescape")) > _LONGEST for part in parts):
        raise SourceProblem(
            f"{shown} has a name or a link that no disk can hold: {shortened(name)}",
            hint="pack it anew, with shorter names",
        )
    if len(parts) > _DEEPEST:
        raise SourceProblem(
            f"{shown} has {len(parts)} folders, one in the other: {shortened(name)}", hint="pack it anew, less deep"
        )
    return folder.joinpath(*parts)


def _twin(target: Path, earlier: Path, member: _Member, shown: str) -> None:
    if not earlier.is_file():
        raise SourceProblem(
            f"{shown} has another name of what is no file: {member.name} is {member.twin}",
            hint="pack it without hard links",
        )
    target.hardlink_to(earlier)


def _write(member: _Member, target: Path, shown: str) -> None:
    disk = shutil.disk_usage(target.parent)
    if member.size_bytes > disk.free - disk.total * _KEPT_FREE:
        raise SourceProblem(
            f"{shown} is larger than the disk: {member.name} has {size(member.size_bytes)},"
            f" and {size(disk.free)} are free",
            hint="ask for a larger disk: `resources: {disk: 200}` (GB)",
        )
    with member.open() as source, target.open("wb") as file:
        shutil.copyfileobj(source, file, 1024 * 1024)


def _link(folder: Path, links: list[tuple[Path, str, str]], shown: str) -> None:
    real = folder.resolve()
    made: list[Path] = []
    try:
        for target, leads_to, _ in links:
            target.symlink_to(leads_to)
            made.append(target)
        for target, leads_to, name in links:
            _refuse_link_out(real, target, f"{name} -> {leads_to}", shown)
    except BaseException:  # none stays that was not looked at
        for target in made:
            target.unlink(missing_ok=True)
        raise


def _refuse_link_out(real: Path, target: Path, named: str, shown: str) -> None:
    if not Path(os.path.realpath(target)).is_relative_to(real):  # `Path.resolve` raises RuntimeError for a loop
        raise SourceProblem(f"{shown} has a link that leads out: {named}", hint="pack it without links")
    try:
        target.stat()
    except OSError as err:  # a link that leads to nothing, or in a circle, is left out by whoever reads the images
        if err.errno not in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
            raise


@contextmanager
def _members(archive: Path, shown: str) -> Iterator[Iterator[_Member]]:
    with archive.open("rb") as file:
        kind = kind_of(file.read(512))
    if kind == "zip":
        with zipfile.ZipFile(archive) as opened:
            _refuse_bomb(opened, archive, shown)
            codec, _ = codec_of(opened)
            yield (_of_zip(opened, info, codec, shown) for info in opened.infolist())
    elif kind == "tar":
        with tarfile.open(archive) as opened_tar:
            yield (_of_tar(opened_tar, info, shown) for info in opened_tar)
    else:
        raise SourceProblem(f"{shown} is neither a zip nor a tar archive", hint="pack the data as .zip or .tar.gz")


def _refuse_bomb(opened: zipfile.ZipFile, archive: Path, shown: str) -> None:
    """Raise SourceProblem where a zip is larger, once unpacked, than the disk.

    A zip tells all sizes before a byte is unpacked, and no member is read beyond its size.
    """
    disk = shutil.disk_usage(archive.parent)
    total = sum(info.file_size for info in opened.infolist())
    if total > disk.free - disk.total * _KEPT_FREE:
        raise SourceProblem(
            f"{shown} is larger than the disk: {size(total)} when unpacked, and {size(disk.free)} are free",
            hint="ask for a larger disk: `resources: {disk: 200}` (GB)",
        )


def _refuse_password(info: zipfile.ZipInfo, shown: str) -> None:
    if info.flag_bits & 0x1:
        raise SourceProblem(f"{shown} is locked with a password: {info.filename}", hint="pack it without one")


def _of_zip(opened: zipfile.ZipFile, info: zipfile.ZipInfo, codec: str, shown: str) -> _Member:
    _refuse_password(info, shown)
    is_link = stat.S_ISLNK(info.external_attr >> 16)
    link = os.fsdecode(opened.read(info)) if is_link and info.file_size < 4096 else None
    return _Member(name_of(info, codec), info.is_dir(), info.file_size, link, None, lambda: opened.open(info))


def _of_tar(opened: tarfile.TarFile, info: tarfile.TarInfo, shown: str) -> _Member:
    if not (info.isreg() or info.isdir() or info.issym() or info.islnk()):
        raise SourceProblem(f"{shown} has {info.name}, which is not a file", hint="pack the data alone")

    def content() -> IO[bytes]:
        file = opened.extractfile(info)
        assert file is not None
        return file

    link = info.linkname if info.issym() else None
    return _Member(info.name, info.isdir(), info.size, link, info.linkname if info.islnk() else None, content)
