"""Turn SkyPilot's errors into our own, with words that a person can act on."""

from __future__ import annotations

import re
from collections.abc import Sequence

from cloudrun.backends import NoCloudEnabled
from cloudrun.errors import CloudrunError, NoMachine, StillBilling
from cloudrun.job.plan import Plan

_MOST_OFFERED = 4


class SkyError(CloudrunError):
    """SkyPilot failed in a way for which there is no error type of its own here."""


class CatalogUnreachable(NoMachine):
    """SkyPilot's list of machines and prices is not on this computer, and cannot be fetched."""

    def __init__(self, err: Exception) -> None:
        what = re.search(r"catalogs/v\d+/(\S+?\.csv)", str(err))
        super().__init__(
            f"SkyPilot's catalog {f'`{what[1]}` ' if what else ''}cannot be fetched: {_why_unreachable(err)}",
            hint="SkyPilot reads machines and prices from raw.githubusercontent.com, and keeps them in ~/.sky/catalogs:"
            " check the connection, then run the same command again",
        )


def no_machine(err: Exception, plan: Plan, offered: Sequence[str] = ()) -> CloudrunError:
    """Return the error for a machine that could not be had: one line about that machine instead of SkyPilot's many.

    `offered`: GPUs that the enabled clouds have instead; where it is empty, the GPUs that `err` itself names are taken.
    """
    from sky import exceptions

    if isinstance(err, CloudrunError):
        return err
    if is_of_catalog(err):
        return CatalogUnreachable(err)
    wanted = (" or ".join(plan.spec.gpu) or "a machine without GPU") + _beside_gpu(plan)
    is_there = f"there is no {wanted}"
    hint = "`cloudrun gpus` lists GPUs; name a second choice with another `--gpu`, or leave `--infra` out"
    if plan.spec.nodes > 1:
        wanted = f"{plan.spec.nodes} machines with {wanted}"
        is_there = f"there are no {wanted}"
        hint = "ask for fewer `nodes`, each with more GPUs; RunPod and Vast rent no machines that reach each other"
    offered = offered or offered_instead(err)
    if offered:
        hint = f"did you mean {' or '.join(f'`--gpu {gpu}`' for gpu in offered[:_MOST_OFFERED])}? {hint}"
    where = f" on {plan.spec.infra}" if plan.spec.infra else ""
    if isinstance(err, exceptions.NoCloudAccessError) or "not enabled" in str(err):
        return NoCloudEnabled(
            f"no cloud is enabled{' for ' + plan.spec.infra if plan.spec.infra else ''}: {_without_advice(brief(err))}",
            hint="`cloudrun clouds` shows what each cloud lacks; `--infra local` needs none",
        )
    if isinstance(err, exceptions.ResourcesUnavailableError | exceptions.ResourcesMismatchError):
        return NoMachine(
            f"{is_there}{where}: {brief(err)}",
            hint=hint,
        )
    return NoMachine(
        f"renting {wanted}{where} failed: {brief(err)}",
        hint="the whole story is in `sky logs --provision`, `sky status`",
    )


def _beside_gpu(plan: Plan) -> str:
    """Return the CPUs and memory that the job asks for, as text: they rule out more machines than people expect."""
    resources = plan.spec.resources
    asked = {"cpus": resources.cpus, "memory": resources.memory}
    named = [f"`{key}: {value}`" for key, value in asked.items() if value is not None]
    return f" with {' and '.join(named)}" if named else ""


def is_of_catalog(err: Exception) -> bool:
    """Return whether fetching one of SkyPilot's catalogs failed, here or at its API server."""
    return "skypilot-catalog" in str(err) and ("url" in str(err) or "host=" in str(err))


def offered_instead(err: Exception) -> list[str]:
    """Return the GPUs that SkyPilot's own message proposes: `... offered accelerators: ['A100-80GB:1']`."""
    proposed = re.search(r"(?:offered accelerators|Did you mean): *\[([^\]]*)\]", _without_colours(str(err)))
    return re.findall(r"'([^']+)'", proposed[1]) if proposed else []


def translated(err: Exception) -> CloudrunError:
    """Return `err` as it is where it is one of ours, else as a SkyError."""
    if isinstance(err, CloudrunError):
        return err
    return SkyError(f"SkyPilot: {brief(err)}", hint="`sky status` and `sky api logs` may say more")


def still_billing(machine: str, why: str) -> StillBilling:
    """Return the error for a machine whose end is not proven; `why`: the reason."""
    return StillBilling(
        f"the end of machine `{machine}` is not proven: {why}",
        hint=f"run it again; if that does not help: `sky down {machine}`, then look at the provider's own console",
    )


def brief(err: Exception) -> str:
    """Return the first line of an error's text, without colours; its type where it has no text."""
    plain = _without_colours(str(err)).strip()
    line = plain.splitlines()[0].strip() if plain else type(err).__name__
    return line.rstrip(".:")


def _without_advice(text: str) -> str:
    """SkyPilot's words without its own command, which is not on everybody's PATH."""
    return re.sub(r"\.? (Run|Please run|To enable.*run):? *`?sky check.*", "", text)


def _without_colours(text: str) -> str:
    return re.sub(r"\x1b\[[0-9;]*m", "", text)


def _why_unreachable(err: Exception) -> str:
    """Return the innermost cause: `Name or service not known` rather than the words of three libraries."""
    text = brief(err)
    cause = re.search(r"(?:\[Errno -?\d+\] |Client Error: |Server Error: )([\w ]+)", text)
    return cause[1].strip() if cause else text
