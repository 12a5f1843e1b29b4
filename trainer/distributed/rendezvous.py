"""Bring the processes of a run together before they begin, or tell them that a process will not come.

torch's own wait does not react to signals, and lasts minutes where a process has ended. Here the first message decides
for all processes: that all are present, that one was asked to stop, or that one has failed.
"""

from __future__ import annotations

import os
import signal
import time
from typing import TYPE_CHECKING

from trainer.errors import StoppedEarly, TrainerError

if TYPE_CHECKING:
    from torch.distributed.distributed_c10d import Store

    from trainer.distributed.stop import StopFlag

_WORD = "word"
_BEGIN, _STOP, _LOST = "begin", "stop ", "lost "
# Their launchers have met, so that the processes were started at about the same moment.
_COMING_S = 180.0


class PeerMissing(TrainerError):
    """Another process will not come; its own error says why."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason, hint="see the error of that process, then run the same command again")


def shared_store(store: Store) -> Store:
    """Return the store that launchers and processes share, whatever prefix torch gave the processes."""
    from torch.distributed.distributed_c10d import PrefixStore

    while isinstance(store, PrefixStore):  # some versions of torch give the processes a prefix of their own
        store = store.underlying_store
    attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")  # `torchrun --max-restarts` starts again
    return PrefixStore(f"cloudrun/{attempt}", store)


def await_peers(store: Store, *, rank: int, world: int, stop: StopFlag) -> None:
    """Return once all processes are present in their `shared_store`.

    Raises PeerMissing; StoppedEarly in all processes where one was asked to stop.
    """
    store.set(f"come-{rank}", "")
    until = time.monotonic() + _COMING_S
    while not store.check([_WORD]):
        missing = [peer for peer in range(world) if not store.check([f"come-{peer}"])]
        if stop.signal_name is not None:
            _decide(store, _STOP + stop.signal_name)
        elif not missing:
            _decide(store, _BEGIN)
        elif time.monotonic() > until:
            _decide(store, f"{_LOST}process {missing[0]} of {world} (from 0)")
        else:
            time.sleep(0.05)
    word = store.get(_WORD).decode()
    if word.startswith(_STOP):
        raise StoppedEarly(
            f"stopped by {word.removeprefix(_STOP)} before the next step",
            hint="the same command on the same folder continues from what is there",
        )
    if word.startswith(_LOST):
        raise PeerMissing(f"{word.removeprefix(_LOST)} did not come to train")


def announce_absence(store: Store, failed: str | None) -> bool:
    """Tell waiting processes that `failed`, or a process that was asked to stop, will not come.

    Return whether all had begun.
    """
    word = f"{_STOP}{signal.SIGTERM.name}" if failed is None else _LOST + failed
    return _decide(store, word) == _BEGIN


def _decide(store: Store, word: str) -> str:
    """Set the message, if none is set yet, and return the message that is set."""
    return store.compare_set(_WORD, "", word).decode()
