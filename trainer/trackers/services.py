"""The trackers' own libraries behind one protocol. A library is imported where its service is opened."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol

Config = Mapping[str, object]


class Service(Protocol):
    """An open run of a tracker."""

    def send(self, figures: Mapping[str, float], *, step: int) -> None:
        """Record figures by their names, such as `val/loss`."""

    def close(self) -> None:
        """Send what is left, and end the run."""


class Wandb:
    """Weights & Biases; without a key it writes into `out`/wandb, from where `wandb sync` sends it later."""

    def __init__(self, out: Path, run_name: str, config: Config) -> None:
        import wandb

        if not os.environ.get("WANDB_API_KEY"):
            os.environ.setdefault("WANDB_MODE", "offline")
        self._run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", "cloudrun"),
            id=re.sub(r"[^\w-]", "-", run_name),
            name=run_name,
            resume="allow",
            config=dict(config),
            dir=str(out),
            settings=wandb.Settings(console="off", init_timeout=120, disable_git=True, save_code=False),
        )

    def send(self, figures: Mapping[str, float], *, step: int) -> None:
        self._run.log(dict(figures), step=step)  # a step before the last one, after a resume, is ignored there

    def close(self) -> None:
        self._run.finish()


class Mlflow:
    """MLflow; without `MLFLOW_TRACKING_URI` it writes into `out`/mlruns."""

    def __init__(self, out: Path, run_name: str, config: Config) -> None:
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
        import mlflow

        if not os.environ.get("MLFLOW_TRACKING_URI"):
            os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")  # newer versions ask for this before they use it
            mlflow.set_tracking_uri((out / "mlruns").absolute().as_uri())
        self._client = mlflow.MlflowClient()
        experiment = mlflow.set_experiment(os.environ.get("MLFLOW_EXPERIMENT_NAME", "cloudrun"))
        left = self._client.search_runs([experiment.experiment_id], f"tags.`cloudrun.run` = '{run_name}'")
        self._run_id = left[0].info.run_id if left else self._new_run(experiment.experiment_id, run_name, config)
        self._sent_to = max((one.step for one in self._history()), default=-1)
        self._client.set_tag(self._run_id, "cloudrun.run", run_name)

    def _new_run(self, experiment_id: str, run_name: str, config: Config) -> str:
        run_id = str(self._client.create_run(experiment_id, run_name=run_name).info.run_id)
        for name, value in config.items():
            self._client.log_param(run_id, name, str(value)[:500])
        return run_id

    def _history(self) -> list[_Point]:
        return list(self._client.get_metric_history(self._run_id, "val/loss"))

    def send(self, figures: Mapping[str, float], *, step: int) -> None:
        if step <= self._sent_to:  # an epoch that a resumed run has trained again
            return
        for name, value in figures.items():
            self._client.log_metric(self._run_id, name, value, step=step)

    def close(self) -> None:
        self._client.set_terminated(self._run_id)


class Aim:
    """Aim; without `AIM_REPO` it writes into `out`/.aim."""

    def __init__(self, out: Path, run_name: str, config: Config) -> None:
        import aim

        place = os.environ.get("AIM_REPO") or str(out)
        self._run = aim.Run(repo=place, experiment="cloudrun", system_tracking_interval=None, log_system_params=False)
        self._run.name = run_name
        self._run["config"] = {name: str(value) for name, value in config.items()}

    def send(self, figures: Mapping[str, float], *, step: int) -> None:
        for name, value in figures.items():
            self._run.track(value, name=name, step=step)

    def close(self) -> None:
        self._run.close()


class _Point(Protocol):
    step: int


SERVICES: Mapping[str, Callable[[Path, str, Config], Service]] = {"wandb": Wandb, "mlflow": Mlflow, "aim": Aim}
