"""The report: one self-contained HTML page about a run, or about several that are compared.

`page.py` and `comparison.py` collect plain values, a module for each section; `templates/` makes HTML of them.
"""

from __future__ import annotations

from cloudrun.render.report.comparison import Member, comparison_html
from cloudrun.render.report.page import report_html

__all__ = ["Member", "comparison_html", "report_html"]
