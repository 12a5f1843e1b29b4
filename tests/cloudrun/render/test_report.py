"""The report page, made from the files of a fetched run."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import shutil
import subprocess
from collections.abc import Sequence
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from cloudrun.billing.receipt import receipt
from cloudrun.protocol.metrics import metrics_at
from cloudrun.render.report import Member, comparison_html, report_html
from cloudrun.state.records import DataCheck, Interval, Phase
from tests.support.bad_files import BAD
from tests.support.desk import MOMENT
from tests.support.runs import START, a_skypilot_run, a_slurm_quote

JPEG = b"\xff\xd8\xff\xe0 a small picture"
HOSTILE = "</title><script>alert(1)</script>'\"&<img src=x onerror=alert(2)>\u202egnp.exe\x07"
CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
_VOID = {"meta", "img", "br", "link", "line", "path", "circle"}


class Markup(HTMLParser):
    """What is in a page: the tags in order, the attributes, the texts by tag. Raises where tags do not match."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.texts: list[tuple[str, str]] = []
        self.feed(page)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        self.open += [] if tag in _VOID else [tag]

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes += [(tag, name, value or "") for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append((self.open[-1] if self.open else "", data))

    def of(self, tag: str) -> list[str]:
        return [text for inside, text in self.texts if inside == tag]

    def values(self, name: str) -> list[str]:
        return [value for _, found, value in self.attributes if found == name]


def page(folder: Path, run: Any = None, **summary: Any) -> str:
    (folder / "summary.json").write_text(json.dumps(summary))
    run = run or a_skypilot_run(quote=a_slurm_quote(3.6), billed_from=START)
    return report_html(run, folder, receipt(run, START))


def metrics(folder: Path, *rows: dict[str, Any]) -> None:
    lines = [json.dumps({"time": MOMENT, **row}) + "\n" for row in rows]
    (folder / "metrics.jsonl").write_text("".join(lines))


def predictions(folder: Path, classes: Sequence[str], *rows: tuple[str, str, str, float]) -> None:
    """Rows of image, truth, label and confidence; the other classes share what is left."""
    lines = [f"image,truth,label,confidence,{','.join(classes)}"]
    for image, truth, label, sure in rows:
        rest = (1 - sure) / (len(classes) - 1)
        shares = ",".join(f"{sure if name == label else rest:.6f}" for name in classes)
        lines.append(f"{image},{truth},{label},{sure},{shares}")
    (folder / "predictions-val.csv").write_text("\n".join(lines) + "\n")


def thumbnails(folder: Path, *rows: tuple[str, str, str]) -> None:
    jpeg = base64.b64encode(JPEG).decode()
    lines = [json.dumps({"image": image, "kind": kind, "label": label, "jpeg": jpeg}) for image, kind, label in rows]
    (folder / "thumbnails.jsonl").write_text("\n".join(lines) + "\n")


def headings(shown: str) -> list[str]:
    return Markup(shown).of("h2")


def a_trained_run(folder: Path) -> str:
    """A page with every section that a run without folds can have."""
    metrics(
        folder,
        {"kind": "train", "epoch": 1, "loss": 1.0, "accuracy": 0.5, "lr": 3e-4, "images_per_s": 90, "wait_share": 0.1},
        {"kind": "val", "epoch": 1, "loss": 0.9, "accuracy": 0.75},
        {"kind": "train", "epoch": 2, "loss": 0.5, "accuracy": 0.7, "lr": 1e-5, "images_per_s": 99, "wait_share": 0.0},
        {"kind": "val", "epoch": 2, "loss": 0.8, "accuracy": 0.7},
    )
    predictions(
        folder,
        ("rust", "scab"),
        ("val/1.jpg", "rust", "rust", 0.9),
        ("val/2.jpg", "rust", "scab", 0.8),
        ("val/3.jpg", "scab", "scab", 0.7),
        ("val/4.jpg", "scab", "scab", 0.6),
    )
    thumbnails(folder, ("val/2.jpg", "mistake", "rust"), ("train/7.jpg", "sample", "scab"))
    train = {"seed": 3, "lr": 1e-3, "epochs": 2, "dropout": 0.3}
    budget = {"max_cost": 5.0, "max_hours": 4.0}
    run = a_skypilot_run(
        quote=a_slurm_quote(3.6), billed_from=START, phase=Phase.SUCCEEDED, job={"train": train, "budget": budget}
    )
    return page(
        folder, run, best_epoch=1, val_accuracy=0.75, images={"train": 40, "val": 4, "test": 0}, gpu="A100",
        versions={"torch": "2.15.0"}, backbones=["resnet18"], findings=[], test_recall={"rust": 0.5, "scab": None},
        unused_files=[{"reason": "no class", "count": 2, "examples": ["a.png", "b.png"]}],
    )  # fmt: skip


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


def test_a_run_without_results_has_its_cost_and_its_job_alone(tmp_path: Path) -> None:
    assert headings(page(tmp_path)) == ["Curves", "Cost", "How it was made"]


def test_a_trained_run_has_every_section_that_its_files_give(tmp_path: Path) -> None:
    shown = a_trained_run(tmp_path)
    assert headings(shown) == [
        "What the score rests on", "Curves", "Classes", "The surest mistakes", "Confidence", "Samples of each class",
        "Cost", "How it was made",
    ]  # fmt: skip
    linked = re.findall(r'href="#([a-z]+)"', shown)
    assert set(linked) <= set(re.findall(r'id="([a-z]+)"', shown))
    captions = Markup(shown).of("figcaption")
    assert captions == [
        "Accuracy", "Loss", "Learning rate", "Images a second", "Time spent waiting for images", "Reliability",
        "Precision by recall",
    ]  # fmt: skip


def test_the_score_is_shown_with_what_it_rests_on(tmp_path: Path) -> None:
    shown = a_trained_run(tmp_path)
    assert "75.0% of 4 images are right, held out from training. By chance alone" in shown
    assert "would give 30.1% to 95.4% (95 % interval)" in shown
    assert "Images: 40 trained, 4 validated." in shown
    assert "2 file(s) were not used: no class (a.png, b.png)" in shown


def test_what_the_look_at_the_images_found_stands_beside_the_score(tmp_path: Path) -> None:
    warning = "2 photograph(s) stand in train and in val as copies: the score will be too good"
    found = DataCheck(
        counts={"val": {"<b>": 2}, "train": {"<b>": 8, "scab": 40}}, were_compared=True, warnings=(warning,)
    )
    shown = page(tmp_path, a_skypilot_run(data_check=found), images={"train": 48, "val": 2})
    assert f"<li>{warning}</li>" in shown
    assert "Before the launch the images were compared with each other, across the splits; what was found" in shown
    section = re.search(r'<section id="images".*?</section>', shown, re.DOTALL)
    assert section is not None
    assert Markup(section[0]).of("bdi") == ["scab", "<b>"]
    assert Markup(section[0]).of("td") == ["40", "0", "8", "2"]
    assert 'style="--share: 20.0%">8<' in shown


def test_images_that_nobody_compared_are_said_to_be_not_compared(tmp_path: Path) -> None:
    predictions(tmp_path, ("a", "b"), ("1.jpg", "a", "a", 0.9))
    assert "on both sides of the split was not looked for before the launch" in page(tmp_path)
    compared = page(tmp_path, a_skypilot_run(data_check=DataCheck(were_compared=True)))
    assert "across the splits: nothing to doubt was found" in compared


def test_the_confusion_matrix_counts_images_by_true_and_predicted_class(tmp_path: Path) -> None:
    matrix = re.search(r'<table class="matrix">(.*?)</table>', a_trained_run(tmp_path), re.DOTALL)
    assert matrix is not None
    assert Markup(matrix[0]).of("td") == ["1", "1", "·", "2"]
    assert "<b>1</b> of <bdi>rust</bdi> taken for <bdi>scab</bdi>" in a_trained_run(tmp_path)


def test_classes_are_rated_with_the_weakest_first(tmp_path: Path) -> None:
    shown = Markup(a_trained_run(tmp_path)).of("td")
    first = shown.index("100.0%")
    assert shown[first : first + 8] == ["100.0%", "50.0%", "0.667", "2", "66.7%", "100.0%", "0.800", "2"]


def test_a_mistake_shows_its_picture_its_truth_and_what_was_predicted(tmp_path: Path) -> None:
    shown = a_trained_run(tmp_path)
    uri = f"data:image/jpeg;base64,{base64.b64encode(JPEG).decode()}"
    assert f'<img src="{uri}" alt="val/2.jpg">' in shown
    assert "predicted</span> <b><bdi>scab</bdi></b> 80.0%" in shown
    assert "truth</span> <b><bdi>rust</bdi></b>" in shown


def test_what_spoke_for_a_mistake_stands_below_its_picture(tmp_path: Path) -> None:
    predictions(tmp_path, ("a", "b"), ("1.jpg", "a", "b", 0.9), ("2.jpg", "a", "b", 0.8))
    thumbnails(tmp_path, ("1.jpg", "mistake", "a"), ("2.jpg", "mistake", "a"), ("1.jpg", "gradcam", "b"))
    assert re.findall(r'<img [^>]*alt="([^"]*)"', page(tmp_path)) == ["1.jpg", "What spoke for b in 1.jpg", "2.jpg"]


def test_augmented_training_images_have_a_section(tmp_path: Path) -> None:
    thumbnails(tmp_path, ("", "augmented", "rust + scab"))
    (tmp_path / "thumbnails.jsonl").rename(tmp_path / "augmented.jsonl")
    shown = page(tmp_path)
    assert "What the model saw" in headings(shown)
    assert 'alt="A training image of rust + scab, augmented"' in shown
    assert "Samples of each class" not in headings(shown)


def test_mistakes_without_pictures_are_a_table(tmp_path: Path) -> None:
    predictions(tmp_path, ("a", "b"), ("1.jpg", "a", "b", 0.9), ("2.jpg", "a", "b", 0.95))
    shown = page(tmp_path)
    assert "<img" not in shown
    assert [text for text in Markup(shown).of("bdi") if text.endswith(".jpg")] == ["2.jpg", "1.jpg"]


def test_each_chart_has_its_values_in_words_and_as_a_table(tmp_path: Path) -> None:
    shown = a_trained_run(tmp_path)
    assert 'aria-label="Accuracy by epoch, training and validation; best epoch: epoch 1: training 50.0%' in shown
    assert "<title>epoch 2: training 70.0%, validation 70.0%</title>" in shown
    assert '<p class="readout">epoch 1: training 50.0%, validation 75.0%</p>' in shown
    table = re.search(r"<caption>Accuracy by epoch</caption>.*?</table>", shown, re.DOTALL)
    assert table is not None
    assert re.findall(r">([^<>\s]+)</t[dh]>", table[0]) == [
        "epoch", "training", "validation", "1", "50.0%", "75.0%", "2", "70.0%", "70.0%",
    ]  # fmt: skip
    assert shown.count('role="img"') == len(Markup(shown).of("figcaption"))


def test_a_machine_has_its_curves_and_a_gpu_that_idles_is_named(tmp_path: Path) -> None:
    def sample(minute: int) -> str:
        gpus = [
            {"index": index, "use_percent": use, "memory_used_bytes": 8e9, "memory_bytes": 80e9, "power_w": 70.0}
            for index, use in enumerate((20.0, 90.0))
        ]
        return json.dumps({"time": f"2026-11-24T12:{minute:02}:00Z", "cpu_percent": 55.0, "gpus": gpus})

    (tmp_path / "machine.jsonl").write_text("\n".join([*map(sample, range(10)), "{", '{"gpus": 3}']) + "\n")
    shown = page(tmp_path)
    assert "<title>minutes 9.0: GPU 0 20.0%, GPU 1 90.0%</title>" in shown
    assert "<title>minutes 9.0: GPU 0 10.0%, GPU 1 10.0%</title>" in shown
    captions = Markup(shown).of("figcaption")
    assert captions == ["GPU use", "GPU memory", "GPU power in watts", "Use of the machine's cores"]
    assert "GPU 0 idled 80% of the training (10 samples); likely cause: each step is small for this card" in shown
    assert "GPU 1 idled" not in shown


def test_a_long_run_has_means_of_its_samples(tmp_path: Path) -> None:
    rows = (
        {
            "time": f"2026-11-24T{second // 3600:02}:{second // 60 % 60:02}:{second % 60:02}Z",
            "cpu_percent": 50 + second % 2,
        }
        for second in range(5000)
    )
    (tmp_path / "machine.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    shown = page(tmp_path)
    assert shown.count('class="hit"') <= 150
    assert "all cores 50.5%" in shown


def test_the_metric_of_the_competition_is_a_figure_and_a_curve(tmp_path: Path) -> None:
    metrics(tmp_path, *({"kind": "val", "epoch": epoch, "accuracy": 0.5, "f_beta": 0.1 * epoch} for epoch in (1, 2)))
    found = Markup(page(tmp_path, metric_name="val_f_beta", best_metric=0.2, val_accuracy=0.5, test_metric=0.15))
    assert found.of("dt")[:3] == ["test F-beta", "best validation F-beta", "best validation accuracy"]
    assert found.of("dd")[:3] == ["0.1500", "0.2000", "50.0%"]
    assert found.of("figcaption") == ["F-beta", "Accuracy"]


def test_settings_that_differ_from_the_defaults_are_shown_with_these(tmp_path: Path) -> None:
    shown = a_trained_run(tmp_path)
    changed = re.search(r"differ from the defaults</caption>(.*?)</table>", shown, re.DOTALL)
    assert changed is not None
    assert re.findall(r">([^<>]+)</t[dh]>", changed[1])[3:] == [
        "epochs", "2", "30", "lr", "0.001", "3e-4", "seed", "3", "0",
    ]  # fmt: skip
    assert "torch 2.15.0" in shown
    assert "cloudrun launch job.yaml" in shown
    assert "predict" not in Markup(shown).of("code")


def test_the_commit_that_the_run_was_launched_from_is_named(tmp_path: Path) -> None:
    assert "3fa9c2e17b0a with changes" in page(tmp_path, a_skypilot_run(commit="3fa9c2e17b0a with changes"))
    assert ">commit<" not in page(tmp_path)


def test_it_says_how_to_predict_where_there_is_a_checkpoint(tmp_path: Path) -> None:
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "best.pt").write_bytes(b"weights")
    assert "predict --checkpoint checkpoints/best.pt --data DIR --out predictions.csv" in page(tmp_path)


def test_folds_have_a_row_each_and_stacking_names_what_it_chose(tmp_path: Path) -> None:
    rates = {"images": 10, "accuracy": 0.9, "macro_f1": 0.85, "log_loss": 0.3, "roc_auc": None}
    fitted = {"temperature": 1.25, "log_loss_before": 0.31, "log_loss_after": 0.3, "is_applied": False}
    stacked = {"chosen": "average", "metric": "accuracy", "methods": {"average": rates, "<i>lgbm</i>": rates}}
    (tmp_path / "stacking.json").write_text(json.dumps(stacked))
    for fold in (0, 1):
        rows = [
            {"kind": "val", "epoch": 2 * fold + epoch, "fold": fold, "accuracy": 0.4 + fold / 10 + epoch / 10}
            for epoch in (1, 2)
        ]
        with (tmp_path / "metrics.jsonl").open("a") as file:
            file.writelines(json.dumps({**row, "time": MOMENT}) + "\n" for row in rows)
    (tmp_path / "oof.csv").write_text("image,label,truth,a,b\n1.jpg,a,a,0.9,0.1\n2.jpg,a,b,0.6,0.4\n")
    per_fold = [{"fold": 0, **rates}, {"fold": 1, **rates}]
    shown = page(tmp_path, per_fold=per_fold, out_of_fold=rates, calibration=fitted, metric_name="oof_accuracy")
    assert "Folds and stacking" in headings(shown)
    assert [text for text in Markup(shown).of("th") if "fold" in text] == ["fold 0", "fold 1"] * 2 + ["all out of fold"]
    assert "At the temperature 1.250 the log loss out of fold is 0.3000, and 0.3100 without it" in shown
    assert "&lt;i&gt;lgbm&lt;/i&gt;" in shown
    assert "<title>epoch 2: fold 0 60.0%, fold 1 70.0%</title>" in shown
    assert "each judged by the fold that did not train on it" in shown


def test_machines_of_a_resumed_run_are_listed_with_their_bills(tmp_path: Path) -> None:
    first = Interval(quote=a_slurm_quote(2.0), billed_from=START, released_at=START)
    shown = page(tmp_path, a_skypilot_run(earlier=(first,), billed_from=START))
    assert [text for text in Markup(shown).of("td") if "UTC" in text or "ended" in text] == [
        "24 Nov 2026, 12:00:00 UTC", "24 Nov 2026, 12:00:00 UTC", "24 Nov 2026, 12:00:00 UTC", "not ended yet",
    ]  # fmt: skip


def test_images_with_several_classes_have_no_matrix_and_are_rated_by_class(tmp_path: Path) -> None:
    rows = "1.jpg,a|b,a|b,0.8,0.9,0.8\n2.jpg,,a,0.6,0.6,0.1\n"
    (tmp_path / "predictions-val.csv").write_text(f"image,truth,label,confidence,a,b\n{rows}")
    shown = page(tmp_path)
    assert "Confusion matrix" not in shown
    assert "1 of 2 images are wrong" in shown
    assert "no class" in shown


def test_of_many_classes_the_weakest_have_a_precision_recall_curve(tmp_path: Path) -> None:
    classes = [f"class {number:02}" for number in range(12)]
    right = [(f"{name}.jpg", name, name, 0.9) for name in classes]
    wrong = [(f"{name}-2.jpg", name, classes[-1], 0.9) for name in classes[:9]]
    predictions(tmp_path, classes, *right, *wrong)
    shown = page(tmp_path)
    assert "Precision by recall, the weakest 8 classes" in shown
    averages = re.search(r"Average precision: (.*?)</p>", shown)
    assert averages is not None
    # The last class has the most false hits; of the others that are as weak as each other, the first ones.
    assert re.findall("<bdi>(.*?)</bdi>", averages[1]) == [*classes[:7], classes[-1]]


def test_a_hundred_classes_have_no_matrix_and_a_long_run_a_bounded_table(tmp_path: Path) -> None:
    classes = [f"class {number}" for number in range(100)]
    predictions(tmp_path, classes, *((f"{name}.jpg", name, name, 0.9) for name in classes))
    metrics(tmp_path, *({"kind": "val", "epoch": epoch, "loss": 1 / epoch} for epoch in range(1, 10_000)))
    shown = page(tmp_path, best_epoch=7777)
    assert "Confusion matrix" not in shown
    assert shown.count('class="hit"') < 700
    assert "epoch 7777: validation 0.0001" in shown
    assert "epoch 9999: validation 0.0001" in shown


@pytest.mark.parametrize("kind", BAD)
@pytest.mark.parametrize(
    "name", ["predictions-val.csv", "oof.csv", "thumbnails.jsonl", "stacking.json", "summary.json"]
)
def test_a_file_that_cannot_be_read_leaves_its_section_out(tmp_path: Path, name: str, kind: str) -> None:
    if name != "summary.json":
        (tmp_path / "summary.json").write_text("{}")
    BAD[kind](tmp_path / name)
    run = a_skypilot_run(quote=a_slurm_quote(3.6), billed_from=START)
    shown = headings(report_html(run, tmp_path, receipt(run, START)))
    assert [one for one in shown if one != "What the score rests on"] == ["Curves", "Cost", "How it was made"]


def test_rows_that_are_no_prediction_are_counted_and_left_out(tmp_path: Path) -> None:
    good = "1.jpg,a,a,0.9,0.9,0.1"
    odd = ["2.jpg,a,a,nan,0.9,0.1", "3.jpg,a,a,0.9,inf,0.1", "4.jpg,c,a,0.9,0.9,0.1", "5.jpg,a", "6.jpg,a,a,x,0.9,0.1"]
    (tmp_path / "predictions-val.csv").write_text("\n".join(["image,truth,label,confidence,a,b", good, *odd, ""]))
    shown = page(tmp_path)
    assert "predictions-val.csv: 5 line(s) that are no prediction are left out" in shown
    assert "100.0% of 1 images are right" in shown


def test_values_that_are_no_numbers_break_nothing(tmp_path: Path) -> None:
    metrics(
        tmp_path,
        {"kind": "train", "epoch": 1, "loss": 1e30, "accuracy": 0.5, "lr": 0.0, "images_per_s": -1e30},
        {"kind": "train", "epoch": 2, "loss": -1e30, "accuracy": 0.5, "lr": 1e-300, "wait_share": float("nan")},
        {"kind": "val", "epoch": 999_999, "loss": 0.0, "accuracy": 1.0},
        {"kind": "val", "epoch": 1, "loss": float("nan"), "accuracy": 0.5},
    )
    shown = page(tmp_path, val_accuracy=float("nan"), best_epoch=10**17, images={"train": -1}, parameters=float("inf"))
    Markup(shown)
    assert not re.search(r'="[^"]*\b(nan|inf)\b', shown)


def test_names_that_others_chose_are_shown_and_never_run(tmp_path: Path) -> None:
    quoted = '"' + HOSTILE.replace('"', '""') + '"'
    (tmp_path / "predictions-val.csv").write_text(
        f"image,truth,label,confidence,{quoted},b\n{quoted},b,{quoted},0.9,0.9,0.1\n{quoted},{quoted},b,0.9,0.1,0.9\n"
    )
    thumbnails(tmp_path, (HOSTILE, "mistake", HOSTILE), (HOSTILE, "sample", HOSTILE))
    run = a_skypilot_run(
        quote=a_slurm_quote(3.6), billed_from=START, name=HOSTILE, exit_code=1, message=HOSTILE, job={"name": HOSTILE}
    )
    finding = {"message": HOSTILE, "hint": HOSTILE, "epoch": None}
    shown = page(
        tmp_path, run, findings=[finding], unreadable_images=[HOSTILE], test_recall={HOSTILE: 0.5}, gpu=HOSTILE,
        versions={HOSTILE: HOSTILE}, unused_files=[{"reason": HOSTILE, "count": 1, "examples": [HOSTILE]}],
        per_fold=[{"fold": 0}], backbones=[HOSTILE],
    )  # fmt: skip
    found = Markup(shown)
    assert len(found.of("script")) == 1
    assert not [name for _, name, _ in found.attributes if name.startswith("on")]
    assert {value.split(",")[0] for tag, name, value in found.attributes if (tag, name) == ("img", "src")} == {
        "data:image/jpeg;base64"
    }
    assert "\u202e" not in shown
    assert "\x07" not in shown
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in shown


def test_the_values_of_env_are_on_no_page(tmp_path: Path) -> None:
    shown = page(tmp_path, a_skypilot_run(job={"name": "plants", "env": {"WANDB_API_KEY": "s3cret"}}))
    assert "WANDB_API_KEY: (not shown)" in shown
    assert "s3cret" not in shown


def test_what_came_after_the_best_epoch_is_priced_where_there_is_one_best_epoch(tmp_path: Path) -> None:
    times = ["2026-11-24T12:01:00+00:00", "2026-11-24T12:02:00+00:00", "2026-11-24T12:03:00+00:00"]
    scores = [0.5, 0.9, 0.9]
    metrics(
        tmp_path,
        *({"kind": "val", "epoch": at, "accuracy": score, "time": time}
          for at, (score, time) in enumerate(zip(scores, times, strict=True), start=1)),
    )  # fmt: skip
    run = a_skypilot_run(quote=a_slurm_quote(3.6), billed_from=START)
    cost = receipt(run, START, metrics_at(tmp_path)[0])
    assert "The epochs after epoch 2, the best one, cost $0.0600." in report_html(run, tmp_path, cost)
    (tmp_path / "summary.json").write_text('{"best_epoch": 3}')
    assert "the best one" not in report_html(run, tmp_path, cost)


def test_what_is_no_small_jpeg_is_no_thumbnail(tmp_path: Path) -> None:
    def line(content: bytes, kind: str = "sample") -> str:
        return json.dumps({"image": "a", "kind": kind, "label": "a", "jpeg": base64.b64encode(content).decode()})

    odd = [line(b"<svg onload='alert(1)'>"), line(JPEG + b"x" * 100_000), line(JPEG, "else"), "[]", '{"jpeg": "%%"}']
    (tmp_path / "thumbnails.jsonl").write_text("\n".join([*odd, line(JPEG)]))
    shown = page(tmp_path)
    assert shown.count("<img") == 1
    assert "5 line(s) are left out: no small JPEG" in shown


def test_thumbnails_are_taken_up_to_a_bound_and_mistakes_before_samples(tmp_path: Path) -> None:
    jpeg = base64.b64encode(JPEG + b"x" * 50_000).decode()
    sample = json.dumps({"image": "a", "kind": "sample", "label": "a", "jpeg": jpeg})
    (tmp_path / "thumbnails.jsonl").write_text("\n".join([sample] * 60))
    (tmp_path / "fold-0").mkdir()
    thumbnails(tmp_path / "fold-0", ("1.jpg", "mistake", "a"))
    predictions(tmp_path, ("a", "b"), ("1.jpg", "a", "b", 0.9))
    shown = page(tmp_path)
    assert 'alt="1.jpg"' in shown
    assert len(shown) < 3_000_000


def test_runs_that_are_compared_are_shown_and_never_run(tmp_path: Path) -> None:
    run = a_skypilot_run(
        quote=a_slurm_quote(3.6), billed_from=START, name=HOSTILE, job={"train": {"backbones": [HOSTILE]}}
    )
    metrics(tmp_path, {"kind": "val", "epoch": 1, "accuracy": 0.5}, {"kind": "val", "epoch": 1, "fold": HOSTILE})
    (tmp_path / "summary.json").write_text(json.dumps({"metric_name": HOSTILE, "val_accuracy": float("nan")}))
    other = a_skypilot_run(quote=a_slurm_quote(1.0), run_id="other", job={})
    found = Markup(
        comparison_html(
            [Member(run, tmp_path, receipt(run, START)), Member(other, tmp_path / "no", receipt(other, START))]
        )
    )
    assert len(found.of("script")) == 1
    assert not [name for _, name, _ in found.attributes if name.startswith("on")]
    assert "r" in found.of("bdi")


def test_the_page_loads_nothing_and_runs_its_own_script_alone(tmp_path: Path) -> None:
    shown = a_trained_run(tmp_path)
    found = Markup(shown)
    (script,) = found.of("script")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = next(value for value in found.values("content") if "default-src" in value)
    assert policy.startswith(
        f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"
    )
    assert not re.search(r"https?://|@import|url\(", shown)


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")
def test_in_a_browser_the_script_runs_and_each_chart_can_be_walked_through(tmp_path: Path) -> None:
    assert CHROMIUM is not None
    shown = a_trained_run(tmp_path)
    (tmp_path / "page.html").write_text(shown)
    done = subprocess.run(
        [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path}/profile", "--dump-dom",
         (tmp_path / "page.html").as_uri()],
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, timeout=120, check=True,
    )  # fmt: skip
    charts = shown.count('<figure class="chart">')
    assert len(re.findall(r'<svg [^>]*role="img"[^>]* tabindex="0"', done.stdout)) == charts
    assert done.stdout.count('aria-live="polite"') == charts
