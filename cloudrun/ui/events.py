"""Send a run's changes to its page while it goes on, as server-sent events.

    top      the figures, as HTML          curves   the charts, as HTML
    log      {"reset", "lines"}            ended    the page should be loaded anew

The id of an event is the watched run's name and how many lines of the log the page has: a browser whose connection was
cut sends it back, and gets the lines that it has missed. Source: WHATWG HTML, 9.2 Server-sent events.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator

from cloudrun.ui.live import LOG_LINES, Snapshot, Watched

_LOOK_EVERY_S = 1.0
_ALIVE_EVERY_S = 15.0
_RETRY_MS = 2000

Part = Callable[[Snapshot], str]
"""Makes the HTML of a part of the page."""


def events(watched: Watched, last_id: str, closing: threading.Event, *, top: Part, curves: Part) -> Iterator[bytes]:
    """Yield events until the run has ended or `closing` is set. `last_id`: of the last event that the page has got."""
    yield f"retry: {_RETRY_MS}\n\n".encode()
    has_lines = lines_of(last_id, watched.name)
    sent: dict[str, str] = {}
    drawn: Snapshot | None = None
    spoke_at = time.monotonic()
    while not closing.is_set():
        seen = watched.look()
        parts = [("top", top)]
        if drawn is None or drawn.metrics is not seen.metrics or drawn.machine is not seen.machine:
            parts.append(("curves", curves))
            drawn = seen
        for name, part in parts:
            html = part(seen)
            if sent.get(name) != html:
                sent[name] = html
                yield event(name, html)
                spoke_at = time.monotonic()
        if has_lines is None or has_lines < seen.next_line:
            yield event("log", log_part(seen, has_lines), id_=f"{watched.name}.{seen.next_line}")
            has_lines = seen.next_line
            spoke_at = time.monotonic()
        if seen.run.phase.is_final:
            yield event("ended", seen.run.phase.value)
            return
        if time.monotonic() - spoke_at > _ALIVE_EVERY_S:
            yield b": alive\n\n"  # else nobody notices that the browser has gone
            spoke_at = time.monotonic()
        closing.wait(_LOOK_EVERY_S)


def event(name: str, data: str, *, id_: str = "") -> bytes:
    """Return one event. The data are split at every line end that a browser knows."""
    lines = data.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    head = f"event: {name}\n" + (f"id: {id_}\n" if id_ else "")
    return (head + "".join(f"data: {line}\n" for line in lines) + "\n").encode("utf-8", "replace")


def lines_of(last_id: str, name: str) -> int | None:
    """Return how many lines the page has; None where it has none of this watched run."""
    told, _, count = last_id.partition(".")
    is_number = count.isascii() and count.isdigit() and len(count) < 16
    return int(count) if told == name and is_number else None


def log_part(seen: Snapshot, has_lines: int | None) -> str:
    """Return the lines that the page lacks; all that are kept, and `reset`, where lines between are gone."""
    missing = LOG_LINES + 1 if has_lines is None else seen.next_line - has_lines
    is_whole = missing > len(seen.lines) or missing < 0
    lines = seen.lines if is_whole else seen.lines[len(seen.lines) - missing :]
    return json.dumps({"reset": is_whole, "lines": list(lines)})
