"""Make a provider do wrong on demand; both boxes understand the same words.

slow=8                    each answer takes so many seconds
away=yes                  no answer at all: the connection is cut
throttle=3                the next three requests are refused as too many
fail=OPERATION,...        these operations answer with an error and do nothing
lose=OPERATION,...        these operations are done, and the connection is then cut
no_capacity=all|NAME,...  nothing can be rented, or nothing of these (AWS: regions; RunPod: GPUs)
price_factor=1.4          machines rented from now on bill this many times the listed price (RunPod)
ready=no                  machines rented from now on never get ready (AWS: nothing answers there; RunPod: no address)
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager


class NoAnswer(Exception):
    """The connection is to be cut without an answer."""


class Throttled(Exception):
    """There were too many requests."""


class Refused(Exception):
    """The operation fails for no reason that its caller can fix."""


class Faults:
    """The faults that are asked for at this moment."""

    WORDS = ("slow", "away", "throttle", "fail", "lose", "no_capacity", "price_factor", "ready")

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.clear()

    def clear(self) -> None:
        """Make the provider do everything right."""
        self._words = dict.fromkeys(self.WORDS, "")

    def set(self, words: Mapping[str, str]) -> None:
        unknown = set(words) - set(self.WORDS)
        if unknown:
            raise ValueError(f"no such fault: {', '.join(sorted(unknown))}")
        self._words.update(words)

    @property
    def price_factor(self) -> float:
        return float(self._words["price_factor"] or 1)

    @property
    def gets_ready(self) -> bool:
        return self._words["ready"] != "no"

    def has_capacity(self, name: str) -> bool:
        return not {"all", name} & set(self._words["no_capacity"].split(","))

    @contextmanager
    def around(self, operation: str) -> Iterator[None]:
        """Wrap one operation of the provider. Raises NoAnswer, Throttled, Refused."""
        time.sleep(float(self._words["slow"] or 0))
        if self._words["away"] == "yes":
            raise NoAnswer
        with self._lock:
            left = int(self._words["throttle"] or 0)
            self._words["throttle"] = str(max(left - 1, 0))
        if left:
            raise Throttled
        if operation in self._words["fail"].split(","):
            raise Refused
        yield
        if operation in self._words["lose"].split(","):
            raise NoAnswer
