"""What the run cost: by phase, by machine, beside its estimate and other offers. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cloudrun.billing.receipt import OtherOffer, PricedPhase, Receipt
from cloudrun.render.report.wording import seconds, usd
from cloudrun.state.records import Quote
from cloudrun.state.run import Run
from cloudrun.text.units import iso

_PHASES_SHOWN = 60


@dataclass(frozen=True, slots=True)
class PhaseShare:
    """A phase, and its share of the billed time."""

    phase: PricedPhase
    share: float
    style: int


@dataclass(frozen=True, slots=True)
class Stay:
    """A machine of the run, and when it was billed."""

    machine: str
    since: str
    until: str
    hourly_usd: float | None


@dataclass(frozen=True, slots=True)
class MoneySection:
    cost: Receipt
    phases: tuple[PhaseShare, ...]
    hidden_phases: int
    stays: tuple[Stay, ...]
    remarks: tuple[str, ...]
    alternatives: tuple[OtherOffer, ...]


def money_section(run: Run, cost: Receipt, best_epoch: int | None) -> MoneySection | None:
    """None where no price is known. `best_epoch`: the one that the page marks."""
    if cost["hourly_usd"] is None:
        return None
    shares = _shares(cost["phases"])
    return MoneySection(
        cost,
        shares[:_PHASES_SHOWN],
        len(shares[_PHASES_SHOWN:]),
        _stays(run),
        tuple(_remarks(cost, best_epoch)),
        tuple(cost["alternatives"]),
    )


def _shares(phases: Sequence[PricedPhase]) -> tuple[PhaseShare, ...]:
    total = sum(phase["duration_s"] for phase in phases)
    styles = {name: style for style, name in enumerate(dict.fromkeys(phase["name"] for phase in phases))}
    return tuple(
        PhaseShare(phase, phase["duration_s"] / total if total else 0.0, styles[phase["name"]] % 8) for phase in phases
    )


def _stays(run: Run) -> tuple[Stay, ...]:
    """The bills of the run's machines, the present one last."""
    stays = [
        Stay(_machine(one.quote), iso(one.billed_from) or "", iso(one.released_at) or "", _rate(one.quote))
        for one in run.earlier
    ]
    if run.billed_from is not None:
        until = iso(run.released_at) or ""
        stays.append(Stay(_machine(run.price), iso(run.billed_from) or "", until, _rate(run.price)))
    return tuple(stays)


def _machine(quote: Quote | None) -> str:
    if quote is None:
        return "a machine"
    parts = (quote.gpu or quote.machine, quote.infra, quote.region, "spot" if quote.spot else None)
    return ", ".join(part for part in dict.fromkeys(parts) if part)


def _rate(quote: Quote | None) -> float | None:
    return quote.total_hourly_usd if quote else None


def _remarks(cost: Receipt, best_epoch: int | None) -> list[str]:
    """The estimate beside what it took, and what the money bought."""
    said = []
    made, worth = cost["estimate"], cost["accuracy"]
    if made and made["low_s"] is not None:
        money = f"{usd(made['low_usd'])} to {usd(made['high_usd'])}, " if made["high_usd"] else ""
        said.append(f"Estimated before: {money}{seconds(made['low_s'])} to {seconds(made['high_s'])}.")
    if made and made["corrected_s"] is not None:
        off = "" if made["corrected_off"] is None else f" ({made['corrected_off']:+.0%} against what it took)"
        said.append(f"From timed steps: {seconds(made['corrected_s'])}{off}.")
    if worth and worth["usd_per_point"] is not None:
        said.append(f"A point of validation accuracy over the first epoch cost {usd(worth['usd_per_point'])}.")
    if worth and worth["usd_after_best"] > 0 and worth["best_epoch"] == best_epoch:
        said.append(f"The epochs after epoch {worth['best_epoch']}, the best one, cost {usd(worth['usd_after_best'])}.")
    return said
