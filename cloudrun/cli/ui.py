"""The command `cloudrun ui`: all runs in a browser, on this computer alone, read-only."""

from __future__ import annotations

import os
import sys
import threading
from typing import Annotated

import typer

from cloudrun.cli.app import app
from cloudrun.cli.console import answer, answer_json, is_terminal, note, warn
from cloudrun.cli.groups import LOOK
from cloudrun.cli.results import JsonOption
from cloudrun.errors import ExitCode


@app.command(rich_help_panel=LOOK, epilog="Example:\n\n  cloudrun ui\n\n  cloudrun ui --port 8800 --no-open\n")
def ui(
    port: Annotated[
        int | None, typer.Option(min=0, max=65535, metavar="N", help="Port. [default: 8717, else a free one]")
    ] = None,
    opens: Annotated[
        bool | None, typer.Option("--open/--no-open", help="Open a browser. [default: where there is a screen]")
    ] = None,
    as_json: JsonOption = False,
) -> int:
    """Show all runs in a browser, live, until Ctrl-C: on this computer alone, read-only."""
    from cloudrun.state.home import home_folder
    from cloudrun.state.ledger import Ledger
    from cloudrun.ui.server import serving
    from cloudrun.ui.site import Site

    closing = threading.Event()
    with serving(port, lambda: Site(Ledger(home_folder()), closing)) as server:
        try:
            url = server.access.url
            answer_json({"url": url, "port": server.access.port}) if as_json else answer(url)
            note("only this computer can open it, and whoever has the address; Ctrl-C ends it, and no run")
            if _has_screen() if opens is None else opens:
                _open_in_browser(url)
            server.site.warm_up()
            closing.wait()
        except KeyboardInterrupt:  # the way to end it, and no run is touched
            note("\nno longer served; runs go on as before: `cloudrun ps` shows what bills")
        finally:
            closing.set()
    return ExitCode.DONE


def _has_screen() -> bool:
    """Return whether a person sits at this computer's own screen: elsewhere a browser would open in the terminal."""
    if not is_terminal(sys.stderr) or os.environ.get("SSH_CONNECTION"):
        return False
    return sys.platform == "darwin" or any(map(os.environ.get, ("DISPLAY", "WAYLAND_DISPLAY", "WSL_DISTRO_NAME")))


def _open_in_browser(url: str) -> None:
    """Nothing fails where there is no browser: the address has been printed."""
    import webbrowser

    if not webbrowser.open(url):
        warn("no browser could be started: open the address yourself")
