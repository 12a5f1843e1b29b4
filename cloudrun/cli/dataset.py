"""Show on the terminal what was found in a data set."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cloudrun.cli.console import alarm, warn

if TYPE_CHECKING:
    from cloudrun.dataset.audit import Findings


def warn_of(findings: Findings) -> None:
    """Warn of each finding, in red where it makes a score wrong."""
    alarms = findings.alarms()
    for warning in findings.warnings():
        (alarm if warning in alarms else warn)(warning)
