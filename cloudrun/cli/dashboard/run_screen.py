"""The screen of one run: where it stands, its curves, its budget, the end of its log."""

from __future__ import annotations

from datetime import datetime

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Grid, VerticalScroll
from textual.events import Resize
from textual.screen import Screen
from textual.widgets import Footer, Static

from cloudrun.cli.dashboard.questions import Help, Question
from cloudrun.protocol.machine_use import summed_up
from cloudrun.render.figures import Figure, figures
from cloudrun.render.plot import plot
from cloudrun.render.running import (
    bar_text,
    done_share,
    machine_text,
    money_share,
    money_text,
    progress_text,
    stage_of,
)
from cloudrun.runs.watching import Sight, Watching
from cloudrun.state.records import now_utc
from cloudrun.text.terminal import without_controls

_CURVE_COLOURS = ("cyan", "yellow", "magenta", "green", "blue", "red", "white", "bright_cyan")
_REDRAW_EVERY_S = 0.5
_CHART_COLUMNS = 38  # the least width of a chart
_CHART_ROWS = 7
_HIGHEST_CHART = 14
_HEAD_ROWS = 6  # of the lines above the charts, and the keys
_LOW = 20  # rows of a screen that has no room for long lines


class Chart(Static):
    """One figure with its newest value, its curves and its scale."""

    figure: Figure | None = None

    def on_resize(self, _: Resize) -> None:
        self.show()

    def show(self) -> None:
        """Draw the figure at the size that the chart has now."""
        figure, size = self.figure, self.size
        if figure is None or size.width < 8 or size.height < 3:
            return
        drawn = Text.assemble((figure.name, "bold"), "  ", no_wrap=True, overflow="ellipsis")
        for number, word in enumerate(figure.now.split("  ")):
            drawn.append(f"{word}  ", style=_CURVE_COLOURS[number % len(_CURVE_COLOURS)])
        for row in plot(figure.curves, width=size.width - 1, height=size.height - 2):
            drawn.append("\n")
            for cell in row:
                style = "" if cell.curve is None else _CURVE_COLOURS[cell.curve % len(_CURVE_COLOURS)]
                drawn.append(cell.letter, style=style)
        drawn.append(f"\n{figure.scale}", style="dim")
        self.update(drawn)


