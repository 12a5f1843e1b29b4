"""Run many inputs in processes of their own, so that a decoder that kills its process is found, too."""

from __future__ import annotations

import argparse
import multiprocessing
import os
import shutil
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from random import Random

import torch

from benchmarks.machine import heading
from benchmarks.mutate_data.images import try_exif, try_image
from benchmarks.mutate_data.labels import try_labels
from benchmarks.mutate_data.trees import try_tree, try_zip
from benchmarks.mutate_data.verdicts import Outcome, Try
from benchmarks.mutate_data.weights import try_weights

KINDS: dict[str, tuple[Try, int]] = {
    "image": (try_image, 56),
    "exif": (try_exif, 10),
    "labels": (try_labels, 16),
    "names": (try_tree, 8),
    "zip": (try_zip, 8),
    "weights": (try_weights, 2),
}
"""Each kind of input, and its share of all in percent."""

_PATIENCE_S = 120  # for one input, on a busy computer
_AT_ONCE = 2000  # inputs of a process


@dataclass(slots=True)
class Tally:
    """What came of the inputs of one kind."""

    outcomes: Counter[Outcome] = field(default_factory=Counter)
    wrong: list[tuple[int, str]] = field(default_factory=list)
    seconds: float = 0.0
    slowest_s: float = 0.0


def try_one(kind: str, number: int, *, seed: int, keep: Path | None = None) -> Outcome:
    """Make one input and give it to both readers. Raises what is wrong; `keep`: where the input then stays."""
    folder = Path(tempfile.mkdtemp(prefix="mutate-"))
    try:
        return KINDS[kind][0](Random(f"{seed}/{kind}/{number}"), folder)
    finally:
        if keep is not None:
            shutil.rmtree(keep, ignore_errors=True)
            shutil.copytree(folder, keep, symlinks=True)
        shutil.rmtree(folder, ignore_errors=True)


def try_many(kind: str, count: int, *, seed: int, first: int = 0) -> Tally:
    """Try the inputs `first` to `count` of one kind; a process that dies or hangs is wrong at the input that it had."""
    tally = Tally()
    start = first
    while start < count:
        start = _in_process(kind, range(start, min(count, start + _AT_ONCE)), seed, tally)
    return tally


def part_of(count: int, part: str) -> range:
    """Return the numbers of the inputs in `part` of `count`: `1/3` is the first third. Raises ValueError."""
    number, _, parts = part.partition("/")
    if not 1 <= int(number) <= int(parts):
        raise ValueError(f"{part} is not a part: the first of three is 1/3")
    return range(count * (int(number) - 1) // int(parts), count * int(number) // int(parts))


def _in_process(kind: str, numbers: range, seed: int, tally: Tally) -> int:
    """Return the number of the first input that is still to be tried."""
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe(duplex=False)
    child = context.Process(target=_work, args=(kind, numbers, seed, theirs))
    child.start()
    theirs.close()
    done = numbers.start
    try:
        while done < numbers.stop:
            if not ours.poll(_PATIENCE_S):
                tally.wrong.append((done, f"it takes more than {_PATIENCE_S} s"))
                return done + 1
            outcome, problem, took_s = ours.recv()
            tally.seconds += took_s
            tally.slowest_s = max(tally.slowest_s, took_s)
            if problem is None:
                tally.outcomes[outcome] += 1
            else:
                tally.wrong.append((done, problem))
            done += 1
    except EOFError:
        child.join()
        tally.wrong.append((done, f"the process ended with {child.exitcode}"))
        return done + 1
    finally:
        child.kill()
        child.join()
        ours.close()
    return done


def _work(kind: str, numbers: range, seed: int, parent: Connection) -> None:
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # libtiff and libjpeg write there themselves
    torch.set_num_threads(1)
    for number in numbers:
        began = time.perf_counter()
        outcome, problem = None, None
        try:
            outcome = try_one(kind, number, seed=seed)
        except Exception:  # noqa: BLE001  whatever a reader lets through is what is looked for
            problem = traceback.format_exc(limit=-6)
        parent.send((outcome, problem, time.perf_counter() - began))
    parent.close()


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.mutate_data", description=__doc__)
    parser.add_argument("--count", type=int, default=1000, help="inputs in all")
    parser.add_argument("--seed", type=int, default=15)
    parser.add_argument("--part", default="1/1", metavar="I/N", help="this part alone, as 1/3, 2/3 and 3/3")
    parser.add_argument("--kind", choices=KINDS, action="append", help="this kind alone; may be repeated")
    parser.add_argument("--only", metavar="KIND:NUMBER", help="one input, whose error is shown whole")
    parser.add_argument("--keep", type=Path, default=Path("mutated-input"), help="where the input of --only stays")
    arguments = parser.parse_args(argv)
    if arguments.only:
        kind, _, number = arguments.only.partition(":")
        print(try_one(kind, int(number), seed=arguments.seed, keep=arguments.keep))
        return 0
    print(f"{heading()}; seed {arguments.seed}")
    print(
        "| input | tried | read by both | refused by both | damage seen by the second | wrong | slowest s | minutes |"
    )
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    wrong = 0
    for kind in arguments.kind or KINDS:
        share = 100 if arguments.kind else KINDS[kind][1]
        numbers = part_of(arguments.count * share // 100, arguments.part)
        tally = try_many(kind, numbers.stop, seed=arguments.seed, first=numbers.start)
        wrong += len(tally.wrong)
        outcomes = [tally.outcomes[outcome] for outcome in Outcome]
        tried = sum(outcomes) + len(tally.wrong)
        cells = [kind, tried, *outcomes, len(tally.wrong), f"{tally.slowest_s:.1f}", f"{tally.seconds / 60:.1f}"]
        print(f"| {' | '.join(map(str, cells))} |", flush=True)
        for number, problem in tally.wrong[:20]:
            print(f"\n--only {kind}:{number}\n{problem}", file=sys.stderr, flush=True)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
