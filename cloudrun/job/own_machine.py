"""The keys of a job file about a machine of the user's own, reached by `infra: ssh://...`: price, end, places."""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StrictInt, field_validator

from cloudrun.catalog.currencies import AS_OF, USD_PER_UNIT

LEAVE, SHUTDOWN = "leave", "shutdown"
# Containers of rented GPUs are often root's and have no sudo; the full path is what AutoDL's manual names.
_SHUTDOWN = (
    'if [ "$(id -u)" = 0 ]; then as=; else as="sudo -n"; fi; '
    "$as /usr/bin/shutdown -h now || $as /sbin/shutdown -h now || $as shutdown || $as poweroff"
)


class OwnPrice(BaseModel):
    """The price of a machine of one's own. A number alone is US dollars an hour."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    hourly: Annotated[float, Field(ge=0, le=100_000)]
    """Price of an hour, in `currency`."""
    currency: str = "USD"
    """Currency of `hourly` by its code: CNY, EUR, USD, ..."""
    usd: Annotated[float, Field(gt=0, le=1000)] | None = None
    """US dollars for one unit of `currency`; null: an approximate rate that cloudrun brings along."""

    @field_validator("currency")
    @classmethod
    def _known(cls, currency: str) -> str:
        code = {"RMB": "CNY", "¥": "CNY", "$": "USD", "€": "EUR", "£": "GBP"}.get(currency.upper(), currency.upper())
        if not re.fullmatch(r"[A-Z]{3}", code):
            raise ValueError(f'"{currency}" is not a currency; write its code: CNY, EUR, USD')
        return code

    @property
    def rate(self) -> float | None:
        """US dollars for one unit; None where neither the job file nor cloudrun has a rate."""
        return self.usd if self.usd is not None else USD_PER_UNIT.get(self.currency)

    @property
    def hourly_usd(self) -> float:
        """US dollars an hour. The job file's check has seen to a rate."""
        rate = self.rate
        assert rate is not None, f"no rate for {self.currency}"
        return self.hourly * rate

    @property
    def source(self) -> str:
        """Return where the dollars come from, for the plan and the receipt."""
        if self.currency == "USD":
            return "your own price"
        whose = "your rate" if self.usd is not None else f"an approximate rate of {AS_OF}"
        return f"your own price, {self.hourly:g} {self.currency} at ${self.rate:g} for 1 {self.currency}, {whose}"


def as_price(value: object) -> object:
    """Read a number as US dollars an hour."""
    return {"hourly": value} if isinstance(value, int | float) and not isinstance(value, bool) else value


def _check_path(path: str | None) -> str | None:
    if path is not None and (not path.startswith(("/", "~/")) or re.search(r"[\x00-\x1f:]", path)):
        raise ValueError(f'"{path}" is not a path on the machine; write it from `/` or `~/` on')
    return path


_Path = Annotated[str | None, AfterValidator(_check_path)]


class OwnMachine(BaseModel):
    """Places on a machine of one's own, and which of its GPUs to use."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    folder: _Path = None
    """Folder for cloudrun's own folder; null: the data disk where the machine is known to have one, else the home."""
    python: _Path = None
    """Python 3.10 or newer that runs the worker; null: the first that is found."""
    gpus: tuple[Annotated[StrictInt, Field(ge=0, le=63)], ...] | None = None
    """Numbers of the GPUs to use, as nvidia-smi counts them, also where they are in use; null: free ones."""

    @field_validator("gpus")
    @classmethod
    def _each_once(cls, gpus: tuple[int, ...] | None) -> tuple[int, ...] | None:
        if gpus is not None and (not gpus or len(set(gpus)) < len(gpus)):
            raise ValueError(f"{list(gpus)} does not name each GPU once; write `gpus: [0]`, or leave it out")
        return gpus


def end_command(end: str) -> str | None:
    """Return the shell command that ends the machine; None where it stays as it is."""
    match end:
        case "leave":
            return None
        case "shutdown":
            return _SHUTDOWN
        case _:
            return end


def check_end(end: str) -> str:
    """Return what ends the machine. Raises ValueError where it is empty or has several lines."""
    if not end.strip() or "\n" in end.strip():
        raise ValueError("`end` is leave, shutdown, or one line of shell such as `featurize instance release`")
    return end.strip()


def misplaced(given: dict[str, Any]) -> str:
    """Return the error for keys that are about a machine of one's own, in a job that rents one."""
    names = " and ".join(f"`{name}`" for name in given)
    return f"{names}: only for a machine of your own; add `infra: ssh://USER@HOST:PORT`, or remove it"
