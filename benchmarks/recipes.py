"""Show what an option of the recipe is worth: the same seeds with it and without it, on photographs of plants.

Each set is a small share of its images, so that many seeds fit into an hour on two cores, and the test images are all
the others: a difference is then that of the recipe, and less that of chance in the test. A run's result is kept in a
file, by its config and seed: what was interrupted goes on, and what was run is not run again.

python -m benchmarks.recipes OUT                     every option of OPTIONS, on both sets, three seeds
python -m benchmarks.recipes OUT mixup gem           these alone
python -m benchmarks.recipes OUT --seeds 5 --set potatoes mixup
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import os
import random
import shutil
import statistics
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from benchmarks.machine import CHECKOUT, heading

# The recipe that each option is added to. Short runs of one small backbone: what wins here wins for few images.
BASES: Mapping[str, Mapping[str, Any]] = {
    "seedlings": {
        "backbones": ["tf_efficientnet_lite0"], "image_size": 96, "epochs": 8, "batch_size": 32, "lr": 1e-3,
        "warmup_epochs": 1, "crop_scale_min": 0.5, "rotation_degrees": 180, "ema_decay": 0.98, "val_fraction": 0.1,
        "device": "cpu", "workers": 0,
    },
    "potatoes": {
        "backbones": ["mobilenetv3_small_050"], "pretrained": False, "image_size": 128, "epochs": 8, "batch_size": 32,
        "lr": 2e-3, "warmup_epochs": 1, "crop_scale_min": 0.3, "dropout": 0.2, "device": "cpu", "workers": 0,
    },
}  # fmt: skip
TRAINED = {"seedlings": 100, "potatoes": 200}
"""Images a class that train; the others are the test set."""
FOLDERS = {"seedlings": "plant-seedlings", "potatoes": "plantvillage-potato"}

OPTIONS: Mapping[str, Mapping[str, Any]] = {
    "views": {"tta": "dihedral"},
    "two sizes": {"tta": "flip", "tta_sizes": [1, 1.25]},
    "larger test": {"test_image_size": 128},
    "larger last epochs": {"final_image_size": 128, "final_epochs": 2},
    "swa": {"swa_epochs": 3, "ema_decay": 0},
    "soup": {"soup": 3},
    "dihedral": {"flips": "dihedral"},
    "trivial": {"augment": "trivial", "plain_epochs": 2},
    "rand": {"augment": "rand", "plain_epochs": 2},
    "erasing": {"random_erasing": 0.25},
    "mixup": {"mixup": 0.2, "plain_epochs": 2},
    "cutmix": {"cutmix": 1.0, "plain_epochs": 2},
    "balanced sampler": {"sampler": "balanced"},
    "frozen": {"frozen_epochs": 1},
    "generalised ce": {"loss": "generalized_ce"},
    "symmetric ce": {"loss": "symmetric_ce"},
    "bce": {"loss": "bce"},
    "logit adjustment": {"logit_adjustment": 1},
    "gem": {"pooling": "gem"},
    "several dropouts": {"dropout_samples": 5},
    "arcface": {"head": "arcface"},
    "drop path": {"drop_path": 0.1},
    "slower backbone": {"backbone_lr": 0.3},
}
"""What is added to the base, by the name of a row."""


def main(out: Path, names: Sequence[str], sets: Sequence[str], seeds: int) -> None:
    shared = Path(os.environ.get("CLOUDRUN_SHARED", CHECKOUT.parent / "shared")).resolve()
    print(f"{heading()}; {seeds} seeds\n", flush=True)
    for data_set in sets:
        data = share(shared / "data" / FOLDERS[data_set], out / data_set, TRAINED[data_set])
        base = {**BASES[data_set]}
        base.setdefault("pretrained", str(shared / "weights"))
        alone = [result(base, data, out, seed) for seed in range(seeds)]
        error = statistics.stdev(alone) / math.sqrt(seeds) if seeds > 1 else 0.0
        print(f"| {data_set}: test accuracy | by seed | mean | difference, standard error |\n| --- | --- | --- | --- |")
        print(f"| the base | {by_seed(alone)} | {statistics.mean(alone):.4f} ± {error:.4f} | |", flush=True)
        for name in names:
            with_it = [result({**base, **OPTIONS[name]}, data, out, seed) for seed in range(seeds)]
            print(row(name, alone, with_it), flush=True)
        print()


def row(name: str, alone: Sequence[float], with_it: Sequence[float]) -> str:
    """Return a line of the table: the mean of the differences by seed, and that mean's standard error."""
    differences = [after - before for before, after in zip(alone, with_it, strict=True)]
    error = statistics.stdev(differences) / math.sqrt(len(differences)) if len(differences) > 1 else math.nan
    keys = ", ".join(f"`{key}: {value}`" for key, value in OPTIONS[name].items())
    mean = statistics.mean(with_it)
    return f"| {name} ({keys}) | {by_seed(with_it)} | {mean:.4f} | {statistics.mean(differences):+.4f} ± {error:.4f} |"


def by_seed(values: Sequence[float]) -> str:
    return ", ".join(f"{value:.4f}" for value in values)


def result(config: Mapping[str, Any], data: Path, out: Path, seed: int) -> float:
    """Return the test accuracy of the run, from its file where it was run before."""
    whole = {**config, "seed": seed}
    key = hashlib.sha256(json.dumps([data.name, whole], sort_keys=True).encode()).hexdigest()[:16]
    kept = out / "results" / f"{key}.json"
    if not kept.exists():
        run = out / "runs" / key
        shutil.rmtree(run, ignore_errors=True)
        run.mkdir(parents=True)
        (run / "config.yaml").write_text(yaml.safe_dump(whole))
        command = [sys.executable, "-m", "trainer", "train", "--config", str(run / "config.yaml"), "--data", str(data)]
        with (run / "log.txt").open("w") as log:
            subprocess.run([*command, "--out", str(run / "out")], cwd=CHECKOUT, check=True, stdout=log, stderr=log)
        summary = json.loads((run / "out" / "summary.json").read_text())
        kept.parent.mkdir(exist_ok=True)
        kept.write_text(json.dumps({"data": data.name, "config": whole, "summary": summary}))
        shutil.rmtree(run)
    accuracy: float = json.loads(kept.read_text())["summary"]["test_accuracy"]
    return accuracy


def share(source: Path, data: Path, a_class: int) -> Path:
    """Link `a_class` images of each class, drawn once for all runs, as `train`, and all others as `test`."""
    shutil.rmtree(data, ignore_errors=True)
    files: dict[str, list[Path]] = {}
    for file in sorted(path for path in source.rglob("*") if path.is_file() and path.parent.parent.parent == source):
        files.setdefault(file.parent.name, []).append(file)
    for name, images in files.items():
        random.Random(0).shuffle(images)
        for number, image in enumerate(images):
            folder = data / ("train" if number < a_class else "test") / name
            folder.mkdir(parents=True, exist_ok=True)
            (folder / f"{image.parent.parent.name}-{image.name}").symlink_to(image)
    return data


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("names", nargs="*", help=f"of {', '.join(OPTIONS)}")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--set", dest="sets", action="append", choices=list(BASES))
    asked = parser.parse_args()
    main(asked.out.absolute(), asked.names or list(OPTIONS), asked.sets or list(BASES), asked.seeds)
