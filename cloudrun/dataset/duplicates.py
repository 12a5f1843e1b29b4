"""The closer look at a data set, remembered until one of its images changes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from cloudrun.dataset.audit import Findings, Look
from cloudrun.dataset.survey import Survey
from cloudrun.files import atomic
from cloudrun.files.untrusted import read_object
from cloudrun.text.units import duration

_RULES = 1  # of what counts as alike: a new number forgets what was remembered
_COMPARE_UP_TO = 40_000  # images: 5 kB of memory each, and more for what they share
_MOST_S = 300.0
_WORTH_SAYING_S = 8.0
_REMEMBERED = 20
_LARGEST_LOOK_BYTES = 64_000_000


def find_duplicates(survey: Survey, home: Path, say: Callable[[str], None]) -> Findings:
    """Duplicates, copies and scenes among the images of `survey`.

    About 300 images a second, on two cores; at once where neither names, sizes nor times of the
    images have changed since the last look. Beyond 40,000 images or five minutes only bytes are
    compared; without images nothing is.
    """
    if not survey.files:
        return Findings(survey, Look((), (), (), 0, 0))
    kept = home / "looks" / f"{_digest(survey)}.json"
    try:
        return Findings(survey, _look_from(read_object(kept, _LARGEST_LOOK_BYTES) or {}))
    except (KeyError, TypeError):
        pass  # not looked at yet, or a file that was cut short
    from cloudrun.dataset.near_duplicates import TooSlow, duplicates, find_near_duplicates

    def goes_on(expected_s: float) -> bool:
        if expected_s > _WORTH_SAYING_S:
            say(f"comparing {len(files)} images for copies, about {duration(expected_s)}; remembered the next time")
        return expected_s <= _MOST_S

    files = [image.path for image in survey.files]
    look = Look(tuple(duplicates(files)), (), (), 0, 0)
    if len(files) <= _COMPARE_UP_TO:
        with suppress(TooSlow):
            found = find_near_duplicates(files, goes_on)
            look = replace(look, copies=found.copies, scenes=found.scenes, compared=len(files), plain=found.plain)
    try:
        _remember(kept, look)
    except OSError as err:  # a read-only home: the findings are as good
        say(f"what was found is not remembered, as {kept.parent} cannot be written: {err.strerror}")
    return Findings(survey, look)


def _remember(kept: Path, look: Look) -> None:
    kept.parent.mkdir(parents=True, exist_ok=True)
    atomic.write(kept, json.dumps(_plain(look), indent=2) + "\n")
    for old in sorted(kept.parent.glob("*.json"), key=lambda path: path.stat().st_mtime)[:-_REMEMBERED]:
        old.unlink(missing_ok=True)


def _digest(survey: Survey) -> str:
    digest = hashlib.sha256(f"{_RULES} {survey.folder}".encode())
    for image in survey.files:
        stat = image.path.stat()
        digest.update(f"\n{image.name} {stat.st_size} {stat.st_mtime_ns}".encode())
    return digest.hexdigest()[:32]


def _plain(look: Look) -> dict[str, Any]:
    return {
        "duplicates": look.duplicates,
        "copies": look.copies,
        "scenes": look.scenes,
        "compared": look.compared,
        "plain": look.plain,
    }


def _look_from(tree: dict[str, Any]) -> Look:
    duplicates, copies, scenes = (
        tuple(tuple(group) for group in tree[key]) for key in ("duplicates", "copies", "scenes")
    )
    return Look(duplicates, copies, scenes, tree["compared"], tree["plain"])
