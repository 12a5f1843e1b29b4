"""Turn a JobSpec into a Plan: all decisions about a run that need no answer from outside. Pure.

`--dry-run` shows the Plan; a real launch executes that same value.
"""

from __future__ import annotations

import random
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

import yaml

from cloudrun.catalog.endings import has_autodown, is_slurm
from cloudrun.catalog.infras import BackendName, Capabilities, backend_for
from cloudrun.imagedata.dataset import columns_text
from cloudrun.job.spec import JobSpec, SourceKind
from cloudrun.protocol.order import Order, Step
from cloudrun.protocol.run_folder import WEIGHTS
from cloudrun.protocol.words import RUN_STEP, TRAIN_STEP, MachineEnding, OnFinish
from cloudrun.state.run import MACHINE_PREFIX, Assignment


class DataRoute(StrEnum):
    """The way on which the images get to the job."""

    IN_PLACE = "in_place"  # the job reads the folder on this computer
    PUSHED = "pushed"  # sent from this computer
    THROUGH_STORE = "through_store"  # sent to the store before the machine is rented; the machine takes them from there
    MADE = "made"  # made on the machine
    FETCHED = "fetched"  # downloaded by the machine


@dataclass(frozen=True, slots=True)
class Plan:
    """One run, ready to be executed on its backend."""

    run_id: str
    spec: JobSpec
    backend: BackendName
    data_route: DataRoute
    setup: tuple[Step, ...]
    make_data: Step | None
    command: Step
    python: str
    base_resources: Mapping[str, Any]  # `resources` of `sky.yaml`
    manifest: str | None = None  # the manifest of the images in the store, once they are there

    @property
    def machine_name(self) -> str:
        """The machine's name: it holds the run id."""
        return f"{MACHINE_PREFIX}{self.run_id}"

    @property
    def capabilities(self) -> Capabilities:
        """The capabilities of the backend on which the plan runs."""
        return self.spec.capabilities

    @property
    def store_uri(self) -> str | None:
        """The run's own folder in the job's bucket; None where the job has no store."""
        return None if self.spec.store is None else f"{self.spec.store.rstrip('/')}/{self.run_id}"

    @property
    def assignment(self) -> Assignment:
        """The part of the plan that the ledger keeps."""
        return Assignment(
            job=self.spec.as_plain(),
            backend=self.backend,
            infra=self.spec.infra,
            gpu=self.spec.gpu,
            store_uri=self.store_uri,
            endpoint=self.spec.endpoint,
        )

    @property
    def data_step(self) -> Step | None:
        """The command that puts the images into place on the machine; None where the job needs none."""
        if self.data_route is not DataRoute.THROUGH_STORE:
            return self.make_data
        assert self.spec.store is not None
        assert self.manifest is not None, "the images are stored before the machine is rented"
        words = ["{python}", "-m", "cloudrun.packs", self.spec.store, self.manifest, "{data}"]
        return Step("data", words + (["--endpoint", self.spec.endpoint] if self.spec.endpoint else []))

    @property
    def _fetches_beside(self) -> bool:
        """Whether the machine downloads its data in parallel with set-up, after its first step has installed Python."""
        return self.data_route is DataRoute.FETCHED and self.capabilities.is_remote

    @property
    def train_yaml(self) -> str:
        """The content of the trainer's config file; a folder of weights is named by its place beside the code."""
        train = self.spec.train
        if self.weights_folder is not None and self.capabilities.is_remote:
            train = train.model_copy(update={"pretrained": f"../{WEIGHTS}"})
        return yaml.safe_dump(train.model_dump(mode="json"), sort_keys=False)

    @property
    def weights_folder(self) -> Path | None:
        """The folder of pretrained weights on this computer; None where the bundled trainer does not start from one."""
        source = self.spec.train.pretrained
        return Path(source) if isinstance(source, str) and self.spec.run is None else None

    @property
    def labels_file(self) -> Path | None:
        """The labels file on this computer, copied at launch beside the code; None where it is not on this computer."""
        labels = self.spec.data.labels
        return Path(labels.file) if labels is not None and Path(labels.file).is_absolute() else None

    def order(  # noqa: PLR0913 - what is known only when a machine is there, each by its name
        self,
        *,
        infra: str,
        hourly_usd: float,
        billed_s: float,
        spent_usd: float,
        written_at: float,
        after_s: float = 0.0,
        may_ask: bool = False,
    ) -> Order:
        """Return the worker's instructions, once the machine and its price are known.

        `billed_s`, `spent_usd`: what the run has used of its budget. `after_s`: the expected seconds from the end of
        training to the end of the bill. `may_ask`: whether a user follows who can answer questions.
        """
        spec = self.spec
        ends_machine = self.capabilities.ends_machines
        ending = _ending(infra) if ends_machine else MachineEnding.COMMAND if spec.end_command else MachineEnding.NOBODY
        return Order(
            run_id=self.run_id,
            python=self.python,
            gpu_count=spec.gpus[0].count if spec.needs_gpu else 0,
            gpu_names=[gpu.name for gpu in spec.gpus],
            setup=list(self.setup),
            data_path=spec.data.source if self.data_route is DataRoute.IN_PLACE else None,
            data_arrives=self.data_route is DataRoute.PUSHED,
            make_data=self.data_step,
            data_beside=self.data_route is DataRoute.THROUGH_STORE or self._fetches_beside,
            command=self.command,
            env=dict(spec.env),
            hourly_usd=hourly_usd,
            max_cost_usd=spec.budget.max_cost,
            max_hours=spec.budget.max_hours,
            written_at=written_at,
            billed_s=billed_s,
            spent_usd=spent_usd,
            idle_s=spec.lifecycle.idle_minutes * 60,
            stall_s=spec.budget.stall_minutes * 60,
            ending=ending,
            end_command=spec.end_command,
            cloud=infra if ends_machine else "",
            spot=spec.spot,
            has_timer=ends_machine and has_autodown(infra),
            on_finish=OnFinish(spec.lifecycle.on_finish),
            store_uri=self.store_uri,
            endpoint=spec.endpoint,
            after_s=after_s,
            may_ask=may_ask,
            nodes=spec.nodes,
            ports=_ports(self.run_id) if spec.nodes > 1 else [],
        )

    def as_plain(self) -> dict[str, Any]:
        """Return the plan as `--dry-run --json` shows it."""
        return {
            "run_id": self.run_id,
            "backend": self.backend,
            "machine": self.machine_name,
            "infra": self.spec.infra,
            "gpu": list(self.spec.gpu),
            "gpu_choices": [list(names) for names in self.spec.gpu_choices],
            "nodes": self.spec.nodes,
            "resources": self.spec.resources.model_dump(),
            "spot": self.spec.spot,
            "autodown_minutes": self.spec.lifecycle.idle_minutes if self.capabilities.ends_machines else None,
            "data": {"source": self.spec.data.source, "route": self.data_route.value},
            "setup": [step.name for step in self.setup],
            "store": self.store_uri,
            "command": shlex.join(self.command.argv),
            "budget": self.spec.budget.model_dump(),
            "on_finish": self.spec.lifecycle.on_finish,
        }


