"""The running average of the weights: what it averages, when it is in the model, and that it survives a resume."""

import pytest
import torch
from torch import nn

from trainer.model.ema import Ema


def a_model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))


def step(model: nn.Module, number: int) -> None:
    """Changes the weights and the batch norm's statistics."""
    torch.manual_seed(number)
    model(torch.randn(2, 3, 5, 5))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter))


def test_it_is_the_average_that_its_formula_says_with_a_decay_that_warms_up() -> None:
    model = a_model()
    ema = Ema(model, decay=0.5)
    weight = model[0].weight
    expected, mean = weight.detach().clone(), model[1].running_mean.clone()
    decays = []
    for number in range(20):
        step(model, number)
        decay = min(0.5, (1 + number) / (10 + number))
        decays.append(ema.decay)
        expected = decay * expected + (1 - decay) * weight.detach()
        mean = decay * mean + (1 - decay) * model[1].running_mean
        ema.update()
    assert decays[:2] == [0.1, 2 / 11]
    assert decays[-1] == 0.5
    with ema.in_place():
        torch.testing.assert_close(weight.detach(), expected)
        torch.testing.assert_close(model[1].running_mean, mean)


def test_a_short_run_forgets_the_weights_that_it_began_with() -> None:
    model = nn.Linear(1, 1, bias=False)
    nn.init.constant_(model.weight, 100.0)
    ema = Ema(model, decay=0.9999)
    nn.init.constant_(model.weight, 0.0)
    for _ in range(30):
        ema.update()
    with ema.in_place():
        assert float(model.weight.detach()) < 0.01  # a constant decay would leave 99.7


def test_afterwards_the_model_has_its_own_weights_again_to_the_bit_and_goes_on_training_them() -> None:
    model, alone = a_model(), a_model()
    ema = Ema(model, decay=0.9)
    for number in range(4):
        for one in (model, alone):
            step(one, number)
        ema.update()
        with pytest.raises(KeyboardInterrupt), ema.in_place():
            assert not torch.equal(model[0].weight, alone[0].weight)
            raise KeyboardInterrupt
    assert all(torch.equal(value, alone.state_dict()[key]) for key, value in model.state_dict().items())


def test_a_resumed_average_is_the_one_that_was_saved_and_goes_on_as_it_would_have() -> None:
    model, other = a_model(), a_model()
    ema = Ema(model, decay=0.9)
    for number in range(3):
        step(model, number)
        ema.update()
    resumed = Ema(other, decay=0.9)
    other.load_state_dict(model.state_dict())
    resumed.load_state_dict(ema.state_dict())
    for one, average in ((model, ema), (other, resumed)):
        step(one, 9)
        average.update()
    with ema.in_place(), resumed.in_place():
        assert torch.equal(model[0].weight, other[0].weight)
        assert torch.equal(model[1].running_var, other[1].running_var)


def test_a_tensor_that_is_replaced_in_the_model_is_never_left_behind() -> None:
    model = a_model()
    ema = Ema(model, decay=0.5)
    model[1].running_mean = torch.ones(4)
    with pytest.raises(AssertionError, match="was replaced"), ema.in_place():
        pass
    ema.match_memory_formats()
    ema.update()
    with ema.in_place():
        assert model[1].running_mean.tolist() == pytest.approx([0.9] * 4)  # the first decay is a tenth
