"""The images of a job into its store, before a machine is rented: sending them costs no second of a GPU."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from cloudrun.backends import Say
from cloudrun.job_file import name_from
from cloudrun.packs.index import FileIndex
from cloudrun.packs.push import Pushed, push
from cloudrun.plan import DataRoute, Plan
from cloudrun.stores import OnBytes, open_objects
from cloudrun.units import size

_INDEX = "files.sqlite"


def push_folder(
    folder: Path,
    store: str,
    home: Path,
    on_bytes: OnBytes,
    *,
    endpoint: str | None,
    name: str | None = None,
    dry_run: bool = False,
) -> Pushed:
    """Make the data set `name` (by default as the folder) in `store` equal to `folder`. Raises StoreError."""
    objects = open_objects(store, endpoint=endpoint)
    with FileIndex(home / _INDEX) as index:
        return push(
            folder,
            objects,
            name or name_from(folder.absolute()),
            index,
            store_name=f"{store.rstrip('/')} at {endpoint}",
            on_bytes=on_bytes,
            dry_run=dry_run,
        )


def store_data(plan: Plan, home: Path, say: Say, on_bytes: OnBytes) -> Plan:
    """The plan, with its images in the store where they go that way. Killed, it goes on where it was."""
    spec = plan.spec
    if plan.data_route is not DataRoute.THROUGH_STORE or spec.store is None:
        return plan
    pushed = push_folder(Path(spec.data.source), spec.store, home, on_bytes, endpoint=spec.endpoint)
    what = f"{pushed.files} files, {size(pushed.size_bytes)}"
    if not pushed.sent_bytes:
        say(f"{what}: all in {spec.store} already")
    else:
        say(f"{what} in {spec.store}; {pushed.new_files} files were new there ({size(pushed.sent_bytes)})")
    return replace(plan, manifest=pushed.manifest)
