"""Check before a launch that the pretrained weights of a job can be had."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from urllib.parse import urlsplit

from cloudrun.errors import JobFileError
from cloudrun.job.job_file import Job
from cloudrun.recipe.weights import NoWeights, weight_file

_HUB = "https://huggingface.co"
_PROXIES = ("https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY")
_PATIENCE_S = 5


def check_folder(job: Job) -> None:
    """Raise JobFileError where the job's folder of weights lacks those of a backbone."""
    folder = job.spec.train.pretrained
    if job.spec.run is not None or not isinstance(folder, str):
        return
    for name in job.spec.train.backbones:
        try:
            weight_file(name, Path(folder))
        except NoWeights as err:
            raise JobFileError(f"{job.path}: `train.pretrained`: {err.message}", hint=err.hint) from None


def check_hub(job: Job) -> None:
    """Raise JobFileError where a job on this computer needs weights that it neither has nor can download."""
    spec = job.spec
    if spec.run is not None or spec.train.pretrained is not True or spec.capabilities.is_remote:
        return
    missing = [name for name in spec.train.backbones if not _may_be_cached(name)]
    if not missing or any(os.environ.get(name) for name in _PROXIES):
        return
    reason = _unreachable(os.environ.get("HF_ENDPOINT") or _HUB)
    if reason is not None:
        raise JobFileError(
            f"{job.path}: `train.pretrained: true` downloads the weights of {', '.join(missing)}, and {reason}",
            hint="connect this computer, or set `train.pretrained` to a folder of `<timm name>.safetensors` or `.pth`"
            " files, or to false (random weights)",
        )


def hub_problem(job: Job) -> JobFileError | None:
    """Return why a launch would be refused for its weights now: the computer may be offline for a while only."""
    try:
        check_hub(job)
    except JobFileError as err:
        return err
    return None


def _unreachable(address: str) -> str | None:
    """Return why `address` cannot be reached; None where it answers."""
    if os.environ.get("HF_HUB_OFFLINE", "").lower() in ("1", "true", "yes", "on"):
        return "`HF_HUB_OFFLINE` is set"
    parts = urlsplit(address)
    try:
        port = parts.port or (80 if parts.scheme == "http" else 443)
        socket.create_connection((parts.hostname or "", port), timeout=_PATIENCE_S).close()
    except (OSError, ValueError) as err:
        return f"this computer cannot reach {parts.netloc or address}: {err}"
    return None


def _may_be_cached(backbone: str) -> bool:
    """Tell whether an earlier download may have left the weights here. Some models have other names on the hub."""
    name = backbone.partition(".")[0]
    cache = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()
    home = Path(os.environ.get("HF_HOME") or cache / "huggingface")
    hub = Path(os.environ.get("HF_HUB_CACHE") or home / "hub").expanduser()
    torch_home = Path(os.environ.get("TORCH_HOME") or cache / "torch").expanduser()
    repositories = [path.name for path in hub.glob("models--*") if any(path.glob("snapshots/*/*"))]
    files = [path.name for path in torch_home.glob("hub/checkpoints/*")]
    return any(f"--{name}." in f"{one}." or not one.startswith("models--timm--") for one in repositories) or any(
        one.startswith(name) for one in files
    )
