"""Define the errors that a user can act on: the fact with its values, and the next action.

CloudrunError
├── FolderProblem         exit 1   the data folder, or an image in it (in `cloudrun.imagedata.folders`)
├── NoWeights             exit 1   the folder of pretrained weights (in `cloudrun.recipe.weights`)
└── TrainerError          exit 1
    ├── ConfigError       exit 2   the config file; nothing was started
    └── StoppedEarly      exit 75  stopped by a signal; the checkpoint is complete, if there was a model to keep
"""

from __future__ import annotations

from cloudrun.errors import CloudrunError

DONE, FAILED, USAGE, STOPPED_EARLY = 0, 1, 2, 75


class TrainerError(CloudrunError):
    """A training run that cannot start, or cannot continue."""

    exit_code = FAILED


class ConfigError(TrainerError):
    """The config file or an option is wrong; nothing was started."""

    exit_code = USAGE


class StoppedEarly(TrainerError):
    """Not a failure: the same command on the same folder continues from here."""

    exit_code = STOPPED_EARLY
