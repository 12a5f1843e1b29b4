"""The command `cloudrun watch`: a run at a glance, redrawn in place."""

from __future__ import annotations

import sys
import time
from collections import deque
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from cloudrun.cli.app import app
from cloudrun.cli.console import answer_json, is_terminal, note
from cloudrun.cli.groups import LOOK
from cloudrun.cli.results import JsonOption, RunArgument, open_run
from cloudrun.errors import ExitCode, Interrupted, RunNotFinished, StoreError, UsageError
from cloudrun.files.untrusted import LARGEST_RESULT_BYTES
from cloudrun.protocol.metrics import CURVES, KINDS, Kind, MetricsRow, parse_metrics
from cloudrun.protocol.outputs import METRICS_KEY
from cloudrun.text.terminal import without_controls

if TYPE_CHECKING:
    from rich.console import Group

    from cloudrun.state.run import Run
    from cloudrun.stores import Store

_LOG_LINES = 12
_BAR_WIDTH = 50
_EPOCHS_SHOWN = 8
_METRICS_EVERY_S = 3.0


@app.command(rich_help_panel=LOOK, epilog="Example:\n\n  cloudrun watch\n")
def watch(run_id: RunArgument = None, as_json: JsonOption = False) -> int:
    """Live dashboard in the terminal: phase, cost, epochs, and the end of the log; with `--json`, its state now."""
    if as_json:
        from cloudrun.render.tables import run_row
        from cloudrun.state.records import now_utc

        run, _ = open_run(run_id)
        answer_json(run_row(run, now_utc()))
        return ExitCode.DONE
    from rich.live import Live

    from cloudrun.runs.console import Console
    from cloudrun.runs.follow import LogReader, follow
    from cloudrun.runs.logs import await_log
    from cloudrun.stores import open_store

    run, context = open_run(run_id)
    if not is_terminal(sys.stdout):
        raise UsageError("`watch` draws on a terminal, and there is none", hint="`cloudrun logs` prints lines instead")
    run = await_log(run, context)
    if run.phase.is_final or run.run_uri is None:
        raise RunNotFinished(
            f"`{run.run_id}` is {run.phase.value}: there is nothing to watch", hint=f"`cloudrun report {run.run_id}`"
        )
    store = open_store(run.run_uri)
    board = _Board(store)
    with Live(board.draw(run), screen=True, auto_refresh=False) as live:

        def redraw() -> bool:
            live.update(board.draw(context.current(run)), refresh=True)
            return False

        try:
            quiet = replace(context, console=Console(on_line=board.lines.append))
            run = follow(run, quiet, reader=LogReader(store), until=redraw)
        except KeyboardInterrupt:
            raise Interrupted(
                f"no longer watching; `{run.run_id}` goes on",
                hint=f"`cloudrun watch {run.run_id}` shows it again; `cloudrun down {run.run_id}` ends it and its bill",
            ) from None
    note(f"{run.run_id} {run.phase.value}" + (f": {run.message}" if run.exit_code else ""))
    return run.phase.exit_code


class _Board:
    """The dashboard of one run."""

    def __init__(self, store: Store) -> None:
        self.lines: deque[str] = deque(maxlen=_LOG_LINES)
        self._store = store
        self._rows: list[MetricsRow] = []
        self._read_at = 0.0

    def draw(self, run: Run) -> Group:
        from rich.console import Group
        from rich.text import Text

        from cloudrun.billing.cost import cost_of
        from cloudrun.state.records import now_utc
        from cloudrun.text.units import duration

        cost = cost_of(run, now_utc())
        quote = run.quote
        head = Text.assemble(
            (run.run_id, "bold"),
            f"  {run.phase.value}  ",
            without_controls(f"{quote.machine} {quote.infra}  ") if quote else "",
            (f"${cost.usd:.2f}", "bold red" if quote and quote.hourly_usd else "bold"),
            f" in {duration(cost.hours * 3600)}",
        )
        self._read_metrics()
        epoch, epochs = run.epoch or 0, run.epochs or 0
        done = max((row["epoch"] for row in self._rows if row["kind"] == "val"), default=0)
        left = f", {duration(run.eta_s)} left" if run.eta_s else ""
        where = Text(f"epoch {epoch} of {epochs}{left}" if epochs else "no epoch yet")
        bar = Text(bar_text(done, epochs), style="green")
        return Group(
            head,
            where,
            bar,
            Text(),
            self._epochs(),
            Text(),
            Text("\n".join(map(without_controls, self.lines)), style="dim"),
        )

    def _epochs(self) -> Any:
        from rich.table import Table

        table = Table("epoch", "train loss", "train acc.", "val loss", "val acc.", "images/s", box=None, pad_edge=False)
        by_epoch: dict[int, dict[Kind, MetricsRow]] = {}
        for row in self._rows:
            by_epoch.setdefault(row["epoch"], {})[row["kind"]] = row
        for epoch, kinds in sorted(by_epoch.items())[-_EPOCHS_SHOWN:]:
            train = kinds.get("train")
            table.add_row(
                str(epoch),
                *(_number(row.get(key) if row else None) for row in map(kinds.get, KINDS) for key in CURVES),
                _number(train.get("images_per_s") if train else None, digits=0),
            )
        return table

    def _read_metrics(self) -> None:
        if time.monotonic() - self._read_at < _METRICS_EVERY_S:
            return
        self._read_at = time.monotonic()
        try:
            content = self._store.read(METRICS_KEY, limit=LARGEST_RESULT_BYTES) or b""
        except StoreError:
            return  # the connection dropped: what was read last stays
        self._rows = parse_metrics(content.decode("utf-8", "replace"))


def bar_text(done: int, total: int) -> str:
    """Return the bar of finished epochs: the empty part shows the scale without colours too."""
    filled = round(_BAR_WIDTH * min(done, total) / total) if total else 0
    return f"{'█' * filled}{'░' * (_BAR_WIDTH - filled)} {done / total if total else 0:.0%}"


def _number(value: object, *, digits: int = 4) -> str:
    return f"{value:.{digits}f}" if isinstance(value, int | float) else ""
