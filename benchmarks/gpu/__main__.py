"""The trainer on a GPU, part after part, the most telling first; each is a process with a limit of its own.

python -m benchmarks.gpu --out DIR [--parts probe,smoke,...] [--budget SECONDS] [--photos DIR] [--timm TRAIN_PY]
python -m benchmarks.gpu --out DIR --rehearse      a tiny network on this computer's CPU: shows that every part runs
python -m benchmarks.gpu --out DIR --table         the table of figures that an earlier call left, also one cut off

Needs what the trainer needs, and neither git nor SkyPilot; `benchmarks/gpu-box.sh` gathers that for a machine without
internet. DIR/figures.jsonl gets each figure the moment it is known; DIR/figures.md is the table at the end.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import FrameType

from benchmarks.gpu.figures import Figures, read_figures, table
from benchmarks.gpu.limits import LIMITS_S, NO_GPU, limit_s, parts_from
from benchmarks.gpu.with_parent import command_with_parent, environment_with_parent
from benchmarks.machine import CHECKOUT, heading

_KILL_AFTER_S = 5.0  # how long a part that was asked to stop may take
_NO_GPU = "nothing is measured without a GPU; `--rehearse` tries the parts on a CPU"
_NO_TIME_S = 10.0  # in less time than this, no part measures anything


def main(words: argparse.Namespace) -> int:
    """Return 0 where every part ended well and no figure is wrong, else 1."""
    words.out.mkdir(parents=True, exist_ok=True)
    if words.table:
        print(table(read_figures(words.out), heading=heading()), end="")
        return 0
    print(heading(), flush=True)
    failed, scratch = 0, Path(tempfile.mkdtemp(prefix="gpu-", dir=words.photos.parent if words.photos else None))
    try:
        ends_at = time.monotonic() + words.budget
        for part in words.parts:
            left_s = ends_at - time.monotonic()
            if left_s < _NO_TIME_S:
                Figures(words.out, part=part).add("the part", None, note=f"not begun: {left_s:.0f} s were left")
                failed += 1
                continue
            within_s = min(left_s, limit_s(part, rehearses=words.rehearse))
            why = _run(part, words, scratch, within_s=within_s)
            failed += bool(why)
            if why == _NO_GPU:
                break
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
        figures = read_figures(words.out)
        text = table(figures, heading=heading())
        (words.out / "figures.md").write_text(text, encoding="utf-8")
        print(f"\n{text}", flush=True)
    return int(failed > 0 or any(one.is_wrong for one in figures))


def _run(part: str, words: argparse.Namespace, scratch: Path, *, within_s: float) -> str:
    """Run one part until it ends or its time is over; return why it did not end well, or nothing."""
    print(f"\n== {part}, at most {within_s:.0f} s", flush=True)
    command = command_with_parent("benchmarks.gpu.part", part, "--out", str(words.out), "--scratch", str(scratch))
    command += ["--rehearse"] if words.rehearse else []
    command += ["--photos", str(words.photos)] if words.photos else []
    command += ["--timm", str(words.timm)] if words.timm else []
    began = time.monotonic()
    process = subprocess.Popen(command, cwd=CHECKOUT, start_new_session=True, env=environment_with_parent())
    why = ""
    try:
        code = process.wait(within_s)
        if code:
            why = _NO_GPU if code == NO_GPU else f"exit code {code}"
    except subprocess.TimeoutExpired:
        why = f"cut off at its limit of {within_s:.0f} s"
    finally:
        _end(process)
    taken_s = time.monotonic() - began
    Figures(words.out, part=part).add("the whole part", taken_s, "s", note=why)
    return why


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a part and all that it started."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, number)
        except ProcessLookupError:
            return
        try:
            process.wait(_KILL_AFTER_S)
        except subprocess.TimeoutExpired:
            continue


def _interrupt(number: int, _: FrameType | None) -> None:
    raise SystemExit(128 + number)  # the part is ended, and the table is written


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("gpu-figures"), help="folder for figures.jsonl and figures.md")
    parser.add_argument(
        "--parts", type=parts_from, default=list(LIMITS_S), help=f"with commas (default: {','.join(LIMITS_S)})"
    )
    parser.add_argument("--budget", type=float, default=float("inf"), metavar="SECONDS", help="for all parts together")
    parser.add_argument("--photos", type=Path, metavar="DIR", help="photographs of real size; left out: drawn images")
    parser.add_argument("--timm", type=Path, metavar="FILE", help="train.py of timm's repository, for the part `timm`")
    parser.add_argument("--rehearse", action="store_true", help="a tiny network on this CPU")
    parser.add_argument("--table", action="store_true", help="only print the table of what is in --out")
    return parser


if __name__ == "__main__":
    parser = _parser()
    given = parser.parse_args()
    for option in ("photos", "timm"):
        path = getattr(given, option)
        if path is not None:
            if not path.exists():
                parser.error(f"--{option}: there is no {path}")  # not after minutes of the GPU
            setattr(given, option, path.resolve())
    given.out = given.out.resolve()
    for one in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(one, _interrupt)
    sys.exit(main(given))
