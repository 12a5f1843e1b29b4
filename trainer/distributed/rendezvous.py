"""The processes of a run come together before they begin, or hear that one of them will not come.

Torch's own wait for the others hears no signal, and lasts minutes where one of them has ended. The first word counts,
for all of them: that all are there, that one was asked to stop, or that one has failed.
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
# Their launchers have met, or the store has seen them all: they were started at about the same moment.
_COMING_S = 180.0


class PeerMissing(TrainerError):
    """Another process will not come, and its machine says why."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason, hint="that one says why itself; the same command begins again")


def shared_store(store: Store) -> Store:
    """Where launchers and processes find each other's words, whatever of `store` torch gave to the processes."""
    from torch.distributed.distributed_c10d import PrefixStore

    while isinstance(store, PrefixStore):  # some versions of torch part the processes' from the launchers'
        store = store.underlying_store
    attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")  # `torchrun --max-restarts` begins anew
    return PrefixStore(f"cloudrun/{attempt}", store)


def await_peers(store: Store, *, rank: int, world: int, stop: StopFlag) -> None:
    """Return once all are there, in their `common` store.

    Raises StoppedEarly in all where one was asked to stop, NotAllCame.
    """
    store.set(f"come-{rank}", "")
    until = time.monotonic() + _COMING_S
    while not store.check([_WORD]):
        missing = [one for one in range(world) if not store.check([f"come-{one}"])]
        if stop.signal_name is not None:
            _say(store, _STOP + stop.signal_name)
        elif not missing:
            _say(store, _BEGIN)
        elif time.monotonic() > until:
            _say(store, f"{_LOST}process {missing[0]} of {world} (from 0)")
        else:
            time.sleep(0.05)
    word = store.get(_WORD).decode()
    if word.startswith(_STOP):
        raise StoppedEarly(
            f"stopped by {word.removeprefix(_STOP)} before the next step",
            hint="the same command on the same folder goes on from what is there",
        )
    if word.startswith(_LOST):
        raise PeerMissing(f"{word.removeprefix(_LOST)} did not come to train")


def announce_absence(store: Store, failed: str | None) -> bool:
    """Tell those that wait that `failed`, or one that was asked to stop, will not come. Whether all had begun."""
    word = f"{_STOP}{signal.SIGTERM.name}" if failed is None else _LOST + failed
    return _say(store, word) == _BEGIN


def _say(store: Store, word: str) -> str:
    """The word that counts: the first."""
    return store.compare_set(_WORD, "", word).decode()
