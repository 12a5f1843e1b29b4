"""Choose, on a machine of the user's own, the GPUs and the folder of a run; say what does not fit. Pure."""

from __future__ import annotations

from cloudrun.backends.ssh.probe import Gpu, Probed
from cloudrun.catalog.gpus import parse_gpu
from cloudrun.errors import NoMachine
from cloudrun.job.own_machine import LEAVE, SHUTDOWN
from cloudrun.job.spec import JobSpec

# The command that ends the bill of a platform, by its own manual; None: nothing on the machine does.
_ENDS = {
    "AutoDL": SHUTDOWN,
    "gpushare": None,
    "Featurize": "featurize instance release",
    "RunPod": "runpodctl stop pod $RUNPOD_POD_ID",
    "Vast.ai": None,
}
_LASTS = {
    "AutoDL": "/root/autodl-tmp",
    "gpushare": "/hy-tmp",
    "Featurize": "/home/featurize/work",
    "RunPod": "/workspace",
}


def chosen_gpus(spec: JobSpec, probed: Probed, *, host: str) -> tuple[Gpu, ...]:
    """Return the GPUs that the run uses; none where the job asks for none. Raises NoMachine where too few are free.

    A job's list of GPUs names what to rent. On a machine that is there anyway, the number counts, and not the name.
    """
    named = spec.machine.gpus
    if named is not None:
        missing = sorted(set(named) - {gpu.index for gpu in probed.gpus})
        if missing:
            raise NoMachine(
                f"`{host}` has no GPU {missing[0]}: {_listed(probed)}", hint="change `machine.gpus`: they count from 0"
            )
        return tuple(gpu for gpu in probed.gpus if gpu.index in named)
    if not spec.needs_gpu:
        return ()
    if not probed.gpus:
        what = "it looks like the front of a cluster" if probed.is_login_node else "nvidia-smi finds none there"
        raise NoMachine(
            f"`{host}` has no GPU that works: {what}",
            hint="`infra: slurm` is for clusters"
            if probed.is_login_node
            else "was it started without its GPU? For a run on its CPU: `--set train.device=cpu`",
        )
    count = spec.gpus[0].count
    free = [gpu for gpu in probed.gpus if not gpu.is_used]
    if len(free) < count:
        raise NoMachine(
            f"`{host}` has {len(free)} free GPU{'s' if len(free) != 1 else ''} of {count} wanted: {_listed(probed)}",
            hint="wait for the others, or name the GPUs to share: `--set machine.gpus=[0]`",
        )
    return tuple(free[:count])


def other_model(spec: JobSpec, gpus: tuple[Gpu, ...]) -> str:
    """Return a sentence where the machine has another GPU than the job names; empty where it is one of them."""
    if not gpus or not spec.gpus:
        return ""
    names = {name.lower() for one in spec.gpus for name in (one.name, parse_gpu(str(one)).name)}
    model = gpus[0].model
    if any(model.lower().startswith(name) for name in names):
        return ""
    return f"`gpu` names {' or '.join(one.name for one in spec.gpus)}, and this machine has {model}: it is used"


def folder_of(spec: JobSpec, probed: Probed) -> str:
    """Return the folder in which cloudrun keeps its own, by an absolute path on the machine."""
    place = spec.machine.folder or _LASTS.get(probed.platform) or probed.home
    return f"{place.replace('~', probed.home, 1) if place.startswith('~/') else place}".rstrip("/") + "/cloudrun"


def ending_advice(spec: JobSpec, probed: Probed) -> str:
    """Return what the user should know of the machine's bill; empty where the job file has said it all."""
    known = _ENDS.get(probed.platform)
    if spec.end == LEAVE and known is not None:
        return (
            f"this looks like {probed.platform}, which bills until the machine is off: `--set end='{known}'` ends it"
            " once the results are safe"
        )
    if spec.end == SHUTDOWN and probed.platform in _ENDS and known != SHUTDOWN:
        instead = f"`end: {known}`" if known else "its console"
        return f"this looks like {probed.platform}, where a shutdown may not end the bill; {instead} does"
    return ""


def refuse_unfit(probed: Probed, *, host: str) -> None:
    """Raise NoMachine where the machine lacks a program that a run needs."""
    if probed.python is None:
        raise NoMachine(
            f"`{host}` has no Python 3.10 or newer where cloudrun looks for it",
            hint="name one: `--set machine.python=/path/to/python`; or install one: `conda install python=3.12`,"
            " `apt-get install python3`",
        )
    missing = [name for name in ("rsync", "flock") if name not in probed.programs]
    if missing:
        package = {"rsync": "rsync", "flock": "util-linux"}[missing[0]]
        raise NoMachine(
            f"`{host}` has no `{missing[0]}`",
            hint=f"`apt-get update && apt-get install -y {package}` there, or `conda install -c conda-forge {package}`",
        )


def _listed(probed: Probed) -> str:
    if not probed.gpus:
        return "it has none"
    return "; ".join(
        f"GPU {gpu.index} {gpu.model} {'is in use' if gpu.is_used else 'is free'}"
        f" ({gpu.used_mib:,} of {gpu.total_mib:,} MiB, {gpu.percent} % busy)"
        for gpu in probed.gpus
    )
