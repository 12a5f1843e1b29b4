"""Bring a source's data to a folder on this disk, whole or not at all. After a kill the next call goes on."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from pathlib import Path

from cloudrun.files import atomic
from cloudrun.files.untrusted import read_object
from cloudrun.sources import Source, SourceProblem, kaggle
from cloudrun.sources.archive import root_of, unpack
from cloudrun.sources.web import Address, Say, download
from cloudrun.text.pace import Pace
from cloudrun.text.units import size


def bring(source: Source, out: Path, *, say: Say, endpoint: str | None = None) -> None:
    """Make `out` the folder that `source` holds. Beside it, `OUT.source/` keeps what has come so far.

    `endpoint` is the server of a bucket, None for AWS. Raises SourceProblem (or a bucket's StoreError) where the data
    cannot be fetched or are not what they should be, or where `out` holds something else.
    """
    work = out.with_name(f"{out.name}.source")
    placed = work / "placed"
    if _is_placed(placed, source) and _has_content(out):
        say("the data are here already")
        return
    if _has_content(out):
        if not placed.exists():
            raise SourceProblem(f"{out} is there already, and not from here", hint="name another folder")
        shutil.rmtree(out)
    _begin(work, source)
    if not _is_placed(placed, source):
        made = _collected(source, work, endpoint, say) if source.scheme == "s3" else _unpacked(source, work, say)
        placed.write_text(json.dumps({"source": source.text, "folder": str(made)}), encoding="utf-8")
    out.parent.mkdir(parents=True, exist_ok=True)
    atomic.settle(str((read_object(placed) or {})["folder"]), out)  # a folder may replace an empty one
    shutil.rmtree(work / "unpacked", ignore_errors=True)
    (work / "archive").unlink(missing_ok=True)


def address_of(source: Source) -> Address:
    """Return the address of the archive with all of the source's data.

    Raises SourceProblem where the source is Kaggle's and there is no token for Kaggle.
    """
    if source.scheme == "kaggle":
        return kaggle.archive_of(source, kaggle.find_or_refuse(os.environ))
    return Address(source.url, source.url.partition("?")[0])  # the part after `?` may be a signature: it is not shown


def _unpacked(source: Source, work: Path, say: Say) -> Path:
    archive = work / "archive"
    address = address_of(source)
    download(address, archive, say=say)
    if source.sha256 is not None:
        _refuse_other(archive, source.sha256, address.shown)
    shutil.rmtree(work / "unpacked", ignore_errors=True)  # a call that was killed may have left half of it
    (work / "unpacked").mkdir()
    pace = Pace()
    pace.elapsed_s(0)
    count = unpack(archive, work / "unpacked", shown=address.shown)
    say(f"{count} files unpacked in {pace.elapsed_s(0):.1f} s")
    return root_of(work / "unpacked")


def _collected(source: Source, work: Path, endpoint: str | None, say: Say) -> Path:
    from cloudrun.sources.bucket import Bucket, collect  # boto3 takes a second to load, and other sources do without

    (work / "unpacked").mkdir(exist_ok=True)
    collect(Bucket(source, endpoint), work / "unpacked", work / "objects", say=say)
    return root_of(work / "unpacked")


def _refuse_other(archive: Path, expected: str, shown: str) -> None:
    with archive.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != expected:
        total = archive.stat().st_size
        archive.unlink()  # the next call fetches it anew
        raise SourceProblem(
            f"{shown} is not what it should be: its {size(total)} have the sha256 {found}, not {expected}",
            hint="has it been replaced there, or is the `#sha256=` of the source wrong?",
        )


def _begin(work: Path, source: Source) -> None:
    """Make the folder of what has come so far; remove what it has of another source."""
    noted = work / "source"
    if work.is_dir() and not (noted.is_file() and noted.read_text(encoding="utf-8") == source.text):
        shutil.rmtree(work)
    work.mkdir(parents=True, exist_ok=True)
    noted.write_text(source.text, encoding="utf-8")


def _is_placed(placed: Path, source: Source) -> bool:
    return (read_object(placed) or {}).get("source") == source.text


def _has_content(folder: Path) -> bool:
    return folder.is_dir() and any(folder.iterdir())
