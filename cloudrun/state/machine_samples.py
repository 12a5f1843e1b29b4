"""How busy a run's machine was, as it came home in `machine.jsonl`."""

from __future__ import annotations

from pathlib import Path

from cloudrun.files.untrusted import LARGEST_RESULT_BYTES, Unreadable, read_limited
from cloudrun.protocol.machine_use import MachineSample, parse_machine_use
from cloudrun.protocol.outputs import MACHINE


def machine_samples_at(folder: Path) -> tuple[list[MachineSample], str]:
    """Return the samples in `folder`, and what is wrong with their file: an empty text for nothing."""
    path = folder / MACHINE
    try:
        content = read_limited(path, LARGEST_RESULT_BYTES)
    except Unreadable as err:
        return [], f"{path} cannot be read: {err}"
    return ([], "") if content is None else (parse_machine_use(content.decode("utf-8", "replace")), "")
