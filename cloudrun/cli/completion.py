"""What the shell completes: run ids, GPUs, infras, clouds, commands. Fast: file names and lists, no SkyPilot."""

from __future__ import annotations


def run_ids(incomplete: str) -> list[str]:
    """Return the ids of runs that begin so, the newest record first."""
    from cloudrun.state.home import home_folder

    try:
        records = [(path.stat().st_mtime, path.stem) for path in (home_folder() / "ledger").glob("*.json")]
    except OSError:
        return []
    return [run_id for _, run_id in sorted(records, reverse=True) if run_id.startswith(incomplete)]


def gpus(incomplete: str) -> list[str]:
    """Return SkyPilot's names of GPUs that begin so; a count is typed behind it: `A100:1`."""
    from cloudrun.catalog.gpus import MEMORY_GB

    return [name for name in sorted(MEMORY_GB) if name.startswith(incomplete)]


def infras(incomplete: str) -> list[str]:
    """Return the infras that begin so: this computer, the user's own clusters, the clouds."""
    from cloudrun.catalog.infras import INFRAS

    return [name for name in INFRAS if name.startswith(incomplete)]


def clouds(incomplete: str) -> list[str]:
    """Return the clouds that begin so, as SkyPilot's check takes them."""
    from cloudrun.catalog.infras import LOCAL

    return [name for name in infras(incomplete) if name != LOCAL]


def commands(incomplete: str) -> list[str]:
    """Return the commands that begin so."""
    from cloudrun.cli.app import app

    named = [info.name or getattr(info.callback, "__name__", "") for info in app.registered_commands if not info.hidden]
    groups = [str(info.name) for info in app.registered_groups]
    return [name for name in [*named, *groups] if name.startswith(incomplete)]
