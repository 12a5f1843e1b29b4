"""Mutated data sets through both readers: a short form of `python -m benchmarks.mutate_data`."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from random import Random

import pytest

from benchmarks.mutate_data.__main__ import try_many, try_one
from benchmarks.mutate_data.readers import compare_readers
from benchmarks.mutate_data.trees import small_image
from benchmarks.mutate_data.verdicts import Disagreement, Outcome, agree
from cloudrun.imagedata.dataset import Reading


@pytest.mark.parametrize(
    ("kind", "count"), [("image", 150), ("exif", 40), ("labels", 40), ("names", 30), ("zip", 30), ("weights", 6)]
)
def test_no_input_gets_through_and_the_readers_agree(kind: str, count: int) -> None:
    assert Counter(type(try_one(kind, number, seed=7)) for number in range(count)) == {Outcome: count}


def test_a_disagreement_is_found() -> None:
    with pytest.raises(Disagreement, match=r"check takes what the trainer refuses: a.jpg: it is broken"):
        agree(None, "it is broken", "a.jpg")
    with pytest.raises(Disagreement, match=r"the trainer takes what check refuses: a.jpg: it is empty"):
        agree("it is empty", None, "a.jpg")


def test_images_that_the_trainer_would_refuse_are_refused_by_check(tmp_path: Path) -> None:
    for name in ("a/1.jpg", "a/2.jpg", "b/1.jpg", "b/2.jpg"):
        (tmp_path / "data" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "data" / name).write_bytes(small_image(".jpg"))
    assert compare_readers(tmp_path / "data", Reading(), Random(0)) is Outcome.READ
    (tmp_path / "data/a/1.jpg").write_bytes(b"hello")
    assert compare_readers(tmp_path / "data", Reading(), Random(0)) is Outcome.REFUSED


def test_inputs_are_tried_in_a_process_of_their_own() -> None:
    tally = try_many("exif", 3, seed=7)
    assert (sum(tally.outcomes.values()), tally.wrong) == (3, [])
