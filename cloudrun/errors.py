"""Errors that a user can act on: the fact with its values, and the next command.

CloudrunError
├── UsageError          exit 2   a bad option, or a question with nobody to ask
├── JobFileError        exit 2   the job file, its data or an override; nothing was started
├── NoMachine           exit 3   nothing could be rented; nothing is billing
├── BudgetUsed          exit 4   the budget ended a launch; nothing is billing
├── Interrupted         exit 130 Ctrl-C, with what it means for the bill
├── NoSuchRun           exit 1
├── RunNotFinished      exit 1
├── StoreError          exit 1   a transfer that did not complete
└── StillBilling        exit 1   the end of the bill could not be proven
"""

from __future__ import annotations

from enum import IntEnum


class ExitCode(IntEnum):
    """What `cloudrun` exits with; part of the contract with scripts."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    NO_MACHINE = 3
    BUDGET = 4
    BUG = 70
    INTERRUPTED = 130


class CloudrunError(Exception):
    """Something the user can fix. `message` states the fact, `hint` the next action."""

    exit_code: int = ExitCode.FAILED

    def __init__(self, message: str, *, hint: str) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


def brief(err: BaseException) -> str:
    """Return an error of any kind in one line, for a warning that names it and goes on."""
    text = str(err).strip().splitlines()
    if isinstance(err, CloudrunError):
        return err.message
    return f"{type(err).__name__}: {text[0][:200]}" if text else type(err).__name__


class UsageError(CloudrunError):
    exit_code = ExitCode.USAGE


class JobFileError(CloudrunError):
    exit_code = ExitCode.USAGE


class NoMachine(CloudrunError):
    exit_code = ExitCode.NO_MACHINE


class BudgetUsed(CloudrunError):
    """The budget's money or time went before the job could begin."""

    exit_code = ExitCode.BUDGET


class NoSuchRun(CloudrunError):
    pass


class Interrupted(CloudrunError):
    """Ctrl-C, with what it means for the bill."""

    exit_code = ExitCode.INTERRUPTED


class RunNotFinished(CloudrunError):
    pass


class StoreError(CloudrunError):
    pass


class StillBilling(CloudrunError):
    pass
