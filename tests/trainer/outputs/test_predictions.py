"""How predictions are rated."""

import torch

from trainer.outputs.predictions import roc_auc


def test_the_area_under_the_curve_counts_pairs_and_a_tie_half() -> None:
    scores = torch.tensor([0.9, 0.5, 0.5, 0.1], dtype=torch.float64)
    assert roc_auc(scores, torch.tensor([True, True, False, False])) == 3.5 / 4
    assert roc_auc(scores, torch.ones(4).bool()) is None
