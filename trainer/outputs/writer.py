"""Checkpoints written beside training: it stops for a copy in memory, not for the disk."""

from __future__ import annotations

import queue
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from trainer.errors import TrainerError
from trainer.outputs import checkpoint


class CheckpointWriter:
    """Writes in the order of `save`; at most one waits while another is written, so memory is bounded."""

    def __init__(self) -> None:
        self._waiting: queue.Queue[tuple[Mapping[str, Any], Path]] = queue.Queue(maxsize=1)
        self._failure: tuple[Path, BaseException] | None = None
        self._thread: threading.Thread | None = None

    def save(self, state: Mapping[str, Any], path: Path) -> None:
        """`state` may change from here on. Raises TrainerError where an earlier file could not be written."""
        self._raise_failure()
        if self._thread is None:
            self._thread = threading.Thread(target=self._write_all, name="checkpoints", daemon=True)
            self._thread.start()
        self._waiting.put((snapshot(state), path))

    def wait(self) -> None:
        """Until all is on disk. Raises TrainerError where a file could not be written."""
        self.drain()
        self._raise_failure()

    def drain(self) -> None:
        """As `wait`, but silent: for a run that ends with an error of its own."""
        self._waiting.join()

    def _write_all(self) -> None:
        while True:
            state, path = self._waiting.get()
            try:
                # After a failure the rest would be newer than what they go on from.
                if self._failure is None:
                    checkpoint.save(state, path)
            except (OSError, RuntimeError) as err:
                self._failure = path, err
            finally:
                del state
                self._waiting.task_done()

    def _raise_failure(self) -> None:
        if self._failure is not None:
            path, err = self._failure
            raise TrainerError(
                f"{path} cannot be written: {err}",
                hint="make room on the disk; the same command goes on from before it",
            ) from err


def snapshot(value: Any) -> Any:
    """A copy on the CPU that shares no memory with `value`: tensors in dicts, lists and tuples."""
    if isinstance(value, torch.Tensor):
        return value.detach().to("cpu", copy=True)
    if isinstance(value, Mapping):
        return {key: snapshot(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(snapshot(one) for one in value)
    return value