class RunScreen(Screen[None]):
    """One run, watched; `q` ends the dashboard, Escape goes back to the list where there is one."""

    BINDINGS = [  # noqa: RUF012 - Textual's
        Binding("q", "app.quit_watching", "Quit"),
        Binding("l", "toggle_log", "Log"),
        Binding("d", "ask_down", "Down"),
        Binding("question_mark", "show_help", "Help", key_display="?"),
        Binding("escape", "back", "Back", show=False),
    ]
    CSS = """
    #head { height: auto; }
    #charts { height: 1fr; }
    #grid { height: auto; grid-rows: 7; grid-gutter: 0 1; }
    VerticalScroll { scrollbar-size: 1 1; }
    Chart { height: 7; }
    #log { height: 6; border-top: solid $foreground 50%; }
    #log Static { height: auto; }
    """

    def __init__(self, watching: Watching) -> None:
        super().__init__()
        self.watching = watching
        self._shown: Sight | None = None
        self._is_log_alone = False

    def compose(self) -> ComposeResult:
        yield Static(id="head")
        with VerticalScroll(id="charts"):
            yield Grid(id="grid")
        with VerticalScroll(id="log"):
            yield Static(id="lines")
        yield Footer(show_command_palette=False)

    def on_mount(self) -> None:
        self.set_interval(_REDRAW_EVERY_S, self.redraw)
        self.redraw()

    def on_resize(self, event: Resize) -> None:
        columns = max(event.size.width // _CHART_COLUMNS, 1)
        self.query_one("#grid", Grid).styles.grid_size_columns = columns
        self._share_out(event.size.height)

    def _share_out(self, rows: int) -> None:
        """Give the log a quarter of the screen, or all of it; the charts get the rest."""
        self.query_one("#charts").display = not self._is_log_alone
        self.query_one("#log").styles.height = "1fr" if self._is_log_alone else max(rows // 4, 3)
        grid = self.query_one("#grid", Grid)
        lines = -(-max(len(grid.children), 1) // (grid.styles.grid_size_columns or 1))
        free = rows - rows // 4 - _HEAD_ROWS
        chart_rows = min(max(free // lines, _CHART_ROWS), _HIGHEST_CHART)
        grid.styles.grid_rows = str(chart_rows)
        for chart in grid.query(Chart):
            chart.styles.height = chart_rows

    def redraw(self) -> None:
        """Show what is known now."""
        sight = self.watching.sight
        self.query_one("#head", Static).update(
            head_text(sight, now_utc(), self.size.width, is_brief=self.size.height < _LOW)
        )
        if sight is self._shown:
            return
        before, self._shown = self._shown, sight
        if before is None or (sight.rows, sight.samples) != (before.rows, before.samples):
            self._draw_charts(figures(sight.rows, sight.samples))
        if before is None or (sight.lines, sight.receipt) != (before.lines, before.receipt):
            self._draw_log(sight)

    def action_toggle_log(self) -> None:
        self._is_log_alone = not self._is_log_alone
        self._share_out(self.size.height)
        self.query_one("#log", VerticalScroll).scroll_end(animate=False)

    def action_show_help(self) -> None:
        self.app.push_screen(Help())

    def action_back(self) -> None:
        if len(self.app.screen_stack) > 2:
            self.watching.leave()
            self.app.pop_screen()

    def action_ask_down(self) -> None:
        run = self.watching.sight.run
        if run.phase.is_final and not run.may_bill:
            self.notify(f"{run.run_id} has ended, and nothing is billing")
            return
        question = f"Stop {run.run_id}, bring its results home and end its bill?"
        self.app.push_screen(Question(question), self._end_run)

    def _end_run(self, is_agreed: bool | None) -> None:
        if is_agreed:
            self.watching.leave()
            self.app.exit(("down", self.watching.sight.run.run_id))

    def _draw_charts(self, made: list[Figure]) -> None:
        grid = self.query_one("#grid", Grid)
        charts = list(grid.query(Chart))
        for chart in charts[len(made) :]:
            chart.remove()
        for number, figure in enumerate(made):
            if number < len(charts):
                charts[number].figure = figure
                charts[number].show()
            else:
                chart = Chart()
                chart.figure = figure
                grid.mount(chart)
        if len(made) != len(charts):
            self.call_after_refresh(self._share_out, self.size.height)

    def _draw_log(self, sight: Sight) -> None:
        log = self.query_one("#log", VerticalScroll)
        is_at_end = log.scroll_offset.y >= log.max_scroll_y - 1
        lines = [*map(without_controls, sight.lines), *sight.receipt.splitlines()]
        self.query_one("#lines", Static).update(Text("\n".join(lines) or "the log has no line yet"))
        if is_at_end:
            log.scroll_end(animate=False)


def head_text(sight: Sight, now: datetime, width: int, *, is_brief: bool = False) -> Text:
    """Return the lines above the charts: run, progress, budget, and what is wrong; `is_brief`: each in one line."""
    run, progress = sight.run, sight.progress
    bar = min(max(width // 5, 8), 40)
    stage = run.phase.value if run.phase.is_final else stage_of(run, progress)
    lines = [Text.assemble((run.run_id, "bold"), "  ", (stage, _stage_style(sight)), f"  {machine_text(run)}")]
    if not run.phase.is_final:
        share = done_share(progress)
        part = "  - " if share is None else f"{share:4.0%}"
        lines.append(Text.assemble("done ", (bar_text(share, bar), "cyan"), f" {part}  {progress_text(progress)}"))
    used = money_share(run, now)
    style = "red" if used > 0.8 else "yellow"
    lines.append(Text.assemble("used ", (bar_text(used, bar), style), f" {used:4.0%}  {money_text(run, now)}"))
    if sight.problem:
        lines.append(Text(without_controls(sight.problem), style="bold red"))
    elif run.message and run.phase.is_final:
        lines.append(Text(without_controls(run.message)))
    use = summed_up(sight.samples, sight.rows)
    found = [Text(finding, style="bold yellow") for finding in (use.findings if use is not None else [])]
    for line in [*lines, *(found if is_brief else ())]:
        line.no_wrap, line.overflow = True, "ellipsis"
        line.truncate(max(width, 10), overflow="ellipsis")
    return Text("\n").join([*lines, *found])


def _stage_style(sight: Sight) -> str:
    if not sight.run.phase.is_final:
        return "bold cyan"
    return "bold green" if sight.run.phase.exit_code == 0 else "bold red"
