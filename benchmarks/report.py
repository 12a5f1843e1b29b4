"""Time `cloudrun report` on a made-up run of 12 classes and 4,000 judged images, and weigh its page.

python -m benchmarks.report [FOLDER]      (FOLDER keeps the page, and a comparison of three such runs)
"""

from __future__ import annotations

import base64
import io
import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image, ImageChops, ImageDraw, ImageOps

from cloudrun.recipe.train_config import TrainConfig
from cloudrun.state.ledger import Ledger
from cloudrun.state.records import DataCheck, Phase, Quote
from cloudrun.state.run import Run

CHECKOUT = Path(__file__).parents[1]
CLASSES = (
    "Black-grass", "Charlock", "Cleavers", "Common Chickweed", "Common wheat", "Fat Hen", "Loose Silky-bent", "Maize",
    "Scentless Mayweed", "Shepherds Purse", "Small-flowered Cranesbill", "Sugar beet",
)  # fmt: skip
IMAGES, EPOCHS = 4000, 30
_START = datetime(2026, 11, 27, 9, 0, tzinfo=UTC)
_CONFUSED = {0: 6, 6: 0, 4: 6, 9: 8, 11: 5}  # a class, and the one that it is taken for
_MISTAKES, _SAMPLES, _EXPLAINED, _SEEN = 24, 4, 12, 12
_SIDE = 160  # pixels of a thumbnail


class Judged(NamedTuple):
    """An image with the number of its class, and of the class that was predicted."""

    confidence: float
    image: str
    truth: int
    label: int


