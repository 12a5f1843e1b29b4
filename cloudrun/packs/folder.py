"""Push a folder of this computer into a store, with the index that this computer keeps."""

from __future__ import annotations

from pathlib import Path

from cloudrun.packs.index import FileIndex
from cloudrun.packs.push import push
from cloudrun.packs.sending import Pushed
from cloudrun.stores import OnFiles, open_objects
from cloudrun.text.names import name_from

_INDEX = "files.sqlite"


def push_folder(  # noqa: PLR0913 - from where, to where, and how
    folder: Path,
    store: str,
    home: Path,
    on_files: OnFiles,
    *,
    endpoint: str | None,
    name: str | None = None,
    dry_run: bool = False,
) -> Pushed:
    """Make the data set `name` (by default the folder's name) in `store` equal to `folder`. Raises StoreError.

    `home` is the folder of cloudrun's own state, where the index lies; `endpoint` is None for AWS.
    """
    objects = open_objects(store, endpoint=endpoint)
    with FileIndex(home / _INDEX) as index:
        return push(
            folder,
            objects,
            name or name_from(folder.absolute()),
            index,
            store_name=f"{store.rstrip('/')} at {endpoint}",
            on_files=on_files,
            dry_run=dry_run,
        )
