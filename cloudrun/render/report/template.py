"""Jinja2 with our templates: every value is escaped, and the page's own script is the only one that may run."""

from __future__ import annotations

import base64
import hashlib
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cloudrun.render.report.wording import decimal, moment, percent, seconds, seen, short, usd

if TYPE_CHECKING:
    from jinja2 import Environment

_TEMPLATES = Path(__file__).parent / "templates"
_SCRIPT = "page.js"


def rendered(template: str, **values: Any) -> str:
    """The page that `template` makes of `values`. What is not defined is an error, not an empty text."""
    environment = _environment()
    script = _text_of(_SCRIPT)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii")
    safe = environment.get_template(template)
    return safe.render(**values, style=_safe(_text_of("page.css")), script=_safe(script), script_digest=digest)


@cache
def _environment() -> Environment:
    """Made once, and only where a page is made: importing Jinja2 takes longer than most commands do."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
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
    return (_TEMPLATES / name).read_text(encoding="utf-8")


def _safe(text: str) -> Any:
    """A file of ours, which goes into the page as it is."""
    from markupsafe import Markup

    return Markup(text)
