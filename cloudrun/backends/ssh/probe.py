"""Ask a machine of the user's own, in one command, what it is: GPUs and who uses them, Python, disk, platform.

One shell script, for `sh`: the login shell may be any. Each answer is a line `key=value` between two marks, so that
what startup files print is told apart.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from cloudrun.errors import NoMachine
from cloudrun.remote.python import FIND_PYTHON

_BEGIN, _END = "cloudrun-probe-begin", "cloudrun-probe-end"

# A GPU counts as used from this much memory or load on: an idle one holds some megabytes for its driver and display.
_USED_MIB, _USED_PERCENT = 600, 15

PROBE = f"""\
echo {_BEGIN}
say() {{ printf '%s=%s\\n' "$1" "$2"; }}
say user "$(id -un 2>/dev/null || id -u)"
say uid "$(id -u)"
say name "$(uname -n)"
say kernel "$(uname -sr)"
say home "$HOME"
say shell "${{SHELL:-}}"
say glibc "$(getconf GNU_LIBC_VERSION 2>/dev/null)"
cores="$(nproc 2>/dev/null)"
if [ -r /sys/fs/cgroup/cpu.max ]; then
  read -r quota period < /sys/fs/cgroup/cpu.max
  if [ "$quota" != max ] && [ "$quota" -gt 0 ] 2>/dev/null; then
    limit=$(( (quota + period - 1) / period ))
    [ "$limit" -lt "${{cores:-99999}}" ] && cores=$limit
  fi
fi
say cores "$cores"
say memory_kib "$(sed -n 's/^MemTotal: *\\([0-9]*\\).*/\\1/p' /proc/meminfo 2>/dev/null)"
for place in /root/autodl-tmp /hy-tmp /home/featurize/work /workspace /openbayes/home; do
  [ -d "$place" ] && [ -w "$place" ] && say place "$place"
done
[ -n "${{RUNPOD_POD_ID:-}}" ] && say runpod 1
[ -n "${{CONTAINER_ID:-}}${{VAST_CONTAINERLABEL:-}}" ] && say vast 1
for program in rsync flock sbatch nvidia-smi; do
  command -v "$program" >/dev/null 2>&1 && say has "$program"
done
{FIND_PYTHON}\
if "$python" -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null; then
  say python "$("$python" -c 'import sys; print(sys.executable)')"
fi
for look in 1 2; do
  nvidia-smi --query-gpu=index,name,memory.used,memory.total,utilization.gpu --format=csv,noheader,nounits 2>/dev/null |
    while IFS= read -r line; do say gpu "$line"; done
  [ "$look" = 1 ] && command -v nvidia-smi >/dev/null 2>&1 && sleep 1
done
echo {_END}
"""


@dataclass(frozen=True, slots=True)
class Gpu:
    """One GPU of the machine, by two looks a second apart. Memory in MiB, `percent`: the higher load of the two."""

    index: int
    name: str
    used_mib: int
    total_mib: int
    percent: int

    @property
    def is_used(self) -> bool:
        """Whether somebody else works on it. A container sees no processes of others, so memory and load are asked."""
        return self.used_mib >= _USED_MIB or self.percent >= _USED_PERCENT

    @property
    def model(self) -> str:
        """Return the name that jobs use, `RTX4090`, of the driver's `NVIDIA GeForce RTX 4090`."""
        words = re.sub(r"^(NVIDIA|AMD|Tesla|GeForce|Quadro| )+", "", self.name).strip()
        forms = {"A100-SXM4-80GB": "A100-80GB-SXM", "A100-SXM4-40GB": "A100", "A100 80GB PCIe": "A100-80GB",
                 "A100-PCIE-40GB": "A100", "H100 80GB HBM3": "H100-SXM", "H100 PCIe": "H100", "H100 NVL": "H100-NVL",
                 "H200": "H200-SXM", "RTX 6000 Ada Generation": "RTX6000-Ada", "RTX A6000": "RTXA6000",
                 "V100-SXM2-32GB": "V100-32GB", "V100-SXM2-16GB": "V100", "V100-PCIE-32GB": "V100-32GB"}  # fmt: skip
        if words in forms:
            return forms[words]
        return re.sub(r"[^A-Za-z0-9_.-]", "", words.replace(" Laptop GPU", "").replace(" Ti", "Ti")) or "GPU"


