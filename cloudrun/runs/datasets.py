"""Send the images of a job to its store before a machine is rented: sending them costs no second of a GPU."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from cloudrun.backends import Say
from cloudrun.job.plan import DataRoute, Plan
from cloudrun.packs.folder import push_folder
from cloudrun.packs.scan import walk
from cloudrun.packs.sending import Pushed
from cloudrun.stores import OnFiles
from cloudrun.text.units import size


def store_data(plan: Plan, home: Path, say: Say, on_files: OnFiles) -> Plan:
    """Send the plan's images to its store, and return the plan with their manifest.

    Returns the plan unchanged where the images do not go through a store. An upload that was killed goes on where it
    was when it is called again. `home` is the ledger's folder.
    """
    spec = plan.spec
    if plan.data_route is not DataRoute.THROUGH_STORE or spec.store is None:
        return plan
    pushed = push_folder(Path(spec.data.source), spec.store, home, on_files, endpoint=spec.endpoint)
    what = f"{pushed.files} files, {size(pushed.size_bytes)}"
    if not pushed.sent_bytes:
        say(f"{what}: all in {spec.store} already")
    else:
        say(f"{what} in {spec.store}; {pushed.new_files} files were new there ({size(pushed.sent_bytes)})")
    return replace(plan, manifest=pushed.manifest)


def would_send(plan: Plan, home: Path) -> Pushed | None:
    """Return what a launch would send of the images, without sending them; None where it would send none.

    Raises StoreError.
    """
    spec = plan.spec
    folder = Path(spec.data.source)
    if plan.data_route is DataRoute.PUSHED:
        found = walk(folder)
        size_bytes = sum(one.size for one in found)
        return Pushed(None, len(found), size_bytes, new_files=len(found), sent_bytes=size_bytes)
    if plan.data_route is not DataRoute.THROUGH_STORE or spec.store is None:
        return None
    return push_folder(folder, spec.store, home, lambda *_: None, endpoint=spec.endpoint, dry_run=True)
