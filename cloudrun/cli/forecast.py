"""Show a forecast on the terminal, and ask whether to go on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cloudrun.cli.console import confirm, note, warn
from cloudrun.errors import CloudrunError

if TYPE_CHECKING:
    from cloudrun.runs.forecast import Forecast


def show(forecast: Forecast) -> None:
    """Write the forecast and its warnings to stderr. Raises StartOverBudget where nothing would be left to train."""
    forecast.refuse_hopeless()
    note(forecast.text())
    for warning in forecast.warnings():
        warn(warning)


def is_agreed(forecast: Forecast, question: str, *, yes: bool, is_second: bool = False) -> bool:
    """Return whether to go on; ask where that costs money and `yes` is not given.

    The default answer is No where the estimate exceeds the budget, or no price is known, or the job has a run already
    (`is_second`).
    """
    default = forecast.fits_budget and forecast.quote is not None and not is_second
    agreed = not forecast.costs or yes or confirm(question, default=default)
    if not agreed:
        note("nothing was started")
    return agreed


def warn_of_list_prices(err: CloudrunError) -> None:
    """Say that prices are shown all the same, and whose they are; `err`: why there are no others."""
    warn(f"{err.message}; so these are public list prices, not yours, and nothing can be rented yet")
    note("`cloudrun doctor` says what is missing for a launch")
