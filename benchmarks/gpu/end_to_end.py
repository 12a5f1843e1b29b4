"""Run the command as a user types it: seconds to the first step, to each epoch's end, and to the summary."""

from __future__ import annotations

import json
import re
import subprocess
import time

import yaml

from benchmarks.gpu.figures import Figures
from benchmarks.gpu.setting import Setting, say
from benchmarks.gpu.with_parent import command_with_parent, environment_with_parent
from benchmarks.machine import CHECKOUT

_EPOCHS = 2
_FIRST_STEP = re.compile(r"^first step after ([\d.]+) s")
LOG_FILE = "end-to-end.log"


def run(setting: Setting, figures: Figures) -> None:
    config = setting.config(epochs=_EPOCHS, warmup_epochs=0).model_dump(mode="json")
    path, out = setting.scratch / "end.yaml", setting.scratch / "end"
    path.write_text(yaml.safe_dump(config))
    command = command_with_parent("trainer", "train", "--config", str(path), "--data", str(setting.data()))
    began = time.perf_counter()
    process = subprocess.Popen(
        [*command, "--out", str(out)],
        cwd=CHECKOUT,
        env=environment_with_parent(),
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
    )
    assert process.stderr is not None
    with (setting.out / LOG_FILE).open("w") as log:
        for line in process.stderr:
            taken_s = time.perf_counter() - began
            log.write(f"{taken_s:7.2f} {line}")
            log.flush()
            say(line.rstrip())
            if found := _FIRST_STEP.match(line):
                note = f"of these {taken_s - float(found[1]):.1f} s before the trainer's own clock begins"
                figures.add("first step after", taken_s, "s", note=note)
            elif line.startswith("epoch "):
                figures.add(line.split(":")[0], taken_s, "s", note="since the command was typed")
    code = process.wait()
    figures.add("from the command to its end", time.perf_counter() - began, "s", note=f"exit code {code}")
    summary = json.loads((out / "summary.json").read_text())
    figures.add("images per second by summary.json", summary["images_per_s"], "images/s")
