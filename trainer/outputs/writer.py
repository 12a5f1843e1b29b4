"""Write checkpoints in a thread: training waits for a copy in memory, not for the disk."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from trainer.errors import TrainerError
from trainer.outputs import checkpoint

# Shares of a run's time that checkpoints may take: training waits for the copy, and the disk is busy.
_WAITING_SHARE, _WRITING_SHARE = 0.02, 0.1


class CheckpointWriter:
    """Write in the order of `save`. At most one checkpoint waits while another is written, to bound memory."""

    def __init__(self) -> None:
        self._waiting: queue.Queue[tuple[Mapping[str, Any], Path]] = queue.Queue(maxsize=1)
        self._failure: tuple[Path, BaseException] | None = None
        self._thread: threading.Thread | None = None
        self._waited_s = self._wrote_s = 0.0  # for the last checkpoint

    def pause_s(self) -> float:
        """Return the seconds from one checkpoint to the next in which checkpoints stay cheap.

        Training waits for at most a fiftieth of the time, and the disk writes for a tenth of it.
        """
        return max(self._waited_s / _WAITING_SHARE, self._wrote_s / _WRITING_SHARE)

    def save(self, state: Mapping[str, Any], path: Path) -> None:
        """Copy `state`, which may change afterwards. Raises TrainerError where an earlier file could not be written."""
        self._raise_failure()
        began = time.monotonic()
        if self._thread is None:
            self._thread = threading.Thread(target=self._write_all, name="checkpoints", daemon=True)
            self._thread.start()
        self._waiting.put((snapshot(state), path))
        self._waited_s = time.monotonic() - began

    def wait(self) -> None:
        """Wait until all files are on disk. Raises TrainerError where a file could not be written."""
        self.drain()
        self._raise_failure()

    def drain(self) -> None:
        """Wait as `wait` does, without an error: for a run that ends with an error of its own."""
        self._waiting.join()

    def _write_all(self) -> None:
        while True:
            state, path = self._waiting.get()
            try:
                # After a failure nothing is written: later files would not belong to the last complete one.
                if self._failure is None:
                    began = time.monotonic()
                    checkpoint.save(state, path)
                    self._wrote_s = time.monotonic() - began
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
                hint="make room on the disk; the same command continues from the last complete checkpoint",
            ) from err


def snapshot(value: Any) -> Any:
    """Return a copy on the CPU that shares no memory with `value`: tensors in dicts, lists and tuples.

    The copies of a GPU's tensors are asked for all at once, into pinned memory, and waited for once.
    """
    copy = _copied(value)
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        torch.cuda.current_stream().synchronize()
    return copy


def _copied(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return value.detach().to("cpu", copy=True, non_blocking=True)
    if isinstance(value, Mapping):
        return {key: _copied(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_copied(item) for item in value)
    return value
