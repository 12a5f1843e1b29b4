"""What a run found out at its start by measuring: kept in its checkpoints, so that it goes on with it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class AutotuneResult:
    """Empty and None: nothing was measured there, since the config or the rule of the device said it.

    `gpu`: where it was found; elsewhere it is worth nothing. `memory_formats`: a name a backbone. `compiled_sizes`:
    images at once for which it paid to compile. `compile_s`: seconds that compiling took, over all starts of the run.
    """

    gpu: str | None
    memory_formats: tuple[str, ...] = ()
    micro_batch: int | None = None
    compiled_sizes: tuple[int, ...] | None = None
    compile_s: float = 0.0

    def as_plain(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_plain(cls, state: Mapping[str, Any]) -> AutotuneResult:
        return cls(**state)