@dataclass(frozen=True, slots=True)
class Probed:
    """The answers of one machine. None and empty where it gave none."""

    user: str
    is_root: bool
    name: str
    home: str
    cores: int | None
    memory_gb: float | None
    python: str | None
    places: tuple[str, ...]
    programs: frozenset[str]
    gpus: tuple[Gpu, ...]
    platform: str  # of which the folder that lasts and the command that ends the bill are known; else empty

    @property
    def is_login_node(self) -> bool:
        """Whether this looks like the front of a cluster: Slurm's commands, and no GPU."""
        return "sbatch" in self.programs and not self.gpus


def understood(output: bytes, *, host: str) -> Probed:
    """Return what the machine answered. Raises NoMachine where that is not to be understood, or files cannot be sent.

    What a shell prints at its start would be taken for rsync's own words: then no file can be sent.
    """
    text = output.decode("utf-8", "replace")
    before, begin, rest = text.partition(f"{_BEGIN}\n")
    body, end, _ = rest.partition(f"{_END}\n")
    if not begin or not end:
        said = text.strip().splitlines()
        raise NoMachine(
            f"`{host}` let this computer in, but runs no commands: {said[-1][:200] if said else 'it said nothing'}",
            hint="cloudrun needs a Linux machine with `sh`; basic SSH of RunPod (`...@ssh.runpod.io`) is none:"
            " take the address with an IP",
        )
    if before.strip():
        raise NoMachine(
            f"the shell of `{host}` prints {before.strip().splitlines()[0][:100]!r} before each command: rsync would"
            " take that for its own words",
            hint="move what prints in ~/.bashrc (or ~/.zshrc) below the line that leaves for shells that are not"
            " interactive: `case $- in *i*) ;; *) return;; esac`",
        )
    answers: dict[str, list[str]] = {}
    for line in body.splitlines():
        key, equals, value = line.partition("=")
        if equals:
            answers.setdefault(key, []).append(value.strip())

    def one(key: str) -> str:
        return answers.get(key, [""])[0]

    kernel = one("kernel")
    if not kernel.startswith("Linux"):
        raise NoMachine(f"`{host}` runs {kernel or 'an unknown system'}", hint="cloudrun trains on Linux")
    kib = one("memory_kib")
    return Probed(
        user=one("user"),
        is_root=one("uid") == "0",
        name=one("name"),
        home=one("home"),
        cores=int(one("cores")) if one("cores").isdigit() else None,
        memory_gb=int(kib) / 1024**2 if kib.isdigit() else None,
        python=one("python") or None,
        places=tuple(answers.get("place", [])),
        programs=frozenset(answers.get("has", [])),
        gpus=_gpus(answers.get("gpu", [])),
        platform=_platform(one("name"), host, answers),
    )


def _gpus(lines: list[str]) -> tuple[Gpu, ...]:
    found: dict[int, Gpu] = {}
    for line in lines:
        cells = [cell.strip() for cell in line.split(",")]
        if len(cells) != 5 or not cells[0].isdigit():
            continue
        used, total, percent = (int(cell) if cell.isdigit() else 0 for cell in cells[2:])
        earlier = found.get(int(cells[0]))
        if earlier is not None:
            used, percent = max(used, earlier.used_mib), max(percent, earlier.percent)
        found[int(cells[0])] = Gpu(int(cells[0]), cells[1], used, total, percent)
    return tuple(found[index] for index in sorted(found))


def _platform(name: str, host: str, answers: dict[str, list[str]]) -> str:
    """Return the platform where several signs agree, else an empty text."""
    places = answers.get("place", [])
    if "/root/autodl-tmp" in places and (
        name.startswith("autodl-") or host.endswith((".seetacloud.com", ".gpuhub.com"))
    ):
        return "AutoDL"
    if "/hy-tmp" in places:
        return "gpushare"
    if "/home/featurize/work" in places:
        return "Featurize"
    if "runpod" in answers and "/workspace" in places:
        return "RunPod"
    return "Vast.ai" if "vast" in answers else ""
