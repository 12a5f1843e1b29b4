"""Check a source that the machine gets by itself: is it there, open to us, an archive? Before a machine is rented."""

from __future__ import annotations

import io
import os
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cloudrun.dataset.survey import Survey
from cloudrun.errors import JobFileError, StoreError
from cloudrun.job.job_file import Job
from cloudrun.job.spec import SourceKind
from cloudrun.sources import Source, SourceProblem, kaggle, parse_source
from cloudrun.sources.archive import DAMAGED, kind_of, list_zip, note_of_names
from cloudrun.sources.bring import address_of
from cloudrun.sources.layout import layout_of
from cloudrun.sources.web import Address, RangeFile, Seen, look
from cloudrun.text.units import size

# A zip's list of contents takes about 100 bytes a file; a list longer than this is not read, and nothing is counted.
_LIST_BYTES = 32_000_000


@dataclass(frozen=True, slots=True)
class SurveyFromAfar(Survey):
    """A survey of images that are at an address, and not in a folder of this computer."""

    address: str = ""

    def as_plain(self) -> dict[str, Any]:
        return {**Survey.as_plain(self), "folder": self.address}


def check_access(job: Job) -> None:
    """Raise JobFileError where the machine would not have the token that the source needs.

    No token goes to a rented machine unless `secrets` names it. A token that Kaggle's clients keep in a file is put
    into this process's environment, from where `secrets` are taken.
    """
    spec = job.spec
    if spec.data.kind is not SourceKind.KAGGLE:
        return
    with _about(job):
        found = kaggle.find_or_refuse(os.environ)
    unnamed = [name for name in found.names if name not in spec.secrets]
    if unnamed and spec.capabilities.is_remote:
        named = ", ".join(dict.fromkeys([*spec.secrets, *found.names]))
        raise JobFileError(
            f"{job.path}: `data.source: {spec.data.source}` needs your token on the machine, and `secrets` does"
            f" not name {', '.join(unnamed)}",
            hint=f"add `secrets: [{named}]`; it goes into the machine's memory, and nowhere else",
        )
    os.environ.update(found.values)


def check_source(job: Job) -> Survey | None:
    """Check the job's source, and return its survey; None where only the machine can count its images.

    Raises JobFileError.
    """
    with _about(job):
        source = parse_source(job.spec.data.source)
        if source.scheme == "s3":
            return _survey_bucket(job, source)
        if source.scheme == "kaggle":
            kaggle.refuse_what_is_not_allowed(source, kaggle.find_or_refuse(os.environ))
        address = address_of(source)
        seen = look(address)
        kind = kind_of(seen.start)
        if kind is None:
            raise SourceProblem(
                f"{address.shown} is neither a zip nor a tar archive: it begins with {_begins(seen)}",
                hint="is it the address of a page about the data? take that of the download itself",
            )
        if kind != "zip" or not seen.can_resume or seen.size_bytes is None:
            _refuse_small_disk(job, address.shown, seen.size_bytes or 0)
            return None
        return _survey(job, source, address, seen.size_bytes)


def _survey(job: Job, source: Source, address: Address, size_bytes: int) -> Survey | None:
    """Count the images by the list at the end of a zip: a few requests, whatever the zip's size."""
    remote = io.BufferedReader(RangeFile(address, size_bytes, at_most=_LIST_BYTES), 64 * 1024)
    try:
        with zipfile.ZipFile(remote) as opened:
            files = list_zip(opened, address.shown)
            note = note_of_names(opened)
    except DAMAGED as err:
        raise SourceProblem(f"{address.shown} is damaged: {err}", hint="is it whole where it comes from?") from err
    except OSError:
        _refuse_small_disk(job, address.shown, size_bytes)
        return None  # the list is too long
    _refuse_small_disk(job, address.shown, size_bytes + sum(count for _, count in files))
    return _count(job, source, files, notes=[note] if note else [])


def _survey_bucket(job: Job, source: Source) -> Survey | None:
    """Count the images by the names and sizes of all objects of a bucket: a request for each thousand."""
    from cloudrun.sources.bucket import Bucket

    bucket = Bucket(source, job.spec.endpoint)
    objects = bucket.objects()
    bucket.refuse_unreadable(objects[0])
    _refuse_small_disk(job, bucket.shown, sum(one.size_bytes for one in objects))
    return _count(job, source, [(one.name, one.size_bytes) for one in objects])


def _count(job: Job, source: Source, files: list[tuple[str, int]], *, notes: Sequence[str] = ()) -> Survey | None:
    if job.spec.run is not None or job.spec.data.labels is not None:
        return None
    layout = layout_of(files, source.url, classes=job.spec.data.classes)
    return SurveyFromAfar(
        Path(source.rest),
        layout.counts,
        layout.unlabelled_test,
        layout.size_bytes,
        unused=layout.unused,
        notes=(*notes, *layout.warnings),
        address=source.text,
    )


def _refuse_small_disk(job: Job, shown: str, needed: int) -> None:
    spec = job.spec
    if spec.capabilities.is_remote and needed > spec.resources.disk * 1e9:
        raise SourceProblem(
            f"{shown} and what is in it have {size(needed)}, more than the {spec.resources.disk} GB of"
            " `resources.disk`",
            hint=f"ask for more: `resources: {{disk: {round(needed * 1.5 / 1e9)}}}`",
        )


def _begins(seen: Seen) -> str:
    text = seen.start[:40].decode("ascii", "replace").strip().splitlines()
    return f"`{text[0]}`" if text and text[0].isprintable() else f"the bytes {seen.start[:4].hex(' ')}"


@contextmanager
def _about(job: Job) -> Iterator[None]:
    try:
        yield
    except (SourceProblem, StoreError) as err:
        raise JobFileError(f"{job.path}: `data.source`: {err.message}", hint=err.hint) from None