def _ending(infra: str) -> MachineEnding:
    return MachineEnding.SLURM if is_slurm(infra) else MachineEnding.SKYPILOT


def make_plan(spec: JobSpec, run_id: str, *, python: str, base: Mapping[str, Any]) -> Plan:
    """Return the plan for a job.

    `python`: the Python that runs local jobs; `base`: the content of `sky.yaml`, a rented machine's resources and
    set-up.
    """
    is_remote = spec.capabilities.is_remote
    machine = ["bash", "-c", str(base["setup"])]
    setup = [Step("machine", machine)] if is_remote else []
    fetches = _data_route(spec) is DataRoute.FETCHED
    if (spec.store is not None or fetches) and is_remote:  # first, so that log and data flow early
        setup.insert(
            0, Step("store" if spec.store is not None else "python", ["env", "CLOUDRUN_INSTALL=boto3", *machine])
        )
    if is_remote and spec.run is None:
        setup += [_tracker_step(name, str(base["setup"])) for name in spec.train.trackers]
    if spec.setup is not None:
        setup.append(Step("setup", ["bash", "-e", "-c", spec.setup]))
    return Plan(
        run_id=run_id,
        spec=spec,
        backend=backend_for(spec.infra),
        data_route=_data_route(spec),
        setup=tuple(setup),
        make_data=_make_data(spec),
        command=_command(spec),
        python="$CLOUDRUN_VENV/bin/python" if is_remote else python,
        base_resources=dict(base.get("resources") or {}),
    )


def _tracker_step(name: str, setup: str) -> Step:
    """Return the step that installs a tracker. Where it cannot be installed within five minutes, the run goes on."""
    package = {"mlflow": "mlflow-skinny"}.get(name, name)  # its client alone
    install = f'CLOUDRUN_INSTALL={package} timeout 300 bash -c "$1" || echo "warning: {package} could not be installed"'
    return Step(f"tracker {name}", ["bash", "-c", install, "bash", setup])


def _data_route(spec: JobSpec) -> DataRoute:
    match spec.data.kind:
        case SourceKind.FOLDER:
            if not spec.capabilities.is_remote:
                return DataRoute.IN_PLACE
            return DataRoute.PUSHED if spec.store is None else DataRoute.THROUGH_STORE
        case SourceKind.DEMO:
            return DataRoute.MADE
        case _:
            return DataRoute.FETCHED


def _make_data(spec: JobSpec) -> Step | None:
    """Return the command by which the machine gets its data; None where they are in place, or are sent."""
    if spec.data.kind is SourceKind.FOLDER:
        return None
    if spec.data.kind is SourceKind.DEMO:
        return Step("leaves", ["{python}", "-m", "trainer", "leaves", "--out", "{data}"])
    endpoint = ["--endpoint", spec.endpoint] if spec.data.kind is SourceKind.S3 and spec.endpoint else []
    return Step("data", ["{python}", "-m", "cloudrun.sources", spec.data.source, "--out", "{data}", *endpoint])


def _command(spec: JobSpec) -> Step:
    if spec.run is not None:
        return Step(RUN_STEP, ["bash", "-e", "-c", spec.run])
    argv = [
        "{python}",
        "-m",
        "trainer",
        "train",
        "--config",
        "{config}",
        "--data",
        "{data}",
        "--out",
        "{out}",
    ]
    if spec.nodes > 1:
        argv += ["--nodes", str(spec.nodes), "--node-rank", "{node_rank}", "--head", "{head}"]
    if spec.data.classes != "auto":
        argv += ["--classes", spec.data.classes]
    labels = spec.data.labels
    if labels is not None and labels.columns.is_told:
        argv += ["--columns", columns_text(labels.columns)]
    if labels is not None:
        argv += ["--labels", "{labels}" if Path(labels.file).is_absolute() else labels.file]
    return Step(TRAIN_STEP, argv)


def _ports(run_id: str) -> list[int]:
    """Return six ports by chance, always the same for a run id: some will be free on the first machine.

    No other program has a reason to take just these.
    """
    chance = random.Random(run_id)
    return [chance.randrange(20_000, 32_000) for _ in range(6)]
