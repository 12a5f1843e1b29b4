"""Run one part: `python -m benchmarks.gpu.part NAME ...`, a process that `python -m benchmarks.gpu` starts."""

from __future__ import annotations

import argparse
import importlib
import sys
import time
import traceback
from pathlib import Path

IMPORT_BEGAN = time.perf_counter()

import torch  # noqa: E402 - its import is timed

from benchmarks.gpu.figures import Figures  # noqa: E402
from benchmarks.gpu.limits import NO_GPU  # noqa: E402
from benchmarks.gpu.setting import Setting, card_name  # noqa: E402

IMPORT_S = time.perf_counter() - IMPORT_BEGAN
MODULES = {
    "probe": "probe",
    "smoke": "smoke",
    "tune": "formats_and_memory",
    "ceiling": "ceiling",
    "compile": "compiled",
    "whole": "whole",
    "timm": "with_timm",
    "end": "end_to_end",
}


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("part", choices=MODULES)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--scratch", type=Path, required=True)
    parser.add_argument("--photos", type=Path)
    parser.add_argument("--timm", type=Path)
    parser.add_argument("--rehearse", action="store_true")
    words = parser.parse_args(argv)
    setting = Setting(words.out, words.scratch, words.photos, words.timm, words.rehearse)
    figures = Figures(words.out, part=words.part)
    if not words.rehearse and not torch.cuda.is_available():
        figures.add("the part", None, note=f"there is no GPU here (torch {torch.__version__})")
        return NO_GPU
    figures.card = card_name(setting.place)
    if words.part == "probe":
        figures.add("import torch", IMPORT_S, "s", note="and what benchmarks.gpu takes of the trainer")
    try:
        importlib.import_module(f"benchmarks.gpu.{MODULES[words.part]}").run(setting, figures)
    except Exception as err:  # noqa: BLE001 - whatever it is, the next part goes on
        traceback.print_exc()
        figures.add("the part", None, note=f"failed: {type(err).__name__}: {_first_line(err)}")
        return 1
    return int(figures.wrong > 0)


def _first_line(err: BaseException) -> str:
    return (str(err).strip().splitlines() or [""])[0][:300]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
