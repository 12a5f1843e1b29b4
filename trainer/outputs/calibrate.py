"""Calibrate probabilities with one temperature, fitted on images that the models were not trained on."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from trainer.outputs.predictions import Predictions, log_loss

COLDEST, HOTTEST = 0.05, 20.0
_PRECISE = 1e-6  # precision of the logarithm of the temperature
_SMALLEST = 1e-12
_GOLDEN = (math.sqrt(5) - 1) / 2


@dataclass(frozen=True, slots=True)
class Calibration:
    """Logits are divided by `temperature`; more than 1: the model was too confident. Log losses in nats."""

    temperature: float
    log_loss_before: float
    log_loss_after: float


def fit_temperature(out_of_fold: Predictions, *, several: bool) -> Calibration:
    """Return the temperature from COLDEST to HOTTEST with the lowest log loss; 1 where no other is better.

    Golden section search on its logarithm: the log loss is convex in the logits, so that it has one minimum in 1 /
    temperature. `several`: an image may have several classes. Source: Guo et al. 2017, arXiv:1706.04599, section 4.2.
    """
    wanted = out_of_fold.wanted

    def loss_at(log_temperature: float) -> float:
        cooled = tempered(out_of_fold.probabilities, math.exp(log_temperature), several=several)
        return log_loss(cooled, wanted, several=several)

    low, high = math.log(COLDEST), math.log(HOTTEST)
    left, right = high - _GOLDEN * (high - low), low + _GOLDEN * (high - low)
    at_left, at_right = loss_at(left), loss_at(right)
    while high - low > _PRECISE:
        if at_left <= at_right:
            high, right, at_right = right, left, at_left
            left = high - _GOLDEN * (high - low)
            at_left = loss_at(left)
        else:
            low, left, at_left = left, right, at_right
            right = low + _GOLDEN * (high - low)
            at_right = loss_at(right)
    before = log_loss(out_of_fold.probabilities, wanted, several=several)
    temperature = math.exp((low + high) / 2)
    after = loss_at(math.log(temperature))
    return Calibration(temperature, before, after) if after < before else Calibration(1.0, before, before)


def tempered(probabilities: Tensor, temperature: float, *, several: bool) -> Tensor:
    """Return float64 probabilities (N, classes) at another temperature.

    The logits come from the probabilities: a softmax loses only a constant of each image.
    """
    safe = probabilities.double().clamp(_SMALLEST, 1 - _SMALLEST)
    if several:
        return (safe.logit() / temperature).sigmoid()
    return torch.softmax(safe.log() / temperature, 1)
