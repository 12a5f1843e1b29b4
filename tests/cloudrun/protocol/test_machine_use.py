"""How busy a machine was: rows that anybody may have written, the idle share of each GPU, and the likely cause."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from cloudrun.protocol.machine_use import GpuSample, MachineSample, parse_machine_use, summed_up
from cloudrun.protocol.metrics import MetricsRow

BEGAN = datetime(2026, 11, 28, 12, tzinfo=UTC)
GIB = 1 << 30


def at(seconds: float) -> str:
    return (BEGAN + timedelta(seconds=seconds)).isoformat().replace("+00:00", "Z")


def samples(*use_percent: float, memory: float = 60 * GIB, cpu: float = 95.0) -> list[MachineSample]:
    return [
        MachineSample(at(5 * place), cpu, GIB, 8 * GIB, (GpuSample(0, use, memory, 80 * GIB, 210.0, 61.0),))
        for place, use in enumerate(use_percent)
    ]


def epoch(number: int, seconds: float, **more: float) -> list[MetricsRow]:
    train = MetricsRow(kind="train", epoch=number, time=at(seconds), **more)  # type: ignore[typeddict-item]
    return [train, MetricsRow(kind="val", epoch=number, time=at(seconds))]


def test_a_row_survives_its_file_and_other_lines_are_left_out() -> None:
    (row,) = samples(42)
    text = f'{row.as_line()}\nnot json\n{{"time": "yesterday"}}\n[1]\n{{"time": "{at(5)}", "gpus": 7}}\n{{"time": "2026'
    assert parse_machine_use(text) == [row]


@pytest.mark.parametrize("value", ["NaN", "-1", "1e300", '"much"', "true", "null", "[]"])
def test_a_value_that_is_no_measure_is_unknown(value: str) -> None:
    line = f'{{"time": "{at(0)}", "cpu_percent": {value}, "gpus": [{{"index": 0, "power_w": {value}}}]}}'
    (row,) = parse_machine_use(line)
    assert (row.cpu_percent, row.gpus[0].power_w) == (None, None)


def test_a_busy_gpu_is_not_called_out() -> None:
    use = summed_up(samples(*[92] * 10), [])
    assert use is not None
    assert (use.findings, use.idle_cause) == ([], None)
    assert use.gpus[0].idle_share == 0.08
    assert (use.gpus[0].power_mean_w, use.gpus[0].temperature_peak_c) == (210.0, 61.0)


def test_a_few_samples_are_not_enough_to_call_a_gpu_idle() -> None:
    use = summed_up(samples(*[0] * 5), [])
    assert use is not None
    assert use.findings == []


def test_a_gpu_that_waits_for_the_loader_is_told_so() -> None:
    rows = [*epoch(1, 20, wait_share=0.9), *epoch(2, 40, wait_share=0.4)]
    use = summed_up(samples(*[40] * 10), rows)
    assert use is not None
    (said,) = use.findings
    assert said == (
        "GPU 0 idled 60% of the training (10 samples); likely cause: steps waited for images 40% of the time"
        " (the machine's cores were 95 % busy); a machine with more cores, or a smaller image_size, feeds it faster"
    )


def test_a_gpu_with_little_in_its_memory_has_a_small_batch() -> None:
    use = summed_up(samples(*[40] * 10, memory=4 * GIB), epoch(1, 300, wait_share=0.02))
    assert use is not None
    assert use.idle_cause is not None
    assert use.idle_cause.startswith("each step is small for this card (memory at most 5% full)")


def test_a_gpu_that_idles_after_each_epoch_waits_for_the_checkpoint() -> None:
    use = summed_up(samples(*[*[100] * 6, *[0] * 4] * 3), [*epoch(1, 29), *epoch(2, 79), *epoch(3, 129)])
    assert use is not None
    assert use.gpus[0].idle_share == 0.4
    assert use.idle_cause is not None
    assert "checkpoints were written" in use.idle_cause


def test_no_cause_is_named_where_none_is_known() -> None:
    use = summed_up(samples(*[40] * 10), [])
    assert use is not None
    assert use.findings == ["GPU 0 idled 60% of the training (10 samples)"]


def test_of_several_gpus_the_idle_one_is_named() -> None:
    both = [
        MachineSample(at(5 * place), gpus=(GpuSample(0, 99), GpuSample(1, 10, 70 * GIB, 80 * GIB)))
        for place in range(8)
    ]
    use = summed_up(both, [])
    assert use is not None
    assert use.findings == ["GPU 1 idled 90% of the training (8 samples)"]


def test_nothing_is_said_without_samples() -> None:
    assert summed_up([], []) is None
