"""Small screens above a dashboard: a question about money, and the help."""

from __future__ import annotations

import time

from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Vertical
from textual.events import Key
from textual.screen import ModalScreen
from textual.widgets import Static

# Keys that come sooner were typed before anybody can have read the question.
TYPED_AHEAD_S = 0.5

_HELP = """\
q        quit; the run goes on
l        the whole log, and back
d        stop the run, bring its results home, end its bill (asks)
?        this help
up down  scroll
esc      back to the list of runs
ctrl+c   quit

Bars: `done` counts finished steps, `used` the budget. Charts: the first colour is train or the first GPU."""

_CSS = """
ModalScreen { align: center middle; }
#box { width: 76; max-width: 95%; height: auto; border: round $foreground; padding: 1 2; background: $background; }
"""


class Question(ModalScreen[bool]):
    """Ask a question about money: only `y`, typed after the question was there to be read, means yes."""

    CSS = _CSS

    def __init__(self, question: str) -> None:
        super().__init__()
        self._question = question
        self._asked_at = time.monotonic()

    def compose(self) -> ComposeResult:
        yield Vertical(Static(f"{self._question} \\[y/N]"), id="box")

    def on_mount(self) -> None:
        self._asked_at = time.monotonic()

    def on_key(self, event: Key) -> None:
        event.stop()
        if time.monotonic() - self._asked_at < TYPED_AHEAD_S:
            return
        self.dismiss(event.key in ("y", "Y"))


class Help(ModalScreen[None]):
    """What the keys do."""

    CSS = _CSS
    BINDINGS = [Binding("escape,q,question_mark,enter,l,d", "dismiss", show=False)]  # noqa: RUF012 - Textual's

    def compose(self) -> ComposeResult:
        yield Vertical(Static(_HELP, markup=False), id="box")
