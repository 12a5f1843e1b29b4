"""The report page, made from the files of a fetched run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from cloudrun.billing.receipt import receipt
from cloudrun.render.report import report_html
from tests.cloudrun.test_cost import START, a_run, quote


def page(folder: Path, **summary: Any) -> str:
    (folder / "summary.json").write_text(json.dumps(summary))
    run = a_run(quote=quote(3.6), billed_from=START)
    return report_html(run, folder, receipt(run, START))


def test_it_says_what_the_trainer_found_and_what_to_try(tmp_path: Path) -> None:
    finding = {
        "kind": "not_learning",
        "message": "train loss 1.09 is <as high> as chance",
        "hint": "lower `lr`",
        "epoch": 3,
    }
    shown = page(tmp_path, findings=[finding], unreadable_images=["train/rust/1.jpg"])
    assert "<b>Epoch 3:</b> train loss 1.09 is &lt;as high&gt; as chance<br>" in shown
    assert "Try: lower `lr`" in shown
    assert "<b>1 image(s) could not be read</b> and were skipped: train/rust/1.jpg</li>" in shown


def test_a_hundred_unreadable_images_are_counted_and_the_first_ones_named(tmp_path: Path) -> None:
    shown = page(tmp_path, unreadable_images=[f"train/{index}.jpg" for index in range(100)])
    assert "<b>100 image(s)" in shown
    assert "train/19.jpg, ...</li>" in shown
    assert "train/20.jpg" not in shown


def test_a_healthy_run_has_no_such_section(tmp_path: Path) -> None:
    assert "What the trainer found" not in page(tmp_path, findings=[], unreadable_images=[])
