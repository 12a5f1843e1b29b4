"""Store what a run measured at its start: checkpoints keep it, so that a resumed run uses it again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

# Seconds until code that this process has compiled serves another model of the same shapes (1.6 to 2.6 on a CPU).
REUSE_S = 5.0


@dataclass(frozen=True, slots=True)
class AutotuneResult:
    """Empty or None: not measured, since the config or the rule of the device decided.

    `gpu`: where it was measured; elsewhere it is not used. `memory_formats`: a name for each backbone.
    `compiled_sizes`: images at once for which compiling was worth it. `compile_s`: seconds of compiling, over all
    starts of the run. `compile_rates`: images per second compiled and eager, and `size_s`: seconds of compiling for one
    number of images at once; None until it was tried.
    """

    gpu: str | None
    memory_formats: tuple[str, ...] = ()
    micro_batch: int | None = None
    compiled_sizes: tuple[int, ...] | None = None
    compile_s: float = 0.0
    compile_rates: tuple[float, float] | None = None
    size_s: float | None = None

    def as_plain(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_plain(cls, state: Mapping[str, Any]) -> AutotuneResult:
        lists = {key: tuple(value) for key, value in state.items() if isinstance(value, list)}
        return cls(**{**state, **lists})

    def for_next_fold(self) -> AutotuneResult:
        """Return what holds for a run of the same network on other images, in the same process.

        Its batches may differ by an image, so that memory is searched anew; code that was compiled here is used again.
        """
        return replace(self, micro_batch=None, compile_s=0.0, size_s=None if self.size_s is None else REUSE_S)
