"""Errors that a user can act on: each has a message with the fact and its values, and a hint with the next command.

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
    """The exit codes of `cloudrun`; part of the contract with scripts."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    NO_MACHINE = 3
    BUDGET = 4
    BUG = 70
    INTERRUPTED = 130


class CloudrunError(Exception):
    """An error that the user can fix. `message` states the fact, `hint` the next action."""

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
    """An option or an argument is wrong, a program is missing, or nobody is there to answer a question."""

    exit_code = ExitCode.USAGE


class JobFileError(CloudrunError):
    """The job file, its data or an override is wrong; nothing was started."""

    exit_code = ExitCode.USAGE


class NoMachine(CloudrunError):
    """No machine could be rented; nothing is billing."""

    exit_code = ExitCode.NO_MACHINE


class BudgetUsed(CloudrunError):
    """The budget's money or time was used up before the job could begin."""

    exit_code = ExitCode.BUDGET


class NoSuchRun(CloudrunError):
    """The ledger has no run, or several, for the given name."""


class Interrupted(CloudrunError):
    """The user pressed Ctrl-C; the message says what that means for the bill."""

    exit_code = ExitCode.INTERRUPTED


class RunNotFinished(CloudrunError):
    """The run has not made the files that are asked for, or they cannot be reached yet."""


class StoreError(CloudrunError):
    """A machine, a bucket or a disk cannot be read or written, or a transfer was not completed."""


class StillBilling(CloudrunError):
    """The end of the bill could not be proven."""
