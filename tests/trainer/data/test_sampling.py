"""The order of an epoch: each image once, or drawn by class, the same for every number of processes."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from cloudrun.imagedata.folders import Dataset, LabelledFile
from cloudrun.recipe.train_config import TrainConfig
from trainer.data.epoch_order import EpochBatches, Key
from trainer.data.sampling import sampling_weights
from trainer.distributed.ranks import ALONE

FILES: list[LabelledFile] = [
    (Path(f"{place}.jpg"), 0 if place < 160 else 1 if place < 196 else 2) for place in range(200)
]
DATASET = Dataset(Path(), ("healthy", "rust", "scab"), {"train": tuple(FILES)})


def drawn(sampler: str, *, epochs: int = 30) -> list[Key]:
    weights = sampling_weights(FILES, DATASET, TrainConfig(sampler=sampler))
    batches = EpochBatches(len(FILES), 16, seed=3, weights=weights)
    keys = []
    for batches.epoch in range(1, epochs + 1):
        keys += [key for batch in batches for key in batch]
    return keys


@pytest.mark.parametrize(
    ("sampler", "shares"),
    [("shuffle", (0.8, 0.18, 0.02)), ("balanced", (1 / 3, 1 / 3, 1 / 3)), ("sqrt", (0.6124, 0.2905, 0.0968))],
)
def test_classes_come_by_the_sampler(sampler: str, shares: tuple[float, ...]) -> None:
    keys = drawn(sampler)
    counts = Counter(FILES[key.file][1] for key in keys)
    assert [counts[label] / len(keys) for label in range(3)] == pytest.approx(shares, abs=0.02)
    assert len(keys) == len(drawn("shuffle"))  # an epoch stays as long as it was


def test_an_image_that_comes_again_in_an_epoch_is_augmented_anew() -> None:
    keys = drawn("balanced", epochs=1)
    assert len(set(keys)) == len(keys)
    times = sorted(key.time for key in keys if key.file == 199)
    assert times == list(range(len(times)))
    assert len(times) > 2


def test_processes_share_what_one_process_draws() -> None:
    weights = sampling_weights(FILES, DATASET, TrainConfig(sampler="balanced"))
    whole = EpochBatches(len(FILES), 16, seed=3, weights=weights)
    parts = [
        EpochBatches(len(FILES), 16, seed=3, weights=weights, ranks=replace(ALONE, rank=rank, world=2))
        for rank in range(2)
    ]
    for one in (whole, *parts):
        one.epoch = 4
    for batch, *shares in zip(whole, *parts, strict=True):
        assert sorted(batch) == sorted(key for share in shares for key in share)


def test_an_epoch_is_the_same_again_and_another_epoch_is_not() -> None:
    assert drawn("sqrt", epochs=2) == drawn("sqrt", epochs=2)
    one, other = drawn("sqrt", epochs=2)[:208], drawn("sqrt", epochs=2)[208:]
    assert [key.file for key in one] != [key.file for key in other]


def test_an_image_of_several_classes_is_drawn_by_its_rarest() -> None:
    sets = ((0,), (0, 1), ())
    files = [(Path(f"{place}.jpg"), 0 if place < 7 else 1 if place < 9 else 2) for place in range(10)]
    dataset = Dataset(Path(), ("healthy", "rust"), {"train": tuple(files)}, label_sets=sets)
    weights = sampling_weights(files, dataset, TrainConfig(sampler="balanced"))
    assert weights == pytest.approx([1 / 7] * 7 + [1 / 2] * 2 + [1])


def test_nothing_is_weighed_without_a_sampler() -> None:
    assert sampling_weights(FILES, DATASET, TrainConfig()) is None
