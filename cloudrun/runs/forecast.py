"""Forecast a run before it is started: machine, price, estimate, worst case and warnings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from cloudrun.backends.live_price import LivePrice, live_price
from cloudrun.catalog.infras import is_own_cluster
from cloudrun.dataset.survey import Survey
from cloudrun.forecast.estimate import NoEstimate
from cloudrun.forecast.history import history
from cloudrun.forecast.offers import estimate_offer, exceeds, refuse_hopeless, workload_for
from cloudrun.job.keys import KeysSent
from cloudrun.job.plan import Plan
from cloudrun.render.tables import plan_text
from cloudrun.state.ledger import Ledger
from cloudrun.state.records import Estimate, Quote, now_utc
from cloudrun.state.run import Run


@dataclass(frozen=True, slots=True)
class Forecast:
    """A plan with its machine, price and estimate, as far as these could be found out; `live`: the provider's price."""

    plan: Plan
    quote: Quote | None
    made: Estimate | NoEstimate
    live: LivePrice | None
    keys: KeysSent | None = None

    @property
    def estimate(self) -> Estimate | None:
        """The estimate; None where none could be made."""
        return None if isinstance(self.made, NoEstimate) else self.made

    @property
    def costs(self) -> bool:
        """Whether the machine costs money; so taken where its price is not known."""
        return self.quote is None or self.quote.hourly_usd > 0

    @property
    def fits_budget(self) -> bool:
        """Whether the estimate is within the budget; True where there is no estimate. Decides the default answer."""
        return not exceeds(self.made, self.plan.spec.budget)

    def refuse_hopeless(self) -> None:
        """Raise StartOverBudget where nothing would be left to train."""
        refuse_hopeless(self.made, self.plan.spec.budget, self.quote.total_hourly_usd if self.quote else None)

    def text(self) -> str:
        """Return the forecast as a text for a terminal."""
        why = self.made.why if isinstance(self.made, NoEstimate) else ""
        live = self.live.text(self.quote) if self.live is not None and self.quote is not None else ""
        return plan_text(
            self.plan, self.quote, now_utc(), estimate=self.estimate, no_estimate=why, live=live, keys=self.keys
        )

    def as_plain(self) -> dict[str, Any]:
        """Return the part of `--dry-run --json` that the plan alone does not know."""
        return {
            "quote": self.quote.model_dump(mode="json") if self.quote else None,
            "live_hourly_usd": self.live.hourly_usd if self.live else None,
            "estimate": self.estimate.model_dump(mode="json") if self.estimate else None,
            "fits_budget": self.fits_budget,
            "keys_sent": self.keys.as_plain() if self.keys else None,
        }

    def warnings(self) -> list[str]:
        """Return a sentence for each thing that the user should know before the launch."""
        found = []
        if self.live is not None and self.quote is not None and self.live.is_called_out(self.quote):
            found.append(f"the price is not the provider's: {self.live.text(self.quote)}")
        if self.estimate is not None and not self.fits_budget:
            budget = self.plan.spec.budget
            found.append(f"the estimate goes over the budget of ${budget.max_cost:g} and {budget.max_hours:g} h")
        if self.keys is not None and self.keys.warning:
            found.append(self.keys.warning)
        return found


def make_forecast(  # noqa: PLR0913 - all that an estimate is made from
    plan: Plan,
    quote: Quote | None,
    survey: Survey | None,
    ledger: Ledger,
    *,
    goes_on: Run | None = None,
    keys: KeysSent | None = None,
) -> Forecast:
    """Estimate the plan on the quoted machine, and ask its provider for the price of now.

    `goes_on`: the run that is resumed; `keys`: the user's own keys that go to the machine.
    """
    made = estimate_offer(plan, quote, workload_for(plan, survey), history(ledger.all()), goes_on=goes_on)
    asked = quote is not None and quote.hourly_usd and not is_own_cluster(quote.infra)
    live = live_price(quote) if quote is not None and asked else None
    return Forecast(plan, quote, made, live, keys)
