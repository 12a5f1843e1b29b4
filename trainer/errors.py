"""Errors that a user can act on: the fact with its values, and the next action.

TrainerError          exit 1
├── ConfigError       exit 2   the config file; nothing was started
├── FolderProblem     exit 1   the data folder, or an image in it (in `trainer.folders`)
└── StoppedEarly      exit 75  asked to stop; the checkpoint is complete, if there was a model to keep
"""

from __future__ import annotations

DONE, FAILED, USAGE, STOPPED_EARLY = 0, 1, 2, 75


class TrainerError(Exception):
    """`message` states the fact with its values, `hint` the next action."""

    exit_code = FAILED

    def __init__(self, message: str, *, hint: str) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class ConfigError(TrainerError):
    exit_code = USAGE


class StoppedEarly(TrainerError):
    """Not a failure: the same command on the same folder goes on from here."""

    exit_code = STOPPED_EARLY
