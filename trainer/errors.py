"""Errors that a user can act on: the fact with its values, and the next action.

CloudrunError
├── FolderProblem         exit 1   the data folder, or an image in it (in `cloudrun.imagedata.folders`)
└── TrainerError          exit 1
    ├── ConfigError       exit 2   the config file; nothing was started
    └── StoppedEarly      exit 75  asked to stop; the checkpoint is complete, if there was a model to keep
"""

from __future__ import annotations

from cloudrun.errors import CloudrunError

DONE, FAILED, USAGE, STOPPED_EARLY = 0, 1, 2, 75


class TrainerError(CloudrunError):
    """A training run that cannot start, or cannot continue."""

    exit_code = FAILED


class ConfigError(TrainerError):
    exit_code = USAGE


class StoppedEarly(TrainerError):
    """Not a failure: the same command on the same folder goes on from here."""

    exit_code = STOPPED_EARLY
