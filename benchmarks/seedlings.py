"""Train for a real competition on this computer's cores: two pretrained backbones learn the plant seedlings.

Trains on the set's `train` (a twentieth of it, held out, chooses the epoch), and is judged once on its `val`, which the
trainer sees as its test folder.

python -m benchmarks.seedlings [OUT] [SEED]
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import yaml

from benchmarks.machine import CHECKOUT, heading

RECIPE = {
    "backbones": ["tf_efficientnet_lite0", "tf_efficientnet_lite1"], "image_size": 128, "epochs": 12, "batch_size": 32,
    "lr": 1e-3, "warmup_epochs": 1, "crop_scale_min": 0.5, "rotation_degrees": 180, "ema_decay": 0.99,
    "val_fraction": 0.05, "tta": "flip", "device": "cpu",
}  # fmt: skip


def main(shared: Path, out: Path, seed: int) -> None:
    """Train, and print the accuracy. A run that an interrupted benchmark left in `out` is resumed.

    The minutes are then those of the last part alone.
    """
    link_images(shared, out / "data")
    config = out / "config.yaml"
    config.write_text(yaml.safe_dump({**RECIPE, "seed": seed, "pretrained": str(shared / "weights")}))
    began = time.monotonic()
    command = [sys.executable, "-m", "trainer", "train", "--config", str(config)]
    subprocess.run([*command, "--data", str(out / "data"), "--out", str(out / "run")], cwd=CHECKOUT, check=True)
    minutes = (time.monotonic() - began) / 60
    summary = json.loads((out / "run" / "summary.json").read_text())
    print(f"{heading()}\n")
    print("| minutes | images/s | best epoch | held-out accuracy | accuracy on val |\n| --- | --- | --- | --- | --- |")
    print(
        f"| {minutes:.1f} | {summary['images_per_s']} | {summary['best_epoch']} of {summary['epochs']} "
        f"| {summary['val_accuracy']:.4f} | **{summary['test_accuracy']:.4f}** |\n"
    )
    print("| class | recall on val |\n| --- | --- |")
    for name, recall in summary["test_recall"].items():
        print(f"| {name} | {recall:.3f} |")


def link_images(shared: Path, data: Path) -> None:
    """Make a data folder whose test images are the set's `val`."""
    data.mkdir(parents=True, exist_ok=True)
    for part, split in (("train", "train"), ("test", "val")):
        link = data / part
        link.unlink(missing_ok=True)
        link.symlink_to(shared / "data" / "plant-seedlings" / split)


if __name__ == "__main__":
    main(
        Path(os.environ.get("CLOUDRUN_SHARED", CHECKOUT.parent / "shared")).resolve(),
        Path(sys.argv[1]) if len(sys.argv) > 1 else Path(tempfile.mkdtemp(prefix="seedlings-")),
        int(sys.argv[2]) if len(sys.argv) > 2 else 0,
    )
