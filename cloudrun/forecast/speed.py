"""Estimate how fast a machine trains a job, and whether its memory is enough, before anybody has tried. Pure.

A step waits for matrix units, for the card's memory, and for the launch of each layer's kernels. Which of them
dominates depends on the backbone (EfficientNets wait for memory), so the three times are added up. The constants are
fitted to published training speeds of efficientnet_b3 + resnest50d at 224 px, in images/s:

    card       RTX 3090   RTX 4090   A100      H200
    published  340        445        530-680   1000-1400
    this model 351        464        643       1102
"""

from __future__ import annotations

from dataclasses import dataclass

from cloudrun.catalog.gpus import LISTED_SPEED, MEMORY_GB, parse_gpu
from cloudrun.forecast.workload import Workload
from cloudrun.recipe.gmacs import Work, work_of
from cloudrun.recipe.progressive import evaluation_work, largest_size, work_left
from cloudrun.recipe.train_config import TrainConfig

_FLOPS_A_MAC = 2
_BACKWARD_AND_FORWARD = 3  # backward costs twice the forward pass
_MATRIX_EFFICIENCY = 0.5
_MEMORY_PASSES = 8  # each value is written and read in both directions, and by norm and activation
_LAUNCH_S = 0.0003  # for each image and backbone, at a batch of 64
# Decoding and augmenting one image on one core, measured on 500x375 and 2048x1365 JPEG files.
_LOAD_S, _LOAD_S_PER_BYTE = 0.0035, 20e-9
_CPU_FLOPS_A_CORE = 30e9  # measured: 30 to 54 GFLOP/s in fp32
_TINY_PARAMETERS_M = 1.0  # a smaller model trains on one core, and the loader has the others
_UNKNOWN_CPUS = 8
# How far a listed speed may be off: the real time is between these multiples of the computed one.
_GPU_SPREAD = (0.65, 1.6)
_CPU_SPREAD = (0.4, 2.5)
# The least part of its own speed that each of several GPUs keeps, where gradients go over a slow bus, or over a slow
# network between machines: guesses, not measured.
_WORST_SCALING, _WORST_SCALING_OF_NODES = 0.6, 0.3
_OPTIMIZER_BYTES = 16  # for each parameter: weight, gradient and Adam's two moments, in fp32
_CONTEXT_GB = 1.0  # memory that CUDA itself takes
_LEAST_AT_ONCE = 8


@dataclass(frozen=True, slots=True)
class Speed:
    """The seconds for each image, as ranges; `rests_on` tells people where they come from."""

    train_s: tuple[float, float]
    evaluate_s: tuple[float, float]
    rests_on: str


