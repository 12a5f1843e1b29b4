"""Jinja2 with our templates: every value is escaped, and the page's own script is the only one that may run."""

from __future__ import annotations

import base64
import hashlib
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from cloudrun.render.report.wording import decimal, moment, percent, seconds, seen, short, usd

if TYPE_CHECKING:
    from jinja2 import Environment

_TEMPLATES = Path(__file__).parent / "templates"
_PAGES = Path(__file__).parents[1] / "pages" / "templates"
_SCRIPT = "page.js"


def rendered(template: str, *, layout: str = "base.html", live: object = None, **values: Any) -> str:
    """The page that `template` makes of `values`. What is not defined is an error, not an empty text.

    `layout`: what stands around it, a file of its own or a page of `cloudrun ui`. `live`: of a run that goes on there.
    """
    environment = _environment()
    script = _text_of(_SCRIPT)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii")
    safe = environment.get_template(template)
    given = {**values, "layout": layout, "live": live}
    return safe.render(given, style=_safe(_text_of("page.css")), script=_safe(script), script_digest=digest)


def asset(name: Literal["page.css", "site.css", "page.js", "site.js"]) -> str:
    """Return a style sheet or a script of ours, for a page that does not hold them itself."""
    return _text_of(name)


@cache
def _environment() -> Environment:
    """Made once, and only where a page is made: importing Jinja2 takes longer than most commands do."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader([_TEMPLATES, _PAGES]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        finalize=_shown,
    )
    environment.filters.update(percent=percent, decimal=decimal, usd=usd, moment=moment, seconds=seconds, short=short)
    return environment


def _shown(value: Any) -> Any:
    """Of texts that others wrote, what can be seen; what is escaped already stays."""
    return seen(value) if type(value) is str else value


def _text_of(name: str) -> str:
    folder = _PAGES if name.startswith("site.") else _TEMPLATES
    return (folder / name).read_text(encoding="utf-8")


def _safe(text: str) -> Any:
    """A file of ours, which goes into the page as it is."""
    from markupsafe import Markup

    return Markup(text)
