"""List what was expected of each figure before the first run on a GPU, to compare the measurements with.

For the champion's recipe (EfficientNet-B3 and ResNeSt-50d, 224 px, bf16). Two numbers decide the speed: the model
writes 69.1 M values an image and does 6.33 GMAC. With six passes over each value, the card's memory bandwidth allows at
most 3,600 images/s on an H100 and 5,200 on an H200; eager PyTorch was expected to reach a third of that. Times of the
compiler are those that others report for EfficientNet and ResNet, scaled by the number of layers.
"""

from __future__ import annotations

Range = tuple[float, float]

_PREDICTED: dict[str, dict[str, Range]] = {
    "probe": {
        "matrix product, bf16": (650, 850),
        "copy on the device": (2.6, 3.3),
        "pinned copy to the device": (20, 55),
        "one launch": (3, 5),
        "import torch": (2, 15),
    },
    "tune": {
        "cuDNN's search for one new size": (5, 20),
        "peak memory, 64 at once": (7, 11),
        "peak memory, 128 at once": (13, 21),
        "peak memory, 256 at once": (26, 40),
        "efficientnet_b3: channels last against contiguous": (1.0, 2.0),
        "resnest50d: channels last against contiguous": (0.3, 1.0),
    },
    "ceiling": {
        "whole step, 64 at once": (1100, 1500),
        "host time of a step, 64 at once": (25, 45),
        "device time of a step, 64 at once": (40, 60),
        "validation in bf16: rms error of a logit": (0.08, 0.3),
        "validation in fp16: rms error of a logit": (0.005, 0.04),
        "a checkpoint's copy to the CPU": (0.15, 0.3),
    },
    "compile": {
        "seconds, nothing compiled before": (90, 150),
        "seconds, with the compiler's cache": (30, 50),
        "compiled against eager": (1.15, 1.5),
    },
    "whole": {
        "whole trainer against its ceiling": (0.95, 1.02),
        "whole trainer against the naive loop": (1.5, 6),
    },
    "end": {"first step after": (40, 120)},
}
_OF_CARD: dict[str, dict[str, dict[str, Range]]] = {
    "H200": {
        "probe": {"copy on the device": (3.9, 4.6)},
        "ceiling": {"whole step, 64 at once": (1200, 1750), "device time of a step, 64 at once": (30, 50)},
    },
}


def predicted_for(part: str, name: str, *, card: str) -> Range | None:
    """Return the lowest and highest value that was expected on `card`; None where nothing was expected.

    Only for cards of the Hopper generation, for which the predictions were made.
    """
    if not any(known in card for known in ("H100", "H200")):
        return None
    for known, parts in _OF_CARD.items():
        if known in card and name in parts.get(part, {}):
            return parts[part][name]
    return _PREDICTED.get(part, {}).get(name)
