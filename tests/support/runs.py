"""Make runs as they stand in the ledger, and the quotes of their machines."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cloudrun.state.ledger import Ledger
from cloudrun.state.records import Phase, Quote, now_utc
from cloudrun.state.run import Run

START = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)


def a_slurm_quote(hourly_usd: float = 1.29) -> Quote:
    """Return the quote of an A100 of a Slurm cluster, whose disk costs nothing."""
    return Quote(
        machine="m", infra="slurm", region="r", gpu="A100:1", spot=False, hourly_usd=hourly_usd, source="s", as_of=START
    )


def a_runpod_quote(gpu: str = "RTX4090:1", hourly_usd: float = 0.69, **changes: Any) -> Quote:
    """Return the quote of an RTX 4090 of RunPod, with its disk, but for `changes`."""
    fields = {
        "machine": "m", "infra": "runpod", "region": "US", "gpu": gpu, "spot": False, "hourly_usd": hourly_usd,
        "disk_hourly_usd": 0.0137, "source": "s", "as_of": START,
    }  # fmt: skip
    return Quote.model_validate({**fields, **changes})


def an_aws_quote(**changes: object) -> Quote:
    """Return the quote of an A100 of AWS, whose region is not known, but for `changes`."""
    fields: dict[str, object] = {
        "machine": "p4d", "infra": "aws", "region": None, "gpu": "A100:1", "spot": False, "hourly_usd": 3.6,
        "source": "test", "as_of": "2026-11-24T12:00:00Z",
    }  # fmt: skip
    return Quote.model_validate({**fields, **changes})


def a_skypilot_run(**changes: Any) -> Run:
    """Return a run that has a quote and a budget on SkyPilot, and no machine yet, but for `changes`."""
    fields: dict[str, Any] = {
        "run_id": "r",
        "name": "r",
        "backend": "sky",
        "infra": "slurm",
        "gpu": (),
        "job": {"budget": {"max_cost": 5.0, "max_hours": 4.0}},
        "job_path": "r.yaml",
        "created_at": START,
        "quote": a_slurm_quote(),
    }
    return Run.model_validate({**fields, **changes})


def a_local_run(run_id: str, **changes: object) -> Run:
    """Return a run that was just made for this computer, but for `changes`."""
    fields: dict[str, object] = {
        "run_id": run_id,
        "name": "plants",
        "backend": "local",
        "infra": "local",
        "gpu": (),
        "job": {},
        "job_path": "plants.yaml",
        "created_at": now_utc(),
    }
    return Run.model_validate({**fields, **changes})


def rented(home: Path, **changes: Any) -> tuple[Ledger, Run]:
    """Return a ledger, and its run that rented a machine two hours ago and was seen for half an hour."""
    since = now_utc() - timedelta(hours=2)
    fields = {
        "run_id": "r", "quote": a_runpod_quote(), "billed_from": since, "run_uri": "node://cloudrun-r/root/cloudrun/r",
        "phase": Phase.RUNNING,
        "last_seen_at": since + timedelta(minutes=30),
    }  # fmt: skip
    ledger = Ledger(home)
    ledger.add(a_skypilot_run(**{**fields, **changes}))
    return ledger, ledger.get("r")
