"""Send files within the budget: until its watchdog works, only this computer knows it."""

from __future__ import annotations

import time

from cloudrun.errors import BudgetUsed
from cloudrun.protocol.order import Order
from cloudrun.remote.ssh import Connection, TransferTooSlow
from cloudrun.text.units import duration


def rsync_within(connection: Connection, order: Order, *words: str) -> None:
    """Run rsync with `words`. Raises BudgetUsed where that would use up the budget of `order`."""
    left_s = _left_s(order)
    if left_s <= 0:
        raise _used(order)
    try:
        connection.rsync(*words, timeout_s=left_s)
    except TransferTooSlow:
        raise _used(order) from None
    if _left_s(order) <= 0:  # this computer slept meanwhile
        raise _used(order)


def _left_s(order: Order) -> float:
    """Return the seconds until the machine has to be ended, so that the budget is kept."""
    return order.limit_s() - order.end_lead_s - order.at(time.time()).billed_s


def _used(order: Order) -> BudgetUsed:
    now = order.at(time.time())
    return BudgetUsed(
        f"the budget (${order.max_cost_usd:.2f}, {duration(order.max_hours * 3600)}) was used before the job could"
        f" begin, while code, weights or a checkpoint were sent: {duration(now.billed_s)}, ${now.spent_usd:.2f}",
        hint="give it more (`budget`), or have the machine fetch what is large: `pretrained: true`, a `store`",
    )