def listed_speed(workload: Workload, *, gpu: str | None, cpus: float | None, nodes: int = 1) -> Speed | None:
    """Return the speed of `nodes` machines, each with `cpus`, by the data sheet of `gpu` (None: a CPU trains).

    None where the work of a backbone, or the card, is not listed.
    """
    work = _work(workload.train)
    if work is None:
        return None
    assert workload.train is not None
    evaluated = evaluation_work(workload.train)
    smaller = work_left(epoch=1, step=0, steps_per_epoch=1, config=workload.train) / workload.train.epochs
    cores = (cpus or _UNKNOWN_CPUS) * nodes
    load_s = _LOAD_S + _LOAD_S_PER_BYTE * workload.image_bytes
    if gpu is None:
        is_tiny = sum(one.parameters_m for one in work) < _TINY_PARAMETERS_M
        forward_s = sum(one.gmacs for one in work) * 1e9 * _FLOPS_A_MAC / _CPU_FLOPS_A_CORE
        learn_s = _BACKWARD_AND_FORWARD * forward_s * smaller
        forward_s *= evaluated
        if is_tiny:  # one core trains while another loads
            train_s, evaluate_s = max(learn_s, load_s), max(forward_s, load_s)
        else:
            train_s = (learn_s + load_s) / cores
            evaluate_s = (forward_s + load_s) / cores
        rests_on = f"a guess for {cores:g} CPU cores"
        return Speed(_spread(train_s, _CPU_SPREAD), _spread(evaluate_s, _CPU_SPREAD), rests_on)
    name, count = parse_gpu(gpu).name, parse_gpu(gpu).count * nodes
    card = LISTED_SPEED.get(name)
    if card is None:
        return None
    bytes_a_value, slower = (4, 8) if workload.train.precision == "fp32" else (2, 1)
    products_s = sum(one.gmacs for one in work) * 1e9 * _FLOPS_A_MAC / (card.tflops * 1e12 * _MATRIX_EFFICIENCY)
    memory_s = sum(one.activations_m for one in work) * 1e6 * bytes_a_value * _MEMORY_PASSES / (card.gb_per_s * 1e9)
    train_s = _BACKWARD_AND_FORWARD * products_s * slower + memory_s + _LAUNCH_S * len(work)
    train_s, evaluate_s = train_s * smaller / count, train_s * evaluated / _BACKWARD_AND_FORWARD / count
    # Several GPUs are at best as many times as fast as one.
    worst = 1.0 if count == 1 else _WORST_SCALING if nodes == 1 else _WORST_SCALING_OF_NODES
    spread = (_GPU_SPREAD[0], _GPU_SPREAD[1] / worst)
    loaders = max(float(count), min(cores - count, 16 * count))
    feed_s = load_s / loaders
    waits = f", held back by {loaders:g} loader process(es)" if feed_s > train_s else ""
    together = "" if count == 1 else f" times {count}, or less where they wait for each other"
    return Speed(
        _spread(max(train_s, feed_s), spread),
        _spread(max(evaluate_s, feed_s), spread),
        f"the listed speed of {name}{together}{waits}",
    )


@dataclass(frozen=True, slots=True)
class Fit:
    """Whether a card's memory should be enough for a job; `why` says it with the values."""

    fits: bool
    why: str


def memory_fit(workload: Workload, gpu: str, memory_gb: float | None) -> Fit:
    """Return whether a job should fit into a card's memory, by a rough rule; fits where the rule cannot be applied.

    The rule: 16 bytes for each parameter, the layers' output for at least eight images at once, and 1 GB.
    """
    work = _work(workload.train, size=None if workload.train is None else largest_size(workload.train))
    memory = memory_gb or MEMORY_GB.get(parse_gpu(gpu).name)
    if work is None or memory is None:
        return Fit(fits=True, why="memory not checked")
    assert workload.train is not None
    bytes_a_value = 4 if workload.train.precision == "fp32" else 2
    fixed_gb = sum(one.parameters_m for one in work) * _OPTIMIZER_BYTES / 1000 + _CONTEXT_GB
    image_gb = sum(one.activations_m for one in work) * bytes_a_value / 1000
    at_once = int((memory - fixed_gb) / image_gb)
    if at_once < _LEAST_AT_ONCE:
        needs = fixed_gb + _LEAST_AT_ONCE * image_gb
        return Fit(fits=False, why=f"{_LEAST_AT_ONCE} images at once take about {needs:.0f} GB of {memory:g}")
    return Fit(fits=True, why=f"about {min(at_once, 1024)} images at once")


def checkpoint_bytes(workload: Workload) -> float:
    """Return the bytes of a run's checkpoints; 0 where the models are not known.

    best.pt has the weights, last.pt also Adam's moments: 16 bytes for each parameter in all, for each model.
    """
    work = _work(workload.train)
    return sum(one.parameters_m for one in work) * 16e6 * workload.models if work else 0.0


def uncounted(workload: Workload) -> list[str]:
    """Return the backbones whose work is not listed."""
    if workload.train is None:
        return []
    return [name for name in workload.train.backbones if work_of(name, workload.train.image_size) is None]


def _work(train: TrainConfig | None, *, size: int | None = None) -> list[Work] | None:
    """Return the work of each backbone for an image of `size` px; None: of `image_size`."""
    if train is None:
        return None
    found = [work_of(name, size or train.image_size) for name in train.backbones]
    return [one for one in found if one is not None] if None not in found else None


def _spread(seconds: float, factors: tuple[float, float]) -> tuple[float, float]:
    return seconds * factors[0], seconds * factors[1]
