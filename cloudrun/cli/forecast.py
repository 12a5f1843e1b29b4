"""A forecast on the terminal, and the question whether to go on."""

from __future__ import annotations

from cloudrun.cli.console import confirm, note, warn
from cloudrun.runs.forecast import Forecast


def show(forecast: Forecast) -> None:
    """On stderr, with what to beware of. Raises StartOverBudget where nothing would be left to train."""
    forecast.refuse_hopeless()
    note(forecast.text())
    for warning in forecast.warnings():
        warn(warning)


def is_agreed(forecast: Forecast, question: str, *, yes: bool) -> bool:
    """Ask, where it costs; the default answer is No where the estimate exceeds the budget, or no price is known."""
    default = forecast.fits_budget and forecast.quote is not None
    agreed = not forecast.costs or yes or confirm(question, default=default)
    if not agreed:
        note("nothing was started")
    return agreed
