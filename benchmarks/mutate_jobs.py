"""Mutate job files and `--set` values at random, and check that each is answered as the contract says.

`python -m benchmarks.mutate_jobs --seed 1 --count 100000`: each job file is valid or refused with exit code 2 and a
message of one line, without a traceback, within 2 seconds of CPU and 200 MB. `--only N` shows input N of a seed and its
answer. Nothing is asked over a network: a job whose data or store are elsewhere is read and planned alone.
"""

from __future__ import annotations

import argparse
import contextlib
import random
import resource
import signal
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from cloudrun.errors import CloudrunError, ExitCode
from cloudrun.job.job_file import load_job
from cloudrun.job.spec import SourceKind
from cloudrun.runs.prepare import check_job, plan_for

MOST_CPU_S = 2.0
MOST_BYTES = 200_000_000
_LONGEST_ANSWER = 1_500

_PLANTS = """\
name: plants
gpu: [A100:1, RTX4090:1]
resources: {cpus: 8+, memory: 64+, disk: 100}
infra: local
spot: false
data:
  source: images
  labels: train.csv
train:
  backbones: [efficientnet_b3, resnest50d]
  pretrained: true
  image_size: 224
  epochs: 30
  batch_size: auto
  lr: 3.0e-4
  dropout: 0.3
  compile: on
budget: {max_cost: 5.00, max_hours: 4}
lifecycle: {on_finish: down, idle_minutes: 10}
store: null
env: {A: x, B: 1.10}
"""
_OWN = """\
name: own
infra: local
data: {source: .}
run: |
  python train.py
  echo done
setup: pip list
workdir: .
env:
  MODE: fast
secrets: []
workdir_secrets: [.env]
"""
_MERGED = """\
name: merged
data: {source: demo://leaves}
resources: &few {cpus: 4}
train:
  <<: {epochs: 3, lr: 1e-3}
  seed: 1
"""
BASES = ("name: a\ndata: {source: demo://leaves}\n", _PLANTS, _OWN, _MERGED)
ODD = (
    "on", "off", "yes", "no", "y", "~", "null", "", "true", "0123", "0x1F", "0b11", "0b_", "0x", "0o17", "1:30",
    "190:20:30", "1:30.5", "2026-11-28", "2026-13-45", "2026-11-28T10:00:00Z", ".nan", ".inf", "-.inf", "1e999",
    "1.0e+999", "-0", "-1", "0", "1_000", "1__", "_1", "9" * 19, "9" * 400, "9" * 5000, "0." + "1" * 400, "!!int x",
    "!!float x", "!!bool x", "!!timestamp x", "!!null x", "!!binary aGk=", "!!binary '*'", "!!set {a, b}",
    "!!omap [a: 1]", "!!pairs [a: 1]", "!!python/object/apply:os.system [echo]", "!mine x", "!<x> y", '"\\ud800"',
    '"\\u0000"', '"\\e[31m"', '"\\UFFFFFFFF"', '"\\U00110000"', "'a\tb'", "{}", "[]", "[[]]", "{a: {b: {c: 1}}}",
    "[1, 2, 3]", "{? [a] : b}", "{? {a: b} : c}", "{1: 2}", "{~: x}", "{true: x}", "&a [*a]", "&a {b: *a}", "*few",
    "*nobody", "<<", "=", "~nobody/x", "~/x", "../" * 500, "a" * 256, "a" * 5_000, "name" * 2_500,
    "A100:99999999999999999999", "A100:-1", "A100:", ":", "A100:1x", "A100:1:2", "local", "local/x", "aws/", "slurm",
    "mars", "demo://", "demo://leaves", "://", "ftp://x", "folder://x", "/dev/null", "/", "/dev/zero",
    "images/../images", "файл", "日本語", "\U0001f600", "a b", " ", "'", '"', "{", "[", "- ", "? ", ": ", "%", "@", "`",
    "|", ">", "#", "--- x", "...", "%YAML 1.1", "%YAML 9999999999999999999999.1", "[" * 3_000, "{a: " * 500,
)  # fmt: skip
KEYS = (
    "name", "gpu", "nodes", "resources.cpus", "resources.disk", "infra", "spot", "data", "data.source", "data.labels",
    "train", "train.epochs", "train.lr", "train.backbones", "train.pretrained", "train.compile", "train.batch_size",
    "train.fold", "train.groups", "budget", "budget.max_cost", "budget.max_hours", "lifecycle.idle_minutes",
    "lifecycle.on_finish", "store", "endpoint", "setup", "run", "workdir", "env", "env.A", "secrets",
    "workdir_secrets", "", ".", "a..b", "x", "gpu.0", "train.epochs.x", "." * 300, "a" * 300, "env.on", "\x1b[2J",
    "\ud800",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Trial:
    """One input: the bytes of a job file, and the values of `--set`."""

    content: bytes
    overrides: tuple[str, ...]


def trial(seed: int, number: int) -> Trial:
    """Return input `number` of a seed; each is made by itself, so that it can be tried again alone."""
    chance = random.Random(f"{seed}-{number}")
    text = chance.choice(BASES)
    for _ in range(chance.choice((0, 1, 1, 2, 3))):
        text = chance.choice(_MUTATIONS)(text, chance)
    content = text.encode("utf-8", "surrogatepass")
    if chance.random() < 0.1:
        content = _flipped(content, chance)
    count = chance.choice((0, 0, 1, 2))
    return Trial(content, tuple(f"{chance.choice(KEYS)}={chance.choice(ODD)}" for _ in range(count)))


def _odd_value(text: str, chance: random.Random) -> str:
    """Put something odd in place of the value of a line."""
    lines = text.splitlines()
    place = chance.randrange(len(lines))
    head, colon, _ = lines[place].partition(":")
    lines[place] = f"{head}{colon} {chance.choice(ODD)}" if colon else chance.choice(ODD)
    return "\n".join(lines) + "\n"


def _new_key(text: str, chance: random.Random) -> str:
    key = chance.choice((*KEYS, *ODD[:60])).split(".")[0]
    return f"{text}{key}: {chance.choice(ODD)}\n"


def _moved_line(text: str, chance: random.Random) -> str:
    """Repeat a line at another place, with another indentation."""
    lines = text.splitlines()
    line = chance.choice(lines)
    lines.insert(chance.randrange(len(lines) + 1), " " * chance.randrange(5) + line.strip())
    return "\n".join(lines) + "\n"


def _cut(text: str, chance: random.Random) -> str:
    start = chance.randrange(len(text) + 1)
    return text[:start] + text[start + chance.randrange(20) :]


def _inserted(text: str, chance: random.Random) -> str:
    place = chance.randrange(len(text) + 1)
    letter = chance.choice("{}[]:,&*!|>'\"%@`#?-\t\n \\\0\x07\x1b\x7f\x85\u2028\ufeff\ud800é0")
    return text[:place] + letter * chance.choice((1, 1, 2, 50)) + text[place:]


def _bomb(text: str, chance: random.Random) -> str:
    kind = chance.randrange(6)
    if kind == 0:  # each alias stands for nine of the one before
        lines = ["l0: &l0 [x, x, x, x, x, x, x, x, x]"]
        lines += [f"l{n}: &l{n} [{', '.join([f'*l{n - 1}'] * 9)}]" for n in range(1, 10)]
        return text + "\n".join(lines) + "\n"
    if kind == 1:  # the same with merges
        lines = ["m0: &m0 {a: 1}"]
        lines += [f"m{n}: &m{n} {{<<: [{', '.join([f'*m{n - 1}'] * 9)}]}}" for n in range(1, 10)]
        return text + "\n".join(lines) + "\n"
    if kind == 2:
        return text + "".join(f"k{n}: {n}\n" for n in range(60_000))
    if kind == 3:
        return text + "x: " + "- " * 5_000 + "1\n"
    if kind == 4:
        return text + "x: " + chance.choice("[{") * chance.choice((30, 3_000, 200_000)) + "\n"
    return text + f"run: {'a' * chance.choice((5_000, 90_000, 300_000))}\n"


def _flipped(content: bytes, chance: random.Random) -> bytes:
    """Put random bytes in the place of some."""
    changed = bytearray(content)
    for _ in range(chance.choice((1, 3))):
        changed[chance.randrange(len(changed))] = chance.randrange(256)
    return bytes(changed)


_MUTATIONS = (_odd_value, _odd_value, _odd_value, _new_key, _moved_line, _cut, _inserted, _inserted, _bomb)


class TooSlow(BaseException):
    """An input took more CPU than it may; not an Exception, so that no handler takes it for an error of the file."""


def answer(tried: Trial, folder: Path) -> tuple[int, str]:
    """Return the exit code and the message for one input. Whatever is no error of cloudrun's own is raised."""
    path = folder / "job.yaml"
    path.write_bytes(tried.content)
    try:
        job = load_job(path, overrides=tried.overrides)
        plan_for(job)
        if job.spec.data.kind in (SourceKind.FOLDER, SourceKind.DEMO) and _is_inside(job.spec.data.source, folder):
            check_job(job)
    except CloudrunError as err:
        return err.exit_code, f"{err.message}\n\nhint: {err.hint}"
    return ExitCode.DONE, ""


def fault_of(tried: Trial, folder: Path) -> tuple[str, str | None]:
    """Return the answer's kind, and what is wrong with the answer; None where nothing is."""
    try:
        with _limited():
            code, message = answer(tried, folder)
    except TooSlow:
        return "fault", f"more than {MOST_CPU_S:g} s of CPU"
    except Exception:  # noqa: BLE001 - this is what is looked for
        return "fault", traceback.format_exc(limit=-6)
    if code not in (ExitCode.DONE, ExitCode.USAGE):
        return "fault", f"exit code {code}: {message}"
    first = message.removesuffix("\n").partition("\n\nhint: ")[0]
    if "\n" in first or len(message) > _LONGEST_ANSWER:
        return "fault", f"a message of {len(message)} letters, {first.count(chr(10)) + 1} lines: {message[:300]!r}"
    return ("valid" if code == ExitCode.DONE else "refused"), None


def _is_inside(source: str, folder: Path) -> bool:
    """The data of another folder are not looked at: `/` would be walked through."""
    return source.startswith(("demo://", str(folder.resolve())))


@contextlib.contextmanager
def _limited() -> Iterator[None]:
    """Allow so much CPU and memory more than is used now."""

    def stop(_number: int, _frame: FrameType | None) -> None:
        raise TooSlow

    before = signal.signal(signal.SIGVTALRM, stop)
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + MOST_BYTES, hard))
    signal.setitimer(signal.ITIMER_VIRTUAL, MOST_CPU_S)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
        signal.signal(signal.SIGVTALRM, before)


