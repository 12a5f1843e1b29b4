"""Store what a run measured at its start: checkpoints keep it, so that a resumed run uses it again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class AutotuneResult:
    """Empty or None: not measured, since the config or the rule of the device decided.

    `gpu`: where it was measured; elsewhere it is not used. `memory_formats`: a name for each backbone.
    `compiled_sizes`: images at once for which compiling was worth it. `compile_s`: seconds of compiling, over all
    starts of the run.
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
