"""Check every path of the trainer that needs CUDA, on tiny networks: one figure a check."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch

from benchmarks.gpu.checks import CHECKS, Bench, Check, NotHere
from benchmarks.gpu.checks_of_compiling import CHECKS_OF_COMPILING
from benchmarks.gpu.checks_of_memory import CHECKS_OF_MEMORY
from benchmarks.gpu.command_line import Commands, Found
from benchmarks.gpu.figures import Figures
from benchmarks.gpu.setting import Setting, card_name
from benchmarks.gpu.with_parent import command_with_parent, environment_with_parent
from benchmarks.machine import CHECKOUT
from cloudrun.imagedata.folders import list_images
from trainer.data.leaves import write_leaves

PART = "smoke"
_MADE = "checks-made"
ALL_CHECKS = (*CHECKS, *CHECKS_OF_COMPILING, *CHECKS_OF_MEMORY)
_LABELS = {"healthy": "healthy", "multiple": "rust scab", "rust": "rust", "scab": "scab"}


def run(setting: Setting, figures: Figures) -> None:
    """Try the trainer's commands in processes of their own, while the checks run in another process."""
    bench = make_bench(setting)
    commands = Commands(bench, setting.scratch / "commands")
    with ThreadPoolExecutor(2) as pool:
        ways = [commands.stopped_and_gone_on_with]
        if bench.is_cuda:  # on a CPU a test of its own covers this
            ways.append(commands.stopped_while_it_compiles)
        pending = [pool.submit(_all, way) for way in ways]
        _make_all(setting, figures)
        for one in pending:
            for found in one.result():
                figures.add(found.name, found.value, limit=found.limit, note=found.note)


def _make_all(setting: Setting, figures: Figures) -> None:
    """Make the checks in a process of their own; where a check ends it or ruins its device, go on in a new process."""
    while left := _left(setting):
        command = command_with_parent("benchmarks.gpu.smoke", str(setting.out), str(setting.scratch))
        command += ["--rehearse"] if setting.rehearses else []
        done = subprocess.run(command, cwd=CHECKOUT, env=environment_with_parent(), check=False)
        still_left = _left(setting)
        if still_left and still_left[0].name == left[0].name:
            first = still_left[0]
            figures.add(first.name, None, limit=first.limit, note=f"ended its process with {done.returncode}")
            _note_as_made(setting, first)


def _left(setting: Setting) -> list[Check]:
    """Return the checks that this call has not made yet; the figures of an earlier call may lie in the same folder."""
    path = setting.scratch / _MADE
    made = set(path.read_text().splitlines()) if path.exists() else set()
    return [check for check in ALL_CHECKS if check.name not in made]


def _note_as_made(setting: Setting, check: Check) -> None:
    with (setting.scratch / _MADE).open("a") as file:
        file.write(f"{check.name}\n")


def make_checks(setting: Setting) -> None:
    """Make the checks that are left, until one of them leaves the device useless to this process."""
    figures = Figures(setting.out, part=PART, card=card_name(setting.place))
    bench = make_bench(setting)
    for check in _left(setting):
        _make(check, bench, figures)
        _note_as_made(setting, check)
        if not _device_works(setting):
            return


def _device_works(setting: Setting) -> bool:
    try:
        return bool(torch.ones(2, device=setting.place).sum().item() == 2)
    except RuntimeError:  # after an illegal access or a failed assertion each call of CUDA's fails
        return False


def make_bench(setting: Setting) -> Bench:
    """Draw the images that checks look at, once: leaves in class folders, and the same with train.csv."""
    folder = setting.scratch / "smoke"
    data, plants = folder / "leaves", folder / "plants"
    bench = Bench("cpu" if setting.rehearses else "cuda", data, plants)
    if (plants / "train.csv").exists():
        return bench
    write_leaves(data, train=64, val=16, test=16, size=80)
    rows = ["image,labels"]
    for path in list_images(data):
        split, label = path.relative_to(data).parts[:2]
        name = f"{split}/{path.name}"
        (plants / split).mkdir(parents=True, exist_ok=True)
        shutil.copy(path, plants / name)
        rows.append(f"{name},{_LABELS[label]}")
    (plants / "train.csv").write_text("\n".join(rows) + "\n")
    return bench


def _make(check: Check, bench: Bench, figures: Figures) -> None:
    """Make a check. Where it raises, add a wrong figure that says why, so that the next check goes on."""
    try:
        figures.add(check.name, check.act(bench), limit=check.limit)
    except NotHere as reason:
        figures.add(check.name, None, note=f"not on this device: {reason}")
    except Exception as err:  # noqa: BLE001 - whatever torch raises is the finding
        note = " ".join(f"{type(err).__name__}: {err}".split())[:400]
        figures.add(check.name, None, limit=check.limit, note=note)


def _all(way: Callable[[], Iterator[Found]]) -> list[Found]:
    return list(way())


if __name__ == "__main__":
    out, scratch = map(Path, sys.argv[1:3])
    make_checks(Setting(out, scratch, None, None, rehearses="--rehearse" in sys.argv))
