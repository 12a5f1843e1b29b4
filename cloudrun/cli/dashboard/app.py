"""The application of `cloudrun watch`: one run, or the list of all runs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from textual.app import App
from textual.binding import Binding

from cloudrun.cli.dashboard.list_screen import ListScreen
from cloudrun.cli.dashboard.run_screen import RunScreen
from cloudrun.runs.watching import Watching
from cloudrun.state.run import Run

Outcome = tuple[Literal["quit", "interrupted", "down"], str | None]
"""How the dashboard was left, and the run that was watched last; None where only the list was shown."""


class Dashboard(App[Outcome]):
    """Watches runs. The colours are the terminal's own, so that dark and light terminals both can be read."""

    ENABLE_COMMAND_PALETTE = False
    BINDINGS = [Binding("ctrl+c", "interrupt", show=False, priority=True)]  # noqa: RUF012 - Textual's

    def __init__(
        self, open_watching: Callable[[Run], Watching], *, run: Run | None, read_runs: Callable[[], list[Run]]
    ) -> None:
        """`run`: the run to watch; None: show the list of what `read_runs` returns."""
        super().__init__(ansi_color=True)
        self.theme = "ansi-dark"
        self._open_watching = open_watching
        self._run_first = run
        self._read_runs = read_runs
        self.watched: Watching | None = None

    def on_mount(self) -> None:
        if self._run_first is not None:
            self.watch_run(self._run_first)
        else:
            self.push_screen(ListScreen(self._read_runs, self.watch_run))

    def watch_run(self, run: Run) -> None:
        """Show the screen of one run."""
        self.watched = self._open_watching(run)
        self.watched.start()
        self.push_screen(RunScreen(self.watched))

    def action_quit_watching(self) -> None:
        self._leave("quit")

    def action_interrupt(self) -> None:
        self._leave("interrupted")

    def _leave(self, how: Literal["quit", "interrupted"]) -> None:
        if self.watched is not None:
            self.watched.leave()
        self.exit((how, self.watched.sight.run.run_id if self.watched is not None else None))
