"""Rent a machine within a deadline and at the agreed price; else try the next GPU of the job's list."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from cloudrun.backends import NotInTime, Terms
from cloudrun.billing.agreed import agreed_usd, is_too_dear, left_to_try, rent_limit_s, waiting_bills
from cloudrun.billing.cost import cost_of
from cloudrun.errors import Interrupted, NoMachine
from cloudrun.job.plan import Plan
from cloudrun.runs.context import Context
from cloudrun.runs.undo import fail, stopped_meanwhile, undone
from cloudrun.state.records import Phase, Quote, now_utc
from cloudrun.state.run import Ending, Run

# The longest wait for an answer: the machine bills meanwhile.
_ANSWER_WAIT_S = 60.0


def rent(plan: Plan, context: Context) -> None:
    """Rent the plan's machine and record it. Whatever fails, no machine is left billing unknown to the ledger.

    Raises NoMachine where there is none, Interrupted on Ctrl-C or where another command has stopped the run.
    """
    run = _opened(plan, context)
    try:
        quote = _first_that_will_do(plan, run, context)
        _keep(quote, run, context)
    except NoMachine as err:
        if _closed(run, context, err.message).phase is Phase.FAILED:
            raise
        raise stopped_meanwhile(run) from None
    except KeyboardInterrupt:
        raise undone(run, context, "while the machine was being rented") from None
    except Interrupted:
        raise
    except Exception as err:
        fail(run, context, err)
        raise


def _first_that_will_do(plan: Plan, run: Run, context: Context) -> Quote:
    """Try the GPUs of the job's list in turn, and return the quote of the first machine that will do.

    Raises NoMachine where each came too late, was too dear, or is not to be had.
    """
    while True:
        quote, refused = _tried(plan, run, context)
        if refused is None and quote is not None:
            return quote
        assert refused is not None
        rest = _without(plan, quote.gpu if quote is not None else getattr(refused, "gpu", None))
        if rest is None:
            raise refused
        context.say(f"{refused.message}; trying {' or '.join(rest.spec.gpu)}")
        run, plan = _next_bill(run, context), rest


def _opened(plan: Plan, context: Context) -> Run:
    """Open the bill before the cloud is called."""
    identity, now = context.backend.identity(), now_utc()

    def opened(run: Run) -> Run:
        return run if run.phase.is_final else run.asking_for_machine(rented_by=identity, now=now)

    run = context.ledger.update(plan.run_id, opened)
    if run.phase.is_final:
        raise stopped_meanwhile(run)
    return run


def _tried(plan: Plan, run: Run, context: Context) -> tuple[Quote | None, NoMachine | None]:
    """Return (the quote of a rented machine at an accepted price, None).

    Else (its quote where it had one, why it was given back). Raises NoMachine where there is none.
    """
    so_far = cost_of(run, now_utc())
    agreed = run.expected
    hourly = agreed.total_hourly_usd if agreed is not None else 0.0
    budget = plan.spec.budget
    within_s = rent_limit_s(
        budget,
        hourly,
        billed_s=so_far.hours * 3600,
        spent_usd=float(so_far.usd),
        waiting_bills=agreed is None or waiting_bills(agreed.infra),
    )
    terms = Terms(agreed, within_s, lambda since, hourly: _note_start(run, context, since, hourly))
    try:
        quote = context.backend.rent(plan, context.say, terms)
    except NotInTime as late:
        if context.current(run).was_seen:
            ended_at = late.ended_at
            context.update(run, lambda run: run.seen(ended_at))
        return None, late
    if agreed is None or not is_too_dear(agreed, quote):
        return quote, None
    dear = _too_dear(agreed, quote)
    context.update(run, lambda run: run.priced(quote))
    if context.console.agree is not None and context.console.agree(f"{dear.message}. Keep it?", _ANSWER_WAIT_S):
        return quote, None
    context.say(f"{dear.message}: ending it")
    released_at = context.backend.release(context.current(run))
    context.update(run, lambda run: run.seen(released_at))
    return quote, dear


def _too_dear(agreed: Quote, quote: Quote) -> NoMachine:
    was = agreed_usd(agreed, quote.gpu)
    over = f", {quote.total_hourly_usd / was - 1:.0%} more" if was else ""
    return NoMachine(
        f"{quote.infra} bills {quote.machine} at ${quote.total_hourly_usd:.4f} an hour, and ${was:.4f} was agreed"
        f" to{over}",
        hint="launch again at a terminal to be asked (without `--yes`), or name another cloud or GPU",
    )


def _keep(quote: Quote, run: Run, context: Context) -> None:
    now = now_utc()
    run = context.update(run, lambda run: run.rented(quote, now))
    if run.phase.is_final:  # `down` came while the machine was being rented, perhaps too early to see it
        ended = Ending(context.backend.release(run))
        context.update(run, lambda run: run if run.released_at is not None else run.gone(ended, is_proven=True))
        raise stopped_meanwhile(run)


def _note_start(run: Run, context: Context, since: datetime, hourly_usd: float | None) -> None:
    """Count the bill by the provider's own start and price of the machine."""
    now = now_utc()
    context.update(run, lambda run: run.noticed(since, hourly_usd, now=now))


def _next_bill(run: Run, context: Context) -> Run:
    """Close the bill of a machine that was given back, and open the bill of the next one."""
    now = now_utc()
    run = context.current(run)
    if run.phase.is_final:
        raise stopped_meanwhile(run)
    return context.update(run, lambda run: run.next_machine(now))


def _closed(run: Run, context: Context, why: str) -> Run:
    """Record that there is no machine, as the backend has shown."""
    now = now_utc()
    return context.update(run, lambda run: run.not_rented(why, now))


def _without(plan: Plan, gpu: str | None) -> Plan | None:
    """Return the plan with the GPUs of its list that are left after `gpu` was tried; None where none is left."""
    rest = left_to_try(plan.spec.gpu, gpu)
    return replace(plan, spec=plan.spec.model_copy(update={"gpu": rest})) if rest else None
