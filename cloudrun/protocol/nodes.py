"""The messages between the machines of one run: the others send their news, the first answers what to do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from cloudrun.protocol.messages import Result, result_of
from cloudrun.protocol.words import NodeState, NodeTask

TELL = "/tell"
SECRETS = "/secrets"
_MOST_LINES = 2000


@dataclass(frozen=True)
class News:
    """What machine `rank` tells twice a second; `lines` are new in its log."""

    rank: int
    state: NodeState
    result: Result | None = None
    lines: tuple[str, ...] = ()

    def as_plain(self) -> dict[str, Any]:
        result = None if self.result is None else self.result.as_plain()
        return {"rank": self.rank, "state": self.state.value, "result": result, "lines": list(self.lines)}

    @staticmethod
    def read(plain: dict[str, Any]) -> News:
        """Return news from JSON. Raises KeyError, TypeError or ValueError for another program's message."""
        lines = [str(line) for line in list(plain.get("lines") or [])[:_MOST_LINES]]
        result = plain.get("result")
        return News(
            int(plain["rank"]),
            NodeState(plain["state"]),
            result_of(result) if isinstance(result, dict) else None,
            tuple(lines),
        )


@dataclass(frozen=True)
class Instruction:
    """The first machine's answer: what the other machine is to do, and what the first has for it to fetch."""

    task: NodeTask
    head: str | None  # HOST:PORT of the job's first process, once all begin
    has_data: bool
    has_weights: bool
    mark: str  # a file beside the order: a machine that finds it shares the first machine's disk

    def as_plain(self) -> dict[str, Any]:
        return {
            "do": self.task.value,
            "head": self.head,
            "has_data": self.has_data,
            "has_weights": self.has_weights,
            "mark": self.mark,
        }

    @staticmethod
    def read(plain: dict[str, Any]) -> Instruction:
        """Return an instruction from JSON.

        Raises OSError for another message: callers treat it like a first machine that cannot be reached.
        """
        try:
            head = plain["head"]
            return Instruction(
                NodeTask(plain["do"]),
                None if head is None else str(head),
                bool(plain["has_data"]),
                bool(plain["has_weights"]),
                str(plain["mark"]),
            )
        except (KeyError, ValueError) as err:
            raise OSError(f"the first machine answers what is not understood: {err!r}") from err
