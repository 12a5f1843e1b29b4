"""The report: one self-contained HTML page about a run.

`page.py` collects plain values, a module for each section; `templates/` makes HTML of them.
"""

from __future__ import annotations

from cloudrun.render.report.page import report_html

__all__ = ["report_html"]
