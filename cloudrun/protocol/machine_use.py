"""`machine.jsonl`: how busy the machine was while the job's command ran, a JSON object a line, sampled by the worker.

A row has `time` (ISO 8601), `cpu_percent` (0 to 100, of all cores together), `memory_used_bytes` and `memory_bytes` of
the machine, and `gpus`: for each GPU `index`, `use_percent`, `memory_used_bytes`, `memory_bytes`, `power_w` and
`temperature_c`. What could not be measured is None. Everything here is pure.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from typing import Any

from cloudrun.protocol.metrics import MetricsRow

IDLE_SHARE = 0.30
"""A GPU that idles for a larger share of the training than this is called out."""
# So many samples are needed before anything is said: half a minute.
ENOUGH_SAMPLES = 6
# A fuller GPU memory than this is no sign of a batch that is too small.
_SMALL_MEMORY_SHARE = 0.25
# Idle samples in so many seconds after an epoch count as waits for evaluation and checkpoint.
_AFTER_EPOCH_S = 20.0
_MOST_GPUS = 64
_LARGEST = 1e15


@dataclass(frozen=True)
class GpuSample:
    """One look at one GPU."""

    index: int
    use_percent: float | None = None
    memory_used_bytes: float | None = None
    memory_bytes: float | None = None
    power_w: float | None = None
    temperature_c: float | None = None


@dataclass(frozen=True)
class MachineSample:
    """One look at a machine."""

    time: str
    cpu_percent: float | None = None
    memory_used_bytes: float | None = None
    memory_bytes: float | None = None
    gpus: tuple[GpuSample, ...] = ()

    def as_line(self) -> str:
        """Return the row of `machine.jsonl`, without the line end."""
        return json.dumps(asdict(self))

    @property
    def unix_time(self) -> float:
        """The moment of the sample as Unix time."""
        return datetime.fromisoformat(self.time.replace("Z", "+00:00")).timestamp()

    @property
    def gpu_percent(self) -> float | None:
        """The mean use of the GPUs in percent; None where none was measured."""
        return _mean([gpu.use_percent for gpu in self.gpus])


@dataclass(frozen=True)
class GpuUse:
    """How one GPU was used over many samples; `idle_share` is from 0 to 1."""

    index: int
    samples: int
    idle_share: float
    memory_peak_bytes: float | None
    memory_bytes: float | None
    power_mean_w: float | None
    temperature_peak_c: float | None

    @property
    def is_idle(self) -> bool:
        """Whether it idled so long that it is called out; False where there are too few samples to tell."""
        return self.idle_share > IDLE_SHARE and self.samples >= ENOUGH_SAMPLES


@dataclass(frozen=True)
class MachineUse:
    """How a machine was used while the job's command ran."""

    samples: int
    cpu_percent: float | None
    memory_peak_bytes: float | None
    memory_bytes: float | None
    gpus: tuple[GpuUse, ...] = ()
    idle_cause: str | None = None  # the likely cause where a GPU idled; None where none did

    def as_plain(self) -> dict[str, Any]:
        """Return the values of `machine` in `summary.json`."""
        return asdict(self)

    @property
    def findings(self) -> list[str]:
        """One line for each GPU that idled too long, with the likely cause."""
        because = f"; likely cause: {self.idle_cause}" if self.idle_cause else ""
        return [
            f"GPU {gpu.index} idled {gpu.idle_share:.0%} of the training ({gpu.samples} samples){because}"
            for gpu in self.gpus
            if gpu.is_idle
        ]


def parse_machine_use(text: str) -> list[MachineSample]:
    """Return the valid rows of `machine.jsonl`; other lines are left out, as is half a line at the end."""
    rows = (_sample(line) for line in text.splitlines() if line.strip())
    return [row for row in rows if row is not None]


def summed_up(samples: Sequence[MachineSample], metrics: Sequence[MetricsRow]) -> MachineUse | None:
    """Return how the machine was used, and why a GPU idled where one did; None where there is no sample."""
    if not samples:
        return None
    indices = sorted({gpu.index for sample in samples for gpu in sample.gpus if gpu.use_percent is not None})
    gpus = tuple(_use_of(index, samples) for index in indices)
    worst = max(gpus, key=lambda gpu: gpu.idle_share, default=None)
    is_idle = worst is not None and worst.is_idle
    return MachineUse(
        samples=len(samples),
        cpu_percent=_rounded(_mean([sample.cpu_percent for sample in samples])),
        memory_peak_bytes=_peak([sample.memory_used_bytes for sample in samples]),
        memory_bytes=_peak([sample.memory_bytes for sample in samples]),
        gpus=gpus,
        idle_cause=likely_cause(worst, samples, metrics) if worst is not None and is_idle else None,
    )


