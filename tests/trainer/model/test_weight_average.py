"""The average of weights against torch's own."""

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel

from trainer.model.weight_average import WeightAverage


def test_the_average_is_that_of_torch() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, 2))
    expected, average = AveragedModel(model), WeightAverage()
    for epoch in (3, 4, 5):
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(torch.randn_like(parameter))
        model[1].num_batches_tracked.fill_(epoch)
        expected.update_parameters(model)
        average = average.plus(epoch, model.state_dict())
    assert average.epochs == (3, 4, 5)
    assert average.weights is not None
    for name, parameter in expected.module.named_parameters():
        torch.testing.assert_close(average.weights[name], parameter)
    assert average.weights["1.num_batches_tracked"] == 5


def test_adding_an_epoch_leaves_the_average_before_it_as_it_was() -> None:
    first = WeightAverage().plus(1, {"weight": torch.zeros(2)})
    second = first.plus(2, {"weight": torch.ones(2)})
    assert first.weights is not None
    assert second.weights is not None
    assert (first.weights["weight"].tolist(), second.weights["weight"].tolist()) == ([0, 0], [0.5, 0.5])


def test_a_process_that_keeps_no_weights_knows_the_epochs() -> None:
    assert WeightAverage().plus(1, None).plus(2, None) == WeightAverage((1, 2))
