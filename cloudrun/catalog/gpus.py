"""List GPU models by the names of SkyPilot's catalog, with the memory and the listed speed of one card.

The list is part of this package so that a typing error is found before anything slow is imported. Memory in GB as the
vendors list it; names as in SkyPilot 0.14's `sky/utils/accelerator_registry.py` and its price catalogs.

Clouds name the same card differently, and SkyPilot compares names letter by letter: `A100` finds nothing at a
provider that sells the card with 80 GB as `A100-80GB`. So a model's bare name stands for its whole family.
"""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass

MEMORY_GB = {
    "A10": 24,
    "A100": 40,
    "A100-80GB": 80,
    "A100-80GB-SXM": 80,
    "A10G": 24,
    "A16": 16,
    "A30": 24,
    "A40": 48,
    "A6000": 48,
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


@dataclass(frozen=True, slots=True)
class ListedSpeed:
    """The speed of one card, by its vendor's data sheet."""

    tflops: float  # dense 16-bit matrix products that add up in fp32, without sparsity
    gb_per_s: float  # to and from its own memory


# From the data sheets and architecture white papers of NVIDIA (Pascal to Blackwell) and AMD (CDNA 2 and 3), rounded.
# Cards of the consumer line run half as fast with fp32 sums: that half is listed. Pascal has no matrix units.
# Sheets that give 8-bit figures with sparsity (RTX Ada, RTX PRO) are divided by 4, those with 4 bits by 8.
LISTED_SPEED = {
    "A10": ListedSpeed(125, 600),
    "A100": ListedSpeed(312, 1555),
    "A100-80GB": ListedSpeed(312, 1935),
    "A100-80GB-SXM": ListedSpeed(312, 2039),
    "A10G": ListedSpeed(70, 600),
    "A16": ListedSpeed(18, 200),
    "A30": ListedSpeed(165, 933),
    "A40": ListedSpeed(150, 696),
    "A6000": ListedSpeed(155, 768),
    "B200": ListedSpeed(2250, 8000),
    "B300": ListedSpeed(2250, 8000),
    "GH200": ListedSpeed(990, 4000),
    "GTX1080Ti": ListedSpeed(11, 484),
    "H100": ListedSpeed(756, 2000),
    "H100-SXM": ListedSpeed(989, 3350),
    "H100-NVL": ListedSpeed(835, 3900),
    "H200": ListedSpeed(989, 4800),
    "H200-SXM": ListedSpeed(989, 4800),
    "L4": ListedSpeed(121, 300),
    "L40": ListedSpeed(181, 864),
    "L40S": ListedSpeed(362, 864),
    "MI210": ListedSpeed(181, 1638),
    "MI250": ListedSpeed(362, 3277),
    "MI300X": ListedSpeed(1307, 5300),
    "P100": ListedSpeed(19, 732),
    "P4": ListedSpeed(5.5, 192),
    "RTX2080Ti": ListedSpeed(54, 616),
    "RTX3060": ListedSpeed(26, 360),
    "RTX3070": ListedSpeed(41, 448),
    "RTX3080": ListedSpeed(60, 760),
    "RTX3090": ListedSpeed(71, 936),
    "RTX4000-Ada": ListedSpeed(82, 360),
    "RTX4070": ListedSpeed(58, 504),
    "RTX4080": ListedSpeed(97, 717),
    "RTX4090": ListedSpeed(165, 1008),
    "RTX5000-Ada": ListedSpeed(261, 576),
    "RTX5080": ListedSpeed(113, 960),
    "RTX5090": ListedSpeed(210, 1792),
    "RTX6000": ListedSpeed(130, 672),
    "RTX6000-Ada": ListedSpeed(364, 960),
    "RTXA4000": ListedSpeed(77, 448),
    "RTXA4500": ListedSpeed(95, 640),
    "RTXA5000": ListedSpeed(111, 768),
    "RTXA6000": ListedSpeed(155, 768),
    "RTXPRO6000": ListedSpeed(500, 1792),
    "T4": ListedSpeed(65, 320),
    "V100": ListedSpeed(125, 900),
    "V100-32GB": ListedSpeed(125, 900),
}

# Names of cards that are at least as good as the first: each of them meets a request for the first.
_FAMILIES = {
    "A100": ("A100", "A100-80GB", "A100-80GB-SXM"),
    "H100": ("H100", "H100-SXM", "H100-NVL"),
    "H200": ("H200", "H200-SXM"),
    "RTXA6000": ("RTXA6000", "A6000"),
    "V100": ("V100", "V100-32GB"),
}
# Names for one member of a family alone, where its own name stands for the whole family.
_EXACTLY = {"A100-40GB": "A100", "H100-PCIE": "H100", "V100-16GB": "V100"}

_REQUEST = re.compile(r"(?P<name>[A-Za-z][A-Za-z0-9_.-]*)(?::(?P<count>\d+))?")


@dataclass(frozen=True, slots=True)
class GpuRequest:
    """One entry of a preference list: `A100:1`."""

    name: str
    count: int

    def __str__(self) -> str:
        return f"{self.name}:{self.count}"


def parse_gpu(text: str) -> GpuRequest:
    """Return the request of a text such as `A100:1` or `A100`. Raises ValueError with a sentence on anything else."""
    match = _REQUEST.fullmatch(text.strip())
    if match is None:
        raise ValueError(f'"{text}" is not a GPU; write NAME:COUNT, for example `A100:1`')
    count = int(match["count"] or 1)
    if not 1 <= count <= 16:
        raise ValueError(f'"{text}" asks for {count} GPUs; one machine has 1 to 16')
    known = {name.lower(): name for name in (*MEMORY_GB, *_EXACTLY)}
    return GpuRequest(known.get(match["name"].lower(), match["name"]), count)


def is_known(name: str) -> bool:
    """Return whether some cloud has a GPU of this name."""
    return name in MEMORY_GB or name in _EXACTLY


def sold_as(request: GpuRequest) -> tuple[GpuRequest, ...]:
    """Return the GPUs that meet `request`, by SkyPilot's names: any A100 for `A100`, one card alone for `A100-40GB`."""
    if request.name in _EXACTLY:
        return (GpuRequest(_EXACTLY[request.name], request.count),)
    return tuple(GpuRequest(name, request.count) for name in _FAMILIES.get(request.name, (request.name,)))


def nearest(name: str) -> list[str]:
    """Return known names that the user may have meant: closest first, at most three."""

    def plain(text: str) -> str:
        return re.sub(r"[^a-z0-9]", "", text.lower().removeprefix("nvidia").removeprefix("geforce"))

    wanted = plain(name)
    by_plain = {plain(known): known for known in MEMORY_GB}
    inside = [known for text, known in by_plain.items() if wanted and (wanted in text or text == wanted)]
    close = [by_plain[text] for text in difflib.get_close_matches(wanted, by_plain, n=3, cutoff=0.6)]
    return list(dict.fromkeys([*inside, *close]))[:3]


def tier(memory_gb: int) -> str:
    """Return in words what a card with this memory is good for."""
    if memory_gb < 24:
        return "small models"
    return "recommended" if memory_gb <= 48 else "large ensembles"