def likely_cause(gpu: GpuUse, samples: Sequence[MachineSample], metrics: Sequence[MetricsRow]) -> str | None:
    """Return why the GPU idled, by what else is known: loader, end of the epochs, small batch; None where nothing is.

    A cause counts where it explains at least half of the idle time.
    """
    waits = [row["wait_share"] for row in metrics if row["kind"] == "train" and row.get("wait_share") is not None]
    wait_share = _mean(waits[1:] or waits)  # the first epoch decodes and fills the cache
    if wait_share is not None and wait_share >= gpu.idle_share / 2:
        cpu = _mean([sample.cpu_percent for sample in samples])
        cores = f" (the machine's cores were {cpu:.0f} % busy)" if cpu is not None else ""
        return (
            f"steps waited for images {wait_share:.0%} of the time{cores}; a machine with more cores, or a smaller "
            "image_size, feeds it faster"
        )
    if _is_after_epochs(gpu, samples, metrics):
        return "it idled between epochs, while checkpoints were written; `checkpoint_minutes` writes fewer of them"
    used, whole = gpu.memory_peak_bytes, gpu.memory_bytes
    if used is not None and whole and used / whole < _SMALL_MEMORY_SHARE:
        return (
            f"each step is small for this card (memory at most {used / whole:.0%} full); a larger batch_size or "
            "image_size uses more of it, a smaller card costs less"
        )
    return None


def _is_after_epochs(gpu: GpuUse, samples: Sequence[MachineSample], metrics: Sequence[MetricsRow]) -> bool:
    """Return whether most of the idle time is just after epochs, in a small part of all samples."""
    ends = [_unix(row["time"]) for row in metrics if row["kind"] == "val"]
    inside = outside = 0.0
    count_inside = 0
    for sample in samples:
        use = next((one.use_percent for one in sample.gpus if one.index == gpu.index), None)
        if use is None:
            continue
        idle = 100 - use
        if any(0 <= sample.unix_time - end <= _AFTER_EPOCH_S for end in ends):
            inside, count_inside = inside + idle, count_inside + 1
        else:
            outside += idle
    return count_inside < len(samples) / 2 and inside > outside


def _use_of(index: int, samples: Sequence[MachineSample]) -> GpuUse:
    seen = [gpu for sample in samples for gpu in sample.gpus if gpu.index == index and gpu.use_percent is not None]
    use = _mean([gpu.use_percent for gpu in seen]) or 0.0
    return GpuUse(
        index=index,
        samples=len(seen),
        idle_share=round(1 - use / 100, 4),
        memory_peak_bytes=_peak([gpu.memory_used_bytes for gpu in seen]),
        memory_bytes=_peak([gpu.memory_bytes for gpu in seen]),
        power_mean_w=_rounded(_mean([gpu.power_w for gpu in seen])),
        temperature_peak_c=_peak([gpu.temperature_c for gpu in seen]),
    )


def _sample(line: str) -> MachineSample | None:
    try:
        row = json.loads(line)
        moment = datetime.fromisoformat(str(row["time"]).replace("Z", "+00:00"))
        gpus = row.get("gpus") or []
        found = [_gpu(gpu) for gpu in gpus[:_MOST_GPUS]]
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None
    if moment.tzinfo is None or not 1970 <= moment.year < 3000:
        return None
    return MachineSample(
        time=moment.astimezone(timezone.utc).isoformat(timespec="seconds").replace("+00:00", "Z"),
        cpu_percent=_percent(row.get("cpu_percent")),
        memory_used_bytes=_number(row.get("memory_used_bytes")),
        memory_bytes=_number(row.get("memory_bytes")),
        gpus=tuple(gpu for gpu in found if gpu is not None),
    )


def _gpu(plain: Mapping[str, Any]) -> GpuSample | None:
    index = plain.get("index")
    if type(index) is not int or not 0 <= index < _MOST_GPUS:
        return None
    return GpuSample(
        index=index,
        use_percent=_percent(plain.get("use_percent")),
        memory_used_bytes=_number(plain.get("memory_used_bytes")),
        memory_bytes=_number(plain.get("memory_bytes")),
        power_w=_number(plain.get("power_w")),
        temperature_c=_number(plain.get("temperature_c")),
    )


def _number(value: object) -> float | None:
    """Return a finite number that is not negative; None for anything else. NaN fails both comparisons."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= _LARGEST:
        return None
    return value


def _percent(value: object) -> float | None:
    number = _number(value)
    return None if number is None else min(number, 100)


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def _peak(values: Sequence[float | None]) -> float | None:
    return max((value for value in values if value is not None), default=None)


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 1)


def _unix(moment: str) -> float:
    return datetime.fromisoformat(moment.replace("Z", "+00:00")).timestamp()
