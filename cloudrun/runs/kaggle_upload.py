"""Submit a file to a Kaggle competition, by Kaggle's own client in an environment of its own."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

from cloudrun.errors import CloudrunError
from cloudrun.runs.environments import Packages, environment
from cloudrun.sources.kaggle import find_or_refuse

# kaggle 2.2.5 imports six, and does not require it.
CLIENT = Packages("kaggle", ("kaggle==2.2.5", "six==1.17.0"))
_TOLD_LINES = 5


class UploadFailed(CloudrunError):
    """Kaggle has not taken the submission."""


def submit_to_kaggle(file: Path, *, competition: str, message: str, home: Path, say: Callable[[str], None]) -> str:
    """Submit `file`, and return what Kaggle's client says of it. Raises UploadFailed, SourceProblem without a token."""
    find_or_refuse(os.environ)
    python = environment(home, CLIENT, say)
    say(f"submitting {file.name} to {competition}")
    words = ["-m", "kaggle", "-W", "competitions", "submit", "-c", competition, "-f", str(file), "-m", message]
    env = {**os.environ, "PYTHONSAFEPATH": "1"}
    env.pop("PYTHONPATH", None)
    done = subprocess.run(
        [str(python), *words], env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    told = [line.strip() for line in f"{done.stdout}\n{done.stderr}".splitlines() if line.strip()]
    if done.returncode:
        why = " ".join(told[-_TOLD_LINES:]) or f"exit code {done.returncode}"
        raise UploadFailed(
            f"Kaggle did not take {file} for {competition}: {why}",
            hint=f"are the rules accepted, and is it open? https://www.kaggle.com/competitions/{competition}/rules",
        )
    return " ".join(line for line in done.stdout.splitlines() if line.strip())
