"""Look up how much work each of timm's models is, without importing timm: the basis of estimates of time and memory.

`gmacs.txt` is written by `python -m cloudrun.recipe.gmacs` where timm is installed: a model a line, then pixels, GMACs,
M parameters and M activations at that size, or `unknown` where the model cannot be built without weights.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn

_LIST = Path(__file__).with_name("gmacs.txt")


@dataclass(frozen=True, slots=True)
class Work:
    """Work of one image through a backbone without its classifier, forward, at `image_size` pixels square."""

    image_size: int
    gmacs: float  # 10^9 multiply-adds
    parameters_m: float  # millions
    activations_m: float  # millions of values that the layers write

    def at(self, image_size: int) -> Work:
        """Scale to another size.

        Convolutions and token layers grow with the pixels; attention grows faster, and is a small part.
        """
        scale = (image_size / self.image_size) ** 2
        return Work(image_size, self.gmacs * scale, self.parameters_m, self.activations_m * scale)


@cache
def _works() -> dict[str, Work]:
    lines = (line.split() for line in _LIST.read_text(encoding="utf-8").splitlines())
    return {
        name: Work(int(numbers[0]), *(float(number) for number in numbers[1:]))
        for name, *numbers in lines
        if len(numbers) == 4
    }


def work_of(backbone: str, image_size: int) -> Work | None:
    """Return the work of `backbone` (with or without tag) at `image_size`; None where it was not counted."""
    work = _works().get(backbone.partition(".")[0])
    return None if work is None else work.at(image_size)


def measure(name: str) -> Work:
    """Count the work of a model of the installed timm, on shapes alone. Raises any error of timm and torch."""
    import timm
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    with torch.device("meta"):
        created = timm.create_model(name, pretrained=False, num_classes=0)
    model: nn.Module = created.eval()
    size = max(created.default_cfg["input_size"][1:])
    image = torch.zeros(1, 3, *created.default_cfg["input_size"][1:], device="meta")
    written = _values_written()
    with torch.no_grad(), FlopCounterMode(display=False) as flops, written:
        model(image)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    return Work(size, flops.get_total_flops() / 2e9, parameters / 1e6, written.values / 1e6)


def _values_written() -> Any:
    """Return a mode that counts values written to new tensors; views and in-place changes write none."""
    from torch import Tensor
    from torch.utils._python_dispatch import TorchDispatchMode
    from torch.utils._pytree import tree_leaves

    class Written(TorchDispatchMode):  # type: ignore[no-untyped-call]
        values = 0

        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            result = func(*args, **(kwargs or {}))
            in_place = func.overloadpacket.__name__.endswith("_")
            if not func.is_view and not in_place:
                self.values += sum(tensor.numel() for tensor in tree_leaves(result) if isinstance(tensor, Tensor))
            return result

    return Written()  # type: ignore[no-untyped-call]


def list_of_timm() -> str:
    """Return the content of `gmacs.txt` for the installed timm."""
    import timm

    lines = []
    for name in sorted(timm.list_models()):
        try:
            work = measure(name)
        except Exception:  # noqa: BLE001 - models fail on shapes alone in ways of their own
            lines.append(f"{name} unknown\n")
            continue
        numbers = (f"{number:.4g}" for number in (work.gmacs, work.parameters_m, work.activations_m))
        lines.append(f"{name} {work.image_size} {' '.join(numbers)}\n")
    return "".join(lines)


if __name__ == "__main__":
    _LIST.write_text(list_of_timm(), encoding="utf-8")
