"""GPU models by the names SkyPilot's catalog uses, with the memory of one card.

Shipped so that a typo is found before anything slow is imported. Memory in GB as the vendors list
it; names as in SkyPilot 0.14's `sky/utils/accelerator_registry.py` and its price catalogs.
"""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass

MEMORY_GB = {
    "A10": 24,
    "A100": 40,
    "A100-80GB": 80,
    "A10G": 24,
    "A16": 16,
    "A30": 24,
    "A40": 48,
    "B200": 192,
    "B300": 288,
    "GH200": 96,
    "GTX1080Ti": 11,
    "H100": 80,
    "H100-SXM": 80,
    "H100-NVL": 94,
    "H200": 141,
    "H200-SXM": 141,
    "L4": 24,
    "L40": 48,
    "L40S": 48,
    "MI210": 64,
    "MI250": 128,
    "MI300X": 192,
    "P100": 16,
    "P4": 8,
    "RTX2080Ti": 11,
    "RTX3060": 12,
    "RTX3070": 8,
    "RTX3080": 10,
    "RTX3090": 24,
    "RTX4000-Ada": 20,
    "RTX4070": 12,
    "RTX4080": 16,
    "RTX4090": 24,
    "RTX5000-Ada": 32,
    "RTX5080": 16,
    "RTX5090": 32,
    "RTX6000": 24,
    "RTX6000-Ada": 48,
    "RTXA4000": 16,
    "RTXA4500": 20,
    "RTXA5000": 24,
    "RTXA6000": 48,
    "RTXPRO6000": 96,
    "T4": 16,
    "V100": 16,
    "V100-32GB": 32,
}

_REQUEST = re.compile(r"(?P<name>[A-Za-z][A-Za-z0-9_.-]*)(?::(?P<count>\d+))?")


@dataclass(frozen=True, slots=True)
class GpuRequest:
    """One entry of a preference list: `A100:1`."""

    name: str
    count: int

    def __str__(self) -> str:
        return f"{self.name}:{self.count}"


def parse_gpu(text: str) -> GpuRequest:
    """`A100:1` or `A100` -> GpuRequest. Raises ValueError with a sentence on anything else."""
    match = _REQUEST.fullmatch(text.strip())
    if match is None:
        raise ValueError(f'"{text}" is not a GPU; write NAME:COUNT, for example `A100:1`')
    count = int(match["count"] or 1)
    if not 1 <= count <= 16:
        raise ValueError(f'"{text}" asks for {count} GPUs; one machine has 1 to 16')
    known = {name.lower(): name for name in MEMORY_GB}
    return GpuRequest(known.get(match["name"].lower(), match["name"]), count)


def is_known(name: str) -> bool:
    return name in MEMORY_GB


def nearest(name: str) -> list[str]:
    """Known names that the user may have meant: closest first, at most three."""

    def plain(text: str) -> str:
        return re.sub(r"[^a-z0-9]", "", text.lower().removeprefix("nvidia").removeprefix("geforce"))

    wanted = plain(name)
    by_plain = {plain(known): known for known in MEMORY_GB}
    inside = [known for text, known in by_plain.items() if wanted and (wanted in text or text == wanted)]
    close = [by_plain[text] for text in difflib.get_close_matches(wanted, by_plain, n=3, cutoff=0.6)]
    return list(dict.fromkeys([*inside, *close]))[:3]


def tier(memory_gb: int) -> str:
    """What a card of this size is good for."""
    if memory_gb < 24:
        return "small models"
    return "recommended" if memory_gb <= 48 else "large ensembles"
