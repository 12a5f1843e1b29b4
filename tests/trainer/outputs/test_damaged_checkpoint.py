"""A checkpoint whose bytes have changed, wherever: it loads, or is named as damaged."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import torch

from trainer.errors import TrainerError
from trainer.outputs import checkpoint


@pytest.mark.parametrize("seed", range(4))
def test_a_checkpoint_with_changed_bytes_loads_or_is_refused(tmp_path: Path, seed: int) -> None:
    path = tmp_path / "best.pt"
    checkpoint.save({"epoch": 3, "classes": ["healthy", "rust"], "model": {"weight": torch.zeros(3, 4)}}, path)
    whole = path.read_bytes()
    chance = random.Random(seed)
    messages = []
    for _ in range(150):
        changed = bytearray(whole)
        for _ in range(chance.choice((1, 4, 30))):
            changed[chance.randrange(len(changed))] = chance.randrange(256)
        path.write_bytes(changed[: chance.choice((len(changed), len(changed), chance.randrange(len(changed))))])
        try:
            checkpoint.load(path)
        except TrainerError as err:
            messages.append(err.message)
    assert len(messages) > 50
    assert [text for text in messages if str(path) not in text or "\n" in text] == []
