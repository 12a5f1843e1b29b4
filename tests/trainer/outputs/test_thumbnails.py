"""Pictures for the report: which images, how large, and how long it may take."""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from cloudrun.state.thumbnails import thumbnails_at
from trainer.model.targets import DecisionRule
from trainer.outputs.predictions import Predictions
from trainer.outputs.thumbnails import picked, write_thumbnails

CLASSES = ("rust", "scab")


def judged(*rows: tuple[str, tuple[str, ...], float]) -> Predictions:
    """Rows of image, true classes, and the probability of rust."""
    probabilities = torch.tensor([[rust, 1 - rust] for _, _, rust in rows], dtype=torch.float64)
    return Predictions(
        CLASSES, tuple(image for image, _, _ in rows), probabilities, tuple(truth for _, truth, _ in rows)
    )


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture
def photographs(tmp_path: Path) -> Path:
    """Ten images of 640 x 320, and one that cannot be read."""
    for number in range(10):
        Image.effect_noise((640, 320), 30).convert("RGB").save(tmp_path / f"{number}.jpg")
    (tmp_path / "broken.jpg").write_bytes(b"no image")
    return tmp_path


def test_the_surest_mistakes_come_first_and_then_each_class_in_turn() -> None:
    rows = judged(
        ("0.jpg", ("rust",), 0.1), ("1.jpg", ("rust",), 0.9), ("2.jpg", ("scab",), 0.7), ("3.jpg", ("rust",), 0.8)
    )
    assert [(one.kind, one.image, one.label) for one in picked(rows, DecisionRule())] == [
        ("mistake", "0.jpg", "rust"),
        ("mistake", "2.jpg", "scab"),
        ("sample", "0.jpg", "rust"),
        ("sample", "2.jpg", "scab"),
        ("sample", "1.jpg", "rust"),
        ("sample", "3.jpg", "rust"),
    ]


def test_with_several_classes_an_image_a_missing_one_is_a_mistake() -> None:
    probabilities = torch.tensor([[0.9, 0.8], [0.6, 0.1], [0.2, 0.1]], dtype=torch.float64)
    rows = Predictions(CLASSES, ("a", "b", "c"), probabilities, (("rust", "scab"), ("rust", "scab"), ("scab",)))
    found = picked(rows, DecisionRule((0.5, 0.5), allows_none=True))
    assert [one.image for one in found if one.kind == "mistake"] == ["c", "b"]


def test_pictures_are_small_jpegs_that_the_report_can_read(photographs: Path) -> None:
    write_thumbnails(photographs / "thumbnails.jsonl", photographs, judged(("0.jpg", ("rust",), 0.1)), DecisionRule())
    found, trouble = thumbnails_at(photographs)
    assert trouble == ""
    assert [(one.kind, one.image, one.label) for one in found] == [
        ("mistake", "0.jpg", "rust"),
        ("sample", "0.jpg", "rust"),
    ]
    assert Image.open(io.BytesIO(found[0].jpeg)).size == (160, 80)


def test_an_image_that_cannot_be_read_is_left_out(photographs: Path) -> None:
    rows = judged(("broken.jpg", ("rust",), 0.1), ("gone.jpg", ("rust",), 0.1), ("1.jpg", ("scab",), 0.1))
    write_thumbnails(photographs / "thumbnails.jsonl", photographs, rows, DecisionRule())
    assert [row["image"] for row in lines(photographs / "thumbnails.jsonl")] == ["1.jpg"]


def test_the_file_keeps_within_its_bytes(photographs: Path) -> None:
    rows = judged(*((f"{number}.jpg", ("rust",), 0.1) for number in range(10)))
    path = photographs / "thumbnails.jsonl"
    write_thumbnails(path, photographs, rows, DecisionRule(), most_bytes=25_000)
    assert 0 < path.stat().st_size <= 25_000
    assert all(base64.b64decode(row["jpeg"]).startswith(b"\xff\xd8\xff") for row in lines(path))


def test_no_time_is_spent_beyond_the_bound(photographs: Path) -> None:
    rows = judged(*((f"{number}.jpg", ("rust",), 0.1) for number in range(10)))
    path = photographs / "thumbnails.jsonl"
    write_thumbnails(path, photographs, rows, DecisionRule(), most_seconds=-1.0)
    assert path.read_bytes() == b""


def test_some_mistakes_are_explained_after_all_pictures(photographs: Path) -> None:
    rows = judged(("0.jpg", ("rust",), 0.1), ("1.jpg", ("rust",), 0.9), ("2.jpg", ("scab",), 0.7))
    asked: list[tuple[str, str]] = []

    def explain(image: str, class_name: str) -> Image.Image | None:
        asked.append((image, class_name))
        return None if image == "2.jpg" else Image.new("RGB", (64, 64))

    write_thumbnails(photographs / "thumbnails.jsonl", photographs, rows, DecisionRule(), explain=explain)
    assert asked == [("0.jpg", "scab"), ("2.jpg", "rust")]
    found = [(row["kind"], row["image"], row["label"]) for row in lines(photographs / "thumbnails.jsonl")]
    assert found[-1] == ("gradcam", "0.jpg", "scab")
    assert [kind for kind, _, _ in found[:-1]] == ["mistake", "mistake", "sample", "sample", "sample"]
    assert [one.kind for one in thumbnails_at(photographs)[0]] == ["mistake", "mistake", "gradcam", *["sample"] * 3]


def test_explanations_are_within_the_bytes_of_the_file(photographs: Path) -> None:
    rows = judged(("0.jpg", ("rust",), 0.1))
    path = photographs / "thumbnails.jsonl"
    write_thumbnails(path, photographs, rows, DecisionRule())
    size = path.stat().st_size
    noise = Image.effect_noise((160, 160), 60).convert("RGB")
    write_thumbnails(path, photographs, rows, DecisionRule(), explain=lambda *_: noise, most_bytes=size + 10)
    assert path.stat().st_size == size
