"""The commands `cloudrun data ...`: data sets in a store, without a run."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cloudrun.cli.app import app
from cloudrun.cli.console import Transfer, answer, answer_json, note
from cloudrun.cli.groups import MORE, Commands
from cloudrun.errors import ExitCode, Interrupted, UsageError

if TYPE_CHECKING:
    from cloudrun.stores import Objects

data = typer.Typer(
    cls=Commands,
    help="Data sets in a store: send, take, list, and clear away.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
app.add_typer(data, name="data", rich_help_panel=MORE)

_Store = Annotated[str, typer.Argument(metavar="STORE", help="s3://BUCKET/PREFIX, or a folder.")]
_Endpoint = Annotated[
    str | None,
    typer.Option(envvar="AWS_ENDPOINT_URL", metavar="URL", help="Server of the bucket. [default: AWS]"),
]
_Json = Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")]


@data.command(epilog="Example:\n\n  cloudrun data push ../data/plants s3://my-bucket/runs\n")
def push(  # noqa: PLR0913 - each is an option of the command
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="What to send.")],
    store: _Store,
    name: Annotated[str | None, typer.Option(help="Of the data set. [default: the folder's]")] = None,
    endpoint: _Endpoint = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be sent, and stop.")] = False,
    as_json: _Json = False,
) -> int:
    """Send a folder to a store: only what it does not have, and all of it or nothing becomes visible."""
    from cloudrun.packs.folder import push_folder
    from cloudrun.state.home import home_folder
    from cloudrun.text.units import size

    if not folder.is_dir():
        raise UsageError(f"there is no folder {folder}", hint="name the folder that holds the images")
    with _interruptible(), Transfer("data sent") as on_files:
        pushed = push_folder(
            folder,
            store,
            home_folder(),
            on_files if not dry_run else lambda *_: None,
            endpoint=endpoint,
            name=name,
            dry_run=dry_run,
        )
    if as_json:
        answer_json({**asdict(pushed), "dry_run": dry_run})
        return ExitCode.DONE
    new = f"{pushed.new_files} new, {size(pushed.sent_bytes)}"
    whole = f"{pushed.files} files, {size(pushed.size_bytes)}"
    answer(
        f"{whole}; would send {new}"
        if dry_run
        else f"{whole}; sent {new}"
        if pushed.sent_bytes
        else f"{whole}; all there"
    )
    return ExitCode.DONE


@data.command(epilog="Example:\n\n  cloudrun data pull s3://my-bucket/runs plants ../data/plants\n")
def pull(  # noqa: PLR0913 - each is an option of the command
    store: _Store,
    name: Annotated[str, typer.Argument(metavar="NAME", help="Of the data set; `cloudrun data ls` lists them.")],
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Where to put it.")],
    endpoint: _Endpoint = None,
    exact: Annotated[bool, typer.Option("--exact", help="Remove what else the folder holds.")] = False,
    as_json: _Json = False,
) -> int:
    """Take a data set from a store: only what the folder does not hold, each file verified."""
    from cloudrun.packs.pull import pull as execute
    from cloudrun.packs.refs import read_manifest, read_ref
    from cloudrun.text.units import size

    objects = _opened(store, endpoint)
    ref = read_ref(objects, name).ref
    if ref is None:
        raise UsageError(
            f"there is no data set `{name}` in {store}", hint=f"`cloudrun data ls {store}` lists what there is"
        )
    with _interruptible(), Transfer("data fetched") as on_files:
        pulled = execute(read_manifest(objects, ref.manifest), objects, folder, on_files, exact=exact)
    if as_json:
        answer_json({"folder": str(folder), **asdict(pulled)})
    else:
        note(f"{pulled.files} files, {size(pulled.size_bytes)}; {pulled.new_files} were new here, each verified")
        answer(str(folder))
    return ExitCode.DONE


@data.command(name="ls", epilog="Example:\n\n  cloudrun data ls s3://my-bucket/runs\n")
def list_all(store: _Store, endpoint: _Endpoint = None, as_json: _Json = False) -> int:
    """List the data sets of a store."""
    from cloudrun.packs.refs import all_refs
    from cloudrun.render.tables import table
    from cloudrun.text.units import size

    found = {name: one.ref for name, one in sorted(all_refs(_opened(store, endpoint)).items()) if one.ref is not None}
    if as_json:
        answer_json([{"name": name, **asdict(ref)} for name, ref in found.items()])
    elif not found:
        note(f"no data set in {store}")
    else:
        rows = [
            [name, str(ref.files), size(ref.size_bytes), ref.pushed_at, ref.pushed_by] for name, ref in found.items()
        ]
        answer(table(["NAME", "FILES", "SIZE", "PUSHED", "BY"], rows))
    return ExitCode.DONE


@data.command(epilog="Example:\n\n  cloudrun data rm s3://my-bucket/runs plants\n")
def rm(
    store: _Store,
    name: Annotated[str, typer.Argument(metavar="NAME", help="Of the data set.")],
    endpoint: _Endpoint = None,
) -> int:
    """Forget a data set; `cloudrun data gc` frees its room a day later."""
    from cloudrun.packs.layout import ref_key
    from cloudrun.packs.refs import read_ref

    objects = _opened(store, endpoint)
    if read_ref(objects, name).ref is None:
        raise UsageError(
            f"there is no data set `{name}` in {store}", hint=f"`cloudrun data ls {store}` lists what there is"
        )
    objects.remove([ref_key(name)])
    note(f"forgot `{name}`; `cloudrun data gc {store}` frees its room")
    return ExitCode.DONE


@data.command(epilog="Example:\n\n  cloudrun data gc s3://my-bucket/runs\n")
def gc(  # noqa: PLR0913 - each is an option of the command
    store: _Store,
    endpoint: _Endpoint = None,
    grace_hours: Annotated[
        float, typer.Option(metavar="H", min=0.0, help="How long what nothing needs is kept still.")
    ] = 24.0,
    repack: Annotated[
        bool, typer.Option("--repack", help="First write anew, through this computer, packs that are mostly waste.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would go, and stop.")] = False,
    as_json: _Json = False,
) -> int:
    """Mark packs that no data set needs, and delete those that were marked a day ago. Safe while others push."""
    from cloudrun.packs.gc import collect
    from cloudrun.text.units import size

    objects = _opened(store, endpoint)
    if repack and not dry_run:
        from cloudrun.packs.repack import repack as execute

        written = execute(objects)
        note(f"wrote {written.packs} packs anew, {size(written.kept_bytes)}")
    done = collect(objects, grace_s=grace_hours * 3600, dry_run=dry_run)
    if as_json:
        answer_json({**asdict(done), "dry_run": dry_run})
        return ExitCode.DONE
    would = "would be " if dry_run else ""
    answer(f"in use   {done.live_packs} packs, {size(done.live_bytes)}")
    answer(f"deleted  {would}{done.deleted} packs, {size(done.deleted_bytes)}")
    if done.unfinished:
        answer(f"cleared  {done.unfinished} uploads that never ended")
    answer(f"marked   {would}{done.marked} packs, {size(done.marked_bytes)}, to go in {grace_hours:g} h")
    return ExitCode.DONE


@data.command(epilog="Example:\n\n  cloudrun data verify s3://my-bucket/runs --remove\n")
def verify(
    store: _Store,
    endpoint: _Endpoint = None,
    remove: Annotated[bool, typer.Option("--remove", help="Delete broken packs: the next push sends them.")] = False,
    as_json: _Json = False,
) -> int:
    """Read every pack and compare it with its hash. Ends with 1 where something is broken or missing."""
    from cloudrun.packs.verify import verify as execute
    from cloudrun.text.units import size

    with Transfer("verified") as on_bytes:
        done = execute(_opened(store, endpoint), on_bytes, remove=remove)
    if as_json:
        answer_json({**asdict(done), "damage": [asdict(one) for one in done.damage]})
    else:
        for one in done.damage:
            answer(f"pack {one.pack[:12]}: {one.why}{'; removed' if remove else ''}")
            for name, paths in one.files.items():
                answer(f"  {name}: {len(paths)} files, {', '.join(paths[:3])}{' ...' if len(paths) > 3 else ''}")
        answer(f"{done.packs} packs, {size(done.size_bytes)}: {len(done.damage) or 'none'} damaged")
    if done.damage and not as_json:
        note(f"\nhint: {'' if remove else '`--remove` deletes them; then '}`cloudrun data push` sends what was in them")
    return ExitCode.FAILED if done.damage else ExitCode.DONE


@contextmanager
def _interruptible() -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt:
        raise Interrupted(
            "interrupted; what has arrived stays", hint="run the same command again: it goes on from there"
        ) from None


def _opened(store: str, endpoint: str | None) -> Objects:
    from cloudrun.stores import open_objects

    return open_objects(store, endpoint=endpoint)
