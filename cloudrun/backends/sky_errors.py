"""SkyPilot's failures in words that a person can act on."""

from __future__ import annotations

import re

from cloudrun.errors import CloudrunError, NoMachine, StillBilling
from cloudrun.plan import Plan


class SkyError(CloudrunError):
    """SkyPilot failed in a way that has no name of its own here."""


def no_machine(err: Exception, plan: Plan) -> CloudrunError:
    """SkyPilot's many words, as one line about the machine that was asked for."""
    from sky import exceptions

    if isinstance(err, CloudrunError):
        return err
    wanted = " or ".join(plan.spec.gpu) or "a machine without GPU"
    is_there = f"there is no {wanted}"
    hint = "`cloudrun gpus` lists GPUs; name a second choice with another `--gpu`, or leave `--infra` out"
    if plan.spec.nodes > 1:
        wanted = f"{plan.spec.nodes} machines with {wanted}"
        is_there = f"there are no {wanted}"
        hint = "ask for fewer `nodes`, each with more GPUs; RunPod and Vast rent no machines that reach each other"
    where = f" on {plan.spec.infra}" if plan.spec.infra else ""
    if isinstance(err, exceptions.NoCloudAccessError) or "not enabled" in str(err):
        return NoMachine(
            f"no cloud is enabled{' for ' + plan.spec.infra if plan.spec.infra else ''}: {brief(err)}",
            hint="`sky check` shows what is missing for each; `--infra local` needs none",
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


def translated(err: Exception) -> CloudrunError:
    if isinstance(err, CloudrunError):
        return err
    return SkyError(f"SkyPilot: {brief(err)}", hint="`sky status` and `sky api logs` may say more")


def still_billing(machine: str, why: str) -> StillBilling:
    return StillBilling(
        f"the end of machine `{machine}` is not proven: {why}",
        hint=f"run it again; if that does not help: `sky down {machine}`, then look at the provider's own console",
    )


def brief(err: Exception) -> str:
    """The first sentence of an error, without colours and line ends."""
    plain = re.sub(r"\x1b\[[0-9;]*m", "", str(err)).strip()
    line = plain.splitlines()[0].strip() if plain else type(err).__name__
    return line.rstrip(".:")