def main() -> int:
    words = argparse.ArgumentParser(description=__doc__)
    words.add_argument("--seed", type=int, default=1)
    words.add_argument("--count", type=int, default=1_000)
    words.add_argument("--only", type=int, metavar="N", help="show input N and its answer")
    asked = words.parse_args()
    began = time.monotonic()
    kinds: Counter[str] = Counter()
    with tempfile.TemporaryDirectory(prefix="cloudrun-jobs-") as name:
        folder = Path(name)
        (folder / "images").mkdir()
        if asked.only is not None:
            tried = trial(asked.seed, asked.only)
            print(tried.content.decode("utf-8", "backslashreplace")[:3_000], [one[:200] for one in tried.overrides])
            print(ascii(fault_of(tried, folder)), ascii(answer(tried, folder)))
            return 0
        for number in range(asked.count):
            kind, fault = fault_of(trial(asked.seed, number), folder)
            kinds[kind] += 1
            if fault is not None:
                print(f"--seed {asked.seed} --only {number}: {ascii(fault) if len(fault) < 200 else fault}", flush=True)
    told = ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items()))
    print(f"seed {asked.seed}: {asked.count} inputs in {time.monotonic() - began:.0f} s: {told}")
    return 1 if kinds["fault"] else 0


if __name__ == "__main__":
    raise SystemExit(main())
