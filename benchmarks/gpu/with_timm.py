"""Time timm's own train.py on the same images: each backbone alone, with the flags that suit it best.

timm's script is not in its package: `--timm` names it. The speed of two networks that see each image one after the
other is computed from both: their seconds an image are added up.
"""

from __future__ import annotations

import re
import subprocess
import tempfile
from statistics import median

from benchmarks.gpu.figures import Figures
from benchmarks.gpu.setting import CLASSES, Setting
from benchmarks.gpu.with_parent import command_with_parent, environment_with_parent

_EPOCHS = 3
_BATCH = 64
_WORKERS = 15
_AVERAGE = re.compile(r"Train: (\d+) \[.*\([\d.]+s, +([\d.]+)/s\)")
# With channels last these backbones are 2.65 times slower, by timm's own benchmark of an RTX 3090.
_CONTIGUOUS = ("resnest",)


def run(setting: Setting, figures: Figures) -> None:
    """Train each backbone eagerly, then the first one compiled."""
    if setting.timm_script is None:
        figures.add("timm's train.py", None, note="not here: name it with --timm")
        return
    names = setting.config().backbones
    rates = [_rate(setting, figures, name, compiles=False) for name in names]
    known = [rate for rate in rates if rate]
    if len(known) == len(names):
        both = 1 / sum(1 / rate for rate in known)
        figures.add("timm's train.py, both backbones in turn", both, "images/s", note="added up, eager")
    if not setting.rehearses:
        _rate(setting, figures, names[0], compiles=True)


def _rate(setting: Setting, figures: Figures, backbone: str, *, compiles: bool) -> float | None:
    """Return the median speed of all epochs but the first, by the script's own log."""
    name = f"timm's train.py, {backbone}{', compiled' if compiles else ''}"
    done = _train(setting, backbone, compiles=compiles)
    averages = {int(epoch): float(speed) for epoch, speed in _AVERAGE.findall(done.stdout + done.stderr)}
    if done.returncode != 0 or len(averages) < _EPOCHS:
        note = " ".join((done.stderr.strip().splitlines() or ["no word"])[-1].split())[:300]
        figures.add(name, None, note=f"ended with {done.returncode}: {note}")
        return None
    rate = median(speed for epoch, speed in averages.items() if epoch > 0)
    figures.add(name, rate, "images/s", note=f"epochs {', '.join(f'{one:.0f}' for one in averages.values())}")
    return rate


def _train(setting: Setting, backbone: str, *, compiles: bool) -> subprocess.CompletedProcess[str]:
    config, data = setting.config(), setting.data()
    size = str(config.image_size)
    with tempfile.TemporaryDirectory() as out:
        command = [
            *command_with_parent(str(setting.timm_script)), str(data), "--train-split", "train", "--val-split", "val",
            "--model", backbone, "--num-classes", str(CLASSES), "--input-size", "3", size, size,
            "--batch-size", str(16 if setting.rehearses else _BATCH), "--epochs", str(_EPOCHS),
            "--warmup-epochs", "0", "--cooldown-epochs", "0", "--opt", "adamw", "--lr", "1e-4", "--smoothing", "0.1",
            "--log-interval", "10", "--val-interval", "100", "--output", out,
        ]  # fmt: skip
        if setting.rehearses:
            command += ["--device", "cpu", "--no-prefetcher", "--workers", "1"]
        else:
            command += ["--amp", "--amp-dtype", "bfloat16", "--pin-mem", "--workers", str(_WORKERS)]
            command += [] if backbone.startswith(_CONTIGUOUS) else ["--channels-last"]
        command += ["--torchcompile"] if compiles else []
        return subprocess.run(command, env=environment_with_parent(), capture_output=True, text=True, check=False)