def main() -> int:
    """Print seconds and bytes; returns the exit code of the last command."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(temporary)
        runs = [
            made_up_run(folder, f"seedlings-1127-{name}", seed) for seed, name in enumerate(("k3x9a", "m7p2c", "q8w4z"))
        ]
        for run in runs:
            Ledger(folder / "home").add(run)
        ids = [run.run_id for run in runs]
        return max(_timed(folder, names) for names in (ids[:1], ids))


def _timed(folder: Path, run_ids: list[str]) -> int:
    """Print what `cloudrun report` takes for these runs; returns its exit code."""
    env = {**os.environ, "CLOUDRUN_HOME": str(folder / "home"), "PYTHONPATH": str(CHECKOUT)}
    command = [sys.executable, "-m", "cloudrun", "report", *run_ids]
    cpu_s, began = _cpu_s_of_children(), time.monotonic()
    done = subprocess.run(command, cwd=folder, env=env, stdout=subprocess.PIPE, text=True, check=False)
    took_s, cpu_s = time.monotonic() - began, _cpu_s_of_children() - cpu_s
    size = Path(done.stdout.strip()).stat().st_size if done.returncode == 0 else 0
    print(f"{len(run_ids)} run(s): {took_s:.2f} s, {cpu_s:.2f} s of CPU, {size / 1e6:.2f} MB: {done.stdout.strip()}")
    return done.returncode


def _cpu_s_of_children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def made_up_run(folder: Path, run_id: str, seed: int) -> Run:
    """A finished run of `IMAGES` validation images, with its results in `folder`/runs; nothing of it ever ran."""
    home = folder / "runs" / run_id
    (home / "checkpoints").mkdir(parents=True)
    (home / "checkpoints" / "best.pt").write_bytes(b"weights")
    draw = random.Random(seed)
    best = _write_metrics(home, draw)
    _write_machine(home, draw)
    rows = _write_predictions(home, draw)
    _write_thumbnails(home, rows, draw)
    _write_summary(home, rows, best)
    return _record(run_id, home, seed).checked(_data_check(rows))


def _data_check(rows: list[Judged]) -> DataCheck:
    val = Counter(CLASSES[one.truth] for one in rows)
    warning = (
        "3 photograph(s) stand in train and in val as copies (turned, mirrored, cropped or saved anew): the score"
        " will be too good; train/Maize/0417.png = val/Maize/00019.png"
    )
    counts = {"train": {name: 4 * count for name, count in val.items()}, "val": dict(val)}
    return DataCheck(counts=counts, were_compared=True, warnings=(warning,))


def _write_metrics(home: Path, draw: random.Random) -> int:
    lines, best = [], (0.0, 1)
    for epoch in range(1, EPOCHS + 1):
        done = epoch / EPOCHS
        lr = 3e-4 * min(epoch / 5, (1 - done) ** 0.8 + 0.02)
        speed = 412 + draw.gauss(0, 9)
        for kind, loss, accuracy in (
            ("train", 2.3 * (1 - done) ** 2 + 0.62, 0.99 - 0.8 * (1 - done) ** 3),
            ("val", 2.1 * (1 - done) ** 2.2 + 0.2 + 0.04 * done**4, 0.968 - 0.7 * (1 - done) ** 3.4),
        ):
            accuracy += draw.gauss(0, 0.004)
            if kind == "val":
                best = max(best, (accuracy, epoch))
            moment = _START + timedelta(minutes=4, seconds=11 * epoch + draw.randrange(3))
            row = {
                "kind": kind, "epoch": epoch, "step": 60 * epoch, "loss": loss + draw.gauss(0, 0.02),
                "accuracy": accuracy, "lr": lr, "images_per_s": round(speed, 2), "time": moment.isoformat(),
                **({"wait_share": max(draw.gauss(0.04, 0.02), 0.0)} if kind == "train" else {}),
            }  # fmt: skip
            lines.append(json.dumps(row) + "\n")
    (home / "metrics.jsonl").write_text("".join(lines))
    return best[1]


def _write_machine(home: Path, draw: random.Random) -> None:
    lines = []
    for second in range(0, 399, 5):
        is_training = second > 20 and second % 65 > 5
        gpu = {
            "index": 0, "use_percent": min(draw.gauss(91, 5), 100.0) if is_training else max(draw.gauss(6, 4), 0.0),
            "memory_used_bytes": 31e9 if second > 20 else 2e9, "memory_bytes": 80e9,
            "power_w": draw.gauss(305, 12) if is_training else draw.gauss(92, 5),
            "temperature_c": round(38 + 25 * (1 - 2.7 ** (-second / 60))),
        }  # fmt: skip
        moment = _START + timedelta(seconds=231 + second)
        row = {"time": moment.isoformat(), "cpu_percent": draw.gauss(44, 6), "gpus": [gpu]}
        lines.append(json.dumps(row) + "\n")
    (home / "machine.jsonl").write_text("".join(lines))


def _write_predictions(home: Path, draw: random.Random) -> list[Judged]:
    rows: list[Judged] = []
    lines = [",".join(["image", "truth", "label", "confidence", *CLASSES]) + "\n"]
    for number in range(IMAGES):
        truth = min(int(draw.triangular(0, len(CLASSES), 7)), len(CLASSES) - 1)
        logits = [draw.gauss(0, 1) for _ in CLASSES]
        logits[truth] += draw.gauss(6.5, 1.6)
        if draw.random() < 0.08:
            logits[_CONFUSED.get(truth, draw.randrange(len(CLASSES)))] += draw.gauss(6, 1.5)
        powers = [2.718281828**value for value in logits]
        shares = [value / sum(powers) for value in powers]
        label = max(range(len(CLASSES)), key=shares.__getitem__)
        image = f"val/{CLASSES[truth]}/{number:05}.png"
        lines.append(
            f"{image},{CLASSES[truth]},{CLASSES[label]},{shares[label]:.6f},{','.join(f'{s:.6f}' for s in shares)}\n"
        )
        rows.append(Judged(shares[label], image, truth, label))
    (home / "predictions-val.csv").write_text("".join(lines))
    return rows


def _write_thumbnails(home: Path, rows: list[Judged], draw: random.Random) -> None:
    wrong = sorted((row for row in rows if row.truth != row.label), reverse=True)[:_MISTAKES]
    samples = [row for at in range(len(CLASSES)) for row in [one for one in rows if one.truth == at][:_SAMPLES]]
    leaves = [_leaf(one.truth, draw) for one in wrong]
    lines = [
        _line("mistake", one.image, CLASSES[one.truth], _jpeg(leaf)) for one, leaf in zip(wrong, leaves, strict=True)
    ]
    lines += [_line("sample", one.image, CLASSES[one.truth], _jpeg(_leaf(one.truth, draw))) for one in samples]
    for one, leaf in list(zip(wrong, leaves, strict=True))[:_EXPLAINED]:
        lines += [_line("gradcam", one.image, CLASSES[one.label], _jpeg(_warmed(leaf, draw)))]
    (home / "thumbnails.jsonl").write_text("".join(lines))
    seen = [draw.randrange(len(CLASSES)) for _ in range(_SEEN)]
    turned = [(at, _leaf(at, draw).rotate(draw.randrange(360), fillcolor=(124, 116, 104))) for at in seen]
    augmented = [_line("augmented", "", CLASSES[at], _jpeg(image)) for at, image in turned]
    (home / "augmented.jsonl").write_text("".join(augmented))


def _warmed(leaf: Image.Image, draw: random.Random) -> Image.Image:
    """The drawing in grey, warm around some place, as Grad-CAM shows it."""
    warm = Image.new("RGB", leaf.size, (255, 96, 0))
    spot = ImageOps.invert(Image.radial_gradient("L")).resize(leaf.size)
    mask = ImageChops.offset(spot.point(lambda value: 0.6 * value), draw.randrange(-40, 40), draw.randrange(-40, 40))
    return Image.composite(warm, ImageOps.grayscale(leaf).convert("RGB"), mask)


def _line(kind: str, image: str, label: str, jpeg: bytes) -> str:
    row = {"image": image, "kind": kind, "label": label, "jpeg": base64.b64encode(jpeg).decode()}
    return json.dumps(row) + "\n"


def _jpeg(picture: Image.Image) -> bytes:
    content = io.BytesIO()
    picture.save(content, "JPEG", quality=80)
    return content.getvalue()


def _leaf(truth: int, draw: random.Random) -> Image.Image:
    """A drawing of a plant on gravel."""
    noise = Image.effect_noise((_SIDE, _SIDE), 60).convert("RGB")
    picture = Image.blend(Image.new("RGB", (_SIDE, _SIDE), (140, 120, 100)), noise, 0.15)
    pen = ImageDraw.Draw(picture)
    middle = _SIDE / 2
    for _ in range(2 + truth % 5):
        across, down = draw.gauss(0, 34), draw.gauss(0, 34)
        wide, high = 10 + 2 * (truth % 4), 14 + 3 * (truth % 6)
        place = (middle + across - wide, middle + down - high, middle + across + wide, middle + down + high)
        pen.line((middle, middle, middle + across, middle + down), fill=(70, 110, 40), width=3)
        pen.ellipse(place, fill=(50 + 6 * truth, 140 + draw.randrange(50), 50))
    return picture


def _write_summary(home: Path, rows: list[Judged], best: int) -> None:
    right = sum(one.truth == one.label for one in rows) / len(rows)
    summary = {
        "best_epoch": best, "metric_name": "val_accuracy", "best_metric": right, "val_accuracy": right,
        "test_accuracy": None, "epochs": EPOCHS, "stopped_early": False, "classes": list(CLASSES),
        "images": {"train": 15960, "val": IMAGES, "test": 0}, "unreadable_images": ["train/Maize/0193.png"],
        "findings": [{"kind": "overfitting", "epoch": 27, "message": "validation loss rises while training loss falls",
                      "hint": "raise `dropout`, or train fewer epochs"}],
        "images_per_s": 412.4, "train_seconds": 342.1, "evaluation_seconds": 21.3, "evaluated_images": IMAGES,
        "device": "cuda", "gpu": "NVIDIA A100-SXM4-80GB", "processes": 1, "precision": "bf16", "batch_size": 64,
        "backbones": ["efficientnet_b3", "resnest50d"], "parameters": 36_200_000,
        "versions": {"python": "3.11.7", "torch": "2.15.0", "torchvision": "0.30.0", "timm": "1.0.31"},
    }  # fmt: skip
    (home / "summary.json").write_text(json.dumps(summary))


def _record(run_id: str, home: Path, seed: int) -> Run:
    def phase(name: str, since_s: int, until_s: int) -> dict[str, Any]:
        since, until = (_START + timedelta(seconds=second) for second in (since_s, until_s))
        return {"name": name, "from": since.isoformat(), "to": until.isoformat(), "seconds": float(until_s - since_s)}

    quote = Quote(
        machine="NVIDIA A100-SXM4-80GB", infra="runpod", region="EU-RO-1", gpu="A100-80GB:1", spot=False,
        hourly_usd=1.64, source="what runpod bills", as_of=_START,
    )  # fmt: skip
    train = TrainConfig(lr=(3e-4, 5e-4, 1e-3)[seed], seed=seed, mixup=(0, 0.2, 0.2)[seed], image_size=300)
    return Run(
        run_id=run_id, name="seedlings", created_at=_START, backend="sky", infra="runpod", gpu=("A100-80GB:1",),
        job={
            "name": "seedlings", "gpu": ["A100-80GB:1"], "data": {"source": "../data/seedlings", "labels": None},
            "train": train.model_dump(mode="json"), "budget": {"max_cost": 2.0, "max_hours": 1.0},
            "lifecycle": {"on_finish": "down", "idle_minutes": 10},
        },
        job_path=str(home / "job.yaml"), quote=quote, billed_from=_START, start_is="provider",
        released_at=_START + timedelta(seconds=672 + 40 * seed), end_is_proven=True, phase=Phase.SUCCEEDED,
        handed_over=True,
        started_at=_START + timedelta(seconds=95), finished_at=_START + timedelta(seconds=630), exit_code=0,
        phases=(phase("prepare", 95, 231), phase("run", 231, 630)), folder=str(home),
        fetch_began_at=_START + timedelta(seconds=632), home_at=_START + timedelta(seconds=655), home_complete=True,
    )  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
