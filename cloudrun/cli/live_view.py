"""Show a launch while it goes on: its stages, progress and cost stay at the bottom, and the log scrolls above them."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from typing import TYPE_CHECKING, Self

from cloudrun.cli.console import Transfer, is_terminal, lines_go_to, note
from cloudrun.render.running import (
    DATA,
    STAGES,
    bar_text,
    done_share,
    machine_text,
    money_share,
    money_text,
    progress_text,
    stage_of,
)
from cloudrun.text.pace import Pace
from cloudrun.text.units import duration

if TYPE_CHECKING:
    from datetime import datetime

    from rich.text import Text

    from cloudrun.cli.footer import Footer
    from cloudrun.state.records import Progress
    from cloudrun.state.run import Run

_REDRAW_EVERY_S = 0.2
_READ_EVERY_S = 1.0


class LaunchView:
    """The live view of one launch. Where stderr is no terminal, transfers are told in lines, and nothing is drawn.

    `read_run` returns the run's record as it is now; None where it has none yet.
    """

    def __init__(self, read_run: Callable[[], Run | None], *, files: int | None) -> None:
        self._read_run = read_run
        self._files = files
        self._is_drawn = is_terminal(sys.stderr) and os.environ.get("TERM") != "dumb"
        self._in_lines = Transfer("data sent", files=files)
        self._sent = ""
        self._sent_share = 0.0
        self._pace = Pace()
        self._progress: Progress | None = None
        self._run: Run | None = None
        self._read_at = 0.0
        self._stage = "rent"
        self._stages: dict[str, float] = {}  # when each stage was first seen
        self._pending: list[str] = []
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._footer: Footer | None = None
        self._writing: AbstractContextManager[None] | None = None
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        if self._is_drawn:
            self._start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()
        self._in_lines.__exit__()

    def on_bytes(self, sent: int, total: int, files: tuple[int, int] | None = None) -> None:
        """Show that `sent` of `total` bytes have gone; `files` is (files so far, files in all)."""
        if not self._is_drawn:
            self._in_lines(sent, total, files)
            return
        is_over = sent >= total and (files is None or files[0] >= files[1])
        if is_over and files is None and self._files is not None:
            files = (self._files, self._files)
        text = self._pace.text(sent, total, files=files)
        if is_over and self._sent_share < 1.0:
            note(f"cloudrun: data sent: {text}")
        self._sent, self._sent_share = text, 1.0 if is_over else min(sent / max(total, 1), 0.999)

    def on_progress(self, progress: Progress) -> None:
        """Show the heartbeat of the run's worker."""
        self._progress = progress

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Take the view away while a question is asked."""
        self._stop()
        try:
            yield
        finally:
            if self._is_drawn:
                self._start()

    def _start(self) -> None:
        from cloudrun.cli.footer import Footer

        self._ended.clear()
        self._footer = Footer(sys.stderr)
        self._writing = lines_go_to(self._pending_line)
        self._writing.__enter__()
        self._thread = threading.Thread(target=self._redraw_until_ended, name="live-view", daemon=True)
        self._thread.start()

    def _stop(self) -> None:
        if self._footer is None or self._thread is None:
            return
        self._ended.set()
        self._thread.join()
        assert self._writing is not None
        self._writing.__exit__(None, None, None)
        with suppress(OSError, ValueError):  # a terminal that is gone must not stop what ends a bill
            self._footer.hide(above=self._taken())
        self._footer = self._thread = self._writing = None

    def _redraw_until_ended(self) -> None:
        while True:
            with suppress(OSError, ValueError):
                self._look()
                assert self._footer is not None
                self._footer.show(self._lines(self._footer.width), above=self._taken())
            if self._ended.wait(_REDRAW_EVERY_S):
                return

    def _pending_line(self, text: str) -> None:
        with self._lock:
            self._pending.append(text)

    def _taken(self) -> str:
        """Return the lines that came since the last time, to be written all at once: a log may have many."""
        with self._lock:
            lines, self._pending = self._pending, []
        return "".join(f"{line}\n" for line in lines)

    def _lines(self, width: int) -> list[Text]:
        from rich.text import Text

        return [Text("─" * (width - 1), style="dim"), self._stage_line(), *self._detail_lines(width)]

    def _look(self) -> None:
        now = time.monotonic()
        if self._run is None or now - self._read_at >= _READ_EVERY_S:
            self._read_at = now
            self._run = self._read_run() or self._run
        self._stage = stage_of(self._run, self._progress)
        if self._run is not None and self._run.phase.is_final and not self._stages.keys() - {"rent"}:
            self._stage = "rent"  # a run that is resumed has ended, until its machine is asked for
        self._stages.setdefault(self._stage, now)

    def _stage_line(self) -> Text:
        """The stages that are over with the time of each, the present one, and those to come."""
        from rich.text import Text

        line, present = Text(), self._stage
        seen = sorted(self._stages.items(), key=lambda stage: stage[1])
        for place, (name, began) in enumerate(seen):
            until = seen[place + 1][1] if place + 1 < len(seen) else time.monotonic()
            is_present = name == present
            line.append(f"{'▸' if is_present else '✓'} {name} ", style="bold" if is_present else "green")
            line.append(f"{duration(round(until - began)).replace('.0 s', ' s')}  ", style="bold" if is_present else "")
        for name in STAGES:
            if name not in self._stages and (name != "rent"):
                line.append(f"· {name}  ", style="dim")
        return line

    def _detail_lines(self, width: int) -> list[Text]:
        from rich.text import Text

        lines, run = [], self._run
        bar_width = min(max(width // 6 - 4, 5), 30)
        stage = self._stage
        if self._sent and (self._sent_share < 1.0 or stage == DATA):
            lines.append(_bar("data", self._sent_share, bar_width, self._sent))
        if stage == "train":
            share = done_share(self._progress)
            lines.append(_bar("done", share, bar_width, progress_text(self._progress)))
        if run is not None:
            now = _now()
            lines.append(_bar("used", money_share(run, now), bar_width, f"{money_text(run, now)}  {machine_text(run)}"))
        else:
            lines.append(Text("nothing is billed yet"))
        return lines


def _bar(name: str, share: float | None, width: int, text: str) -> Text:
    from rich.text import Text

    style = "red" if name == "used" and (share or 0) > 0.8 else "yellow" if name == "used" else "cyan"
    part = "  - " if share is None else f"{share:4.0%}"
    return Text.assemble(f"{name} ", (bar_text(share, width), style), f" {part}  ", text)


def _now() -> datetime:
    from cloudrun.state.records import now_utc

    return now_utc()
