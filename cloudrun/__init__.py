"""Rent a GPU for one training job, bring the results home, and prove that the bill ended.

    from cloudrun import Run, launch

    run = launch("jobs/plants.yaml", gpu="A100:1", max_cost=5.0)
    print(run.cost().usd, run.fetch())

`docs/python.md` describes the API. It is loaded when it is used: the worker imports this package on a machine that
has nothing but Python 3.10.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cloudrun.api import Run, estimate, launch

__all__ = ["Run", "estimate", "launch"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        return getattr(import_module("cloudrun.api"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
