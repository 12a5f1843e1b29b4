"""The screen of all runs: Enter watches the chosen run."""

from __future__ import annotations

from collections.abc import Callable

from textual.app import ComposeResult
from textual.binding import Binding
from textual.screen import Screen
from textual.widgets import DataTable, Footer, Static

from cloudrun.catalog.infras import CAPABILITIES
from cloudrun.cli.dashboard.questions import Help
from cloudrun.render.tables import ps_cells
from cloudrun.state.records import now_utc
from cloudrun.state.run import Run

_READ_EVERY_S = 2.0
_MOST_RUNS = 500


class ListScreen(Screen[None]):
    """Every run, the ones that may cost money first."""

    BINDINGS = [  # noqa: RUF012 - Textual's
        Binding("q", "app.quit_watching", "Quit"),
        Binding("question_mark", "show_help", "Help", key_display="?"),
    ]
    CSS = "#title { height: auto; } DataTable { height: 1fr; }"

    def __init__(self, read_runs: Callable[[], list[Run]], watch: Callable[[Run], None]) -> None:
        super().__init__()
        self._read_runs = read_runs
        self._watch = watch
        self._runs: list[Run] = []

    def compose(self) -> ComposeResult:
        yield Static(id="title")
        yield DataTable(cursor_type="row", zebra_stripes=False)
        yield Footer(show_command_palette=False)

    def on_mount(self) -> None:
        self.set_interval(_READ_EVERY_S, self.redraw)
        self.redraw()

    def redraw(self) -> None:
        """Show the runs as they are now; the cursor stays on its run."""
        table = self.query_one(DataTable)
        chosen = self._runs[table.cursor_row].run_id if self._runs and table.cursor_row < len(self._runs) else None
        self._runs = self._read_runs()[:_MOST_RUNS]
        bills = sum(run.may_bill and CAPABILITIES[run.backend].is_billed for run in self._runs)
        self.query_one("#title", Static).update(f"{len(self._runs)} runs, {bills} may cost money; Enter watches one")
        headers, *rows = ps_cells(self._runs, now_utc())
        table.clear(columns=not table.columns)
        if not table.columns:
            table.add_columns(*headers)
        table.add_rows(rows)
        row = next((place for place, run in enumerate(self._runs) if run.run_id == chosen), 0)
        if self._runs:
            table.move_cursor(row=row)

    def on_data_table_row_selected(self, event: DataTable.RowSelected) -> None:
        if event.cursor_row < len(self._runs):
            self._watch(self._runs[event.cursor_row])

    def action_show_help(self) -> None:
        self.app.push_screen(Help())
