"""The types of a job file's sections, their defaults, and the meaning of each value.

Importing this module loads neither torch nor sky nor boto3.
"""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StrictBool,
    StrictInt,
    field_serializer,
    model_validator,
)

from cloudrun.catalog.addresses import is_address, parse_address
from cloudrun.catalog.gpus import GpuRequest, is_known, nearest, parse_gpu, sold_as
from cloudrun.catalog.infras import CAPABILITIES, LOCAL, Capabilities, backend_for, is_own_cluster
from cloudrun.imagedata.label_columns import LabelColumns
from cloudrun.imagedata.layout import ClassFolders
from cloudrun.job.notify import NotifyList
from cloudrun.job.own_machine import LEAVE, OwnMachine, OwnPrice, as_price, check_end, end_command, misplaced
from cloudrun.recipe.train_config import TrainConfig

# The infras where SkyPilot 0.14 can rent, by the names that its `--infra` takes.
SKY_INFRAS = (
    "aws", "azure", "cudo", "do", "fluidstack", "gcp", "hyperbolic", "ibm", "k8s", "kubernetes", "lambda",
    "mithril", "nebius", "oci", "paperspace", "primeintellect", "runpod", "scp", "seeweb", "shadeform", "slurm",
    "ssh", "vast", "verda", "vsphere", "yotta",
)  # fmt: skip


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


def _check_amount(value: object) -> object:
    """Return an amount as text: of `8`, `"8"` or `"8+"`, where `+` means at least. Raises ValueError for others."""
    if value is None:
        return None
    text = str(value) if isinstance(value, int | float) and not isinstance(value, bool) else value
    if not isinstance(text, str) or not re.fullmatch(r"[1-9]\d*(\.\d+)?\+?", text.strip()):
        raise ValueError(f'"{value}" is not an amount; write a number, or a number and `+` for at least')
    return text.strip()


Amount = Annotated[str | None, BeforeValidator(_check_amount)]


class Resources(_Section):
    """The resources of the machine beside its GPU. `memory` and `disk` in GB; `8+` means 8 or more."""

    cpus: Amount = None
    """CPU cores of each machine: `8+`: at least, `8`: exactly; null: any."""
    memory: Amount = None
    """Memory of each machine in GB: `64+`: at least, `64`: exactly; null: any."""
    disk: Annotated[int, Field(ge=10, le=10_000)] = 100
    """Disk of each machine in GB."""


class SourceKind(StrEnum):
    """The kind of place that the images come from."""

    FOLDER = "folder"
    DEMO = "demo"
    S3 = "s3"
    HTTPS = "https"
    KAGGLE = "kaggle"


class Labels(_Section):
    """A file of labels, and which of its columns are which; null: guessed, and said. A text alone is the file."""

    file: Annotated[str, Field(min_length=1)]
    """CSV, TSV, or JSON of Label Studio or COCO, in the data folder or beside the job file."""
    image: str | None = None
    """Column with the names of image files, with or without folder and suffix."""
    label: str | tuple[str, ...] | None = None
    """Column of the label, or a list of columns of 0 and 1, each a class."""
    group: str | None = None
    """Column of groups: images of one group stay in one fold."""
    split: str | None = None
    """Column with train, val or test in any of their usual spellings; or 0 and 1: 1 validates."""
    separator: str | None = None
    """Text between several labels of a cell; "": a cell is one label."""

    @property
    def columns(self) -> LabelColumns:
        return LabelColumns(self.image, self.label, self.group, self.split, self.separator)


def _as_labels(value: object) -> object:
    return {"file": value} if isinstance(value, str) else value


class Data(_Section):
    """The source of the images; docs/guides/images.md has the layouts that a folder may have."""

    source: Annotated[str, Field(min_length=1)]
    """Folder of images, relative to the job file; or an address: https://, kaggle://, s3://, demo://leaves."""
    labels: Annotated[Labels | None, BeforeValidator(_as_labels)] = None
    """File with the labels, in the data folder or beside the job file; null: the folders are the classes."""
    classes: ClassFolders = "auto"
    """Folders that are the classes: top, or deepest (those that hold the images); auto: asks where that is unclear."""

    @field_serializer("labels")
    def _short(self, labels: Labels | None) -> object:
        """As older versions wrote it, where it is a file alone."""
        if labels is None or not labels.columns.is_told:
            return labels and labels.file
        return labels.model_dump(mode="json", exclude_none=True)

    @property
    def kind(self) -> SourceKind:
        """The kind of the source, by the scheme of its address; a folder where it has none."""
        scheme, found, _ = self.source.partition("://")
        return SourceKind(scheme) if found else SourceKind.FOLDER

    @model_validator(mode="after")
    def _known_scheme(self) -> Data:
        scheme, found, rest = self.source.partition("://")
        if found and scheme not in {kind.value for kind in SourceKind} - {"folder"}:
            raise ValueError(f'"{scheme}://" is not a source; use a folder, demo://, s3://, https:// or kaggle://')
        if found and scheme == "demo" and rest != "leaves":
            raise ValueError(f'there is no demo data set "{rest}"; the one there is: demo://leaves')
        if found and scheme == "demo" and self.labels is not None:
            raise ValueError("the demo's leaves lie in class folders; remove `labels`")
        return self


class Budget(_Section):
    """The limits of a run. They are enforced beside the job, with the laptop off, too."""

    max_cost: Annotated[float, Field(gt=0, le=100_000)] = 5.0
    """US dollars that the run may cost."""
    max_hours: Annotated[float, Field(gt=0, le=24 * 30)] = 4.0
    """Hours that the machine may be billed."""
    stall_minutes: Annotated[float, Field(gt=0, le=24 * 60)] = 15.0
    """Minutes without a training step, after which the run is stopped."""
    rent_minutes: Annotated[float | None, Field(gt=0, le=24 * 60)] = None
    """Minutes after which a launch gives up on a machine that does not come.

    null: 20, or a quarter of the budget, but five where that is less. Where waiting may bill, at most three quarters of
    the budget.
    """


class Lifecycle(_Section):
    """What happens to the machine when the job ends, and after how many idle minutes the machine ends itself."""

    on_finish: Literal["down", "stop", "keep"] = "down"
    """down: the machine ends with the job; keep: it stays up until `cloudrun down`; stop: not there yet, refused."""
    idle_minutes: Annotated[int, Field(ge=1, le=24 * 60)] = 10
    """Minutes without a job, after which the machine ends itself."""


def _as_list(value: object) -> object:
    if value is None:
        return ()
    return (value,) if isinstance(value, str) else value


def _canonical_gpu(text: str) -> str:
    return str(parse_gpu(text))


def _check_infra(infra: str | None) -> str | None:
    if infra is None:
        return None
    if is_address(infra):
        return str(parse_address(infra))
    head = infra.split("/", 1)[0].lower()
    if head not in (LOCAL, *SKY_INFRAS):
        raise ValueError(
            f'"{infra}" is not an infra; use local, {", ".join(SKY_INFRAS)}, one of these/region, or ssh://USER@HOST:PORT'
        )
    return head + infra[len(head) :]


def _check_name(name: str) -> str:
    if not re.fullmatch(r"[a-z]([a-z0-9-]{0,38}[a-z0-9])?", name):
        raise ValueError(
            f'"{name}" cannot be a name: it becomes the machine\'s, so it has lower-case letters, digits and `-`,'
            " starts with a letter, and is at most 40 long"
        )
    return name


def _check_store(store: str | None) -> str | None:
    if store is not None and not re.fullmatch(r"s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/[^?#\s]*)?", store):
        raise ValueError(f'"{store}" is not a store; write s3://BUCKET/PREFIX')
    return store


def _check_endpoint(endpoint: str | None) -> str | None:
    if endpoint is not None and not re.fullmatch(r"https?://[^\s?#@]+", endpoint):
        raise ValueError(
            f'"{endpoint}" is not an endpoint; write https://HOST or http://HOST:PORT, without credentials'
        )
    return None if endpoint is None else endpoint.rstrip("/")


def _text_values(value: object) -> object:
    if not isinstance(value, dict):
        return value
    return {key: str(item) if isinstance(item, int | float) else item for key, item in value.items()}


_EnvName = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]


class JobSpec(_Section):
    """The content of one valid job file."""

    name: Annotated[str, AfterValidator(_check_name)]
    """Lower-case letters, digits and `-`, at most 40; it becomes a part of the machine's name."""
    gpu: Annotated[tuple[Annotated[str, AfterValidator(_canonical_gpu)], ...], BeforeValidator(_as_list)] = ()
    """GPUs in order of preference, NAME:COUNT; none: a machine without a GPU."""
    nodes: Annotated[StrictInt, Field(ge=1, le=64)] = 1
    """Machines that train together, each with what `gpu` asks for."""
    resources: Resources = Resources()
    infra: Annotated[str | None, AfterValidator(_check_infra)] = None
    """Where to run: local, slurm, aws, runpod, aws/us-east-1, ...; null: the cheapest cloud that is enabled.

    ssh://USER@HOST:PORT: a machine that you can log in to.
    """
    ssh_key: Annotated[str, Field(min_length=1)] | None = None
    """File of the private key for `infra: ssh://...`; null: the one that your ssh would use."""
    price: Annotated[OwnPrice | None, BeforeValidator(as_price)] = None
    """Price of a machine of your own: dollars an hour, or {hourly: 1.98, currency: CNY}; null: it costs nothing."""
    end: Annotated[str, AfterValidator(check_end)] = LEAVE
    """What ends the bill of a machine of your own, once the results are safe or the budget is used.

    leave: nothing, it stays as it is; shutdown; or a shell command of its platform.
    """
    machine: OwnMachine = OwnMachine()
    """Places on a machine of your own, and its GPUs."""
    spot: StrictBool = False
    """true: cheaper machines that the provider may take back."""
    recoveries: Annotated[StrictInt, Field(ge=0, le=100)] = 0
    """How often a run whose machine was taken away goes on by itself on another one; 0: it ends."""
    data: Data
    train: TrainConfig = TrainConfig()
    budget: Budget = Budget()
    lifecycle: Lifecycle = Lifecycle()
    notify: NotifyList = ()
    """Who is told how the run goes, also with your computer off: addresses, or `$NAME`, variables that hold them."""
    store: Annotated[str | None, AfterValidator(_check_store)] = None
    """Bucket, s3://BUCKET/PREFIX, to which results and log are copied while the job runs."""
    endpoint: Annotated[str | None, AfterValidator(_check_endpoint)] = None
    """Server of the bucket, where it is not AWS; null: `$AWS_ENDPOINT_URL`, else AWS."""
    setup: str | None = None
    """Shell commands that set up the machine, after cloudrun's own."""
    run: str | None = None
    """Command of your own instead of the trainer; it reads `$CLOUDRUN_DATA` and writes `$CLOUDRUN_OUTPUT`."""
    workdir: str | None = None
    """Folder of your own code for `run`."""
    workdir_secrets: tuple[str, ...] = ()
    """Files of `workdir` that look like secrets (.env, *.pem, ...), and are sent all the same."""
    env: Annotated[dict[_EnvName, str], BeforeValidator(_text_values)] = Field(default_factory=dict)
    """Environment variables of the set-up and the job; each value is its letters as they stand: 1.10, 007, yes."""
    secrets: tuple[_EnvName, ...] = ()
    """Names of environment variables to pass on; their values are never stored or printed."""

    @property
    def gpus(self) -> tuple[GpuRequest, ...]:
        """The wanted GPUs, best first."""
        return tuple(parse_gpu(text) for text in self.gpu)

    @property
    def gpu_choices(self) -> tuple[tuple[str, ...], ...]:
        """For each wanted GPU, best first, the names under which it is sold. A cluster's own names mean themselves."""
        if is_own_cluster(self.infra):
            return tuple((str(gpu),) for gpu in self.gpus)
        return tuple(tuple(str(one) for one in sold_as(gpu)) for gpu in self.gpus)

    @property
    def capabilities(self) -> Capabilities:
        """The capabilities of the backend that serves the job's infra."""
        return CAPABILITIES[backend_for(self.infra)]

    @property
    def is_own_machine(self) -> bool:
        """Whether the job runs on a machine of the user's own, by its address."""
        return self.infra is not None and is_address(self.infra)

    @property
    def end_command(self) -> str | None:
        """The shell command that ends a machine of the user's own; None where there is none, or the machine stays."""
        return end_command(self.end) if self.is_own_machine else None

    @property
    def needs_gpu(self) -> bool:
        """Whether a GPU was asked for, and must be usable: the run fails at once without it."""
        return bool(self.gpu) and self.train.device != "cpu"

    @model_validator(mode="before")
    @classmethod
    def _spread_spot(cls, tree: Any) -> Any:
        """Read `spot: {recoveries: 5}` as `spot: true` and `recoveries: 5`."""
        if not isinstance(tree, dict) or not isinstance(tree.get("spot"), dict) or "recoveries" in tree:
            return tree
        terms = tree["spot"]
        if set(terms) - {"recoveries"}:
            return tree
        return {**tree, "spot": True, **terms}

    @model_validator(mode="after")
    def _makes_sense(self) -> JobSpec:
        if self.train.device == "cuda" and not self.gpu:
            raise ValueError("`train.device` is cuda, but no `gpu` is asked for; add `gpu: [A100:1]`")
        if self.nodes > 1 and not self.capabilities.rents_several:
            raise ValueError(
                f"`nodes` is {self.nodes}, and `infra: {self.infra}` is one computer; remove `nodes`, or rent machines"
            )
        own = {"ssh_key": self.ssh_key, "price": self.price, "end": self.end, "machine": self.machine}
        given = {name: value for name, value in own.items() if value != type(self).model_fields[name].default}
        if given and not self.is_own_machine:
            raise ValueError(misplaced(given))
        if self.price is not None and self.price.rate is None:
            raise ValueError(
                f"no rate is known for {self.price.currency}; add `usd: 0.14`, the dollars for 1 {self.price.currency},"
                " to `price`"
            )
        if self.is_own_machine and self.spot:
            raise ValueError("`spot` is about rented machines; remove it, or `infra: ssh://...`")
        if self.workdir is not None and self.run is None:
            raise ValueError("`workdir` is only used by a `run` command of your own; add `run` or remove it")
        if self.workdir_secrets and self.workdir is None:
            raise ValueError("`workdir_secrets` names files of `workdir`, and there is none; add it or remove this")
        if self.endpoint is not None and self.store is None and self.data.kind is not SourceKind.S3:
            raise ValueError(
                "`endpoint` is the server of a `store`, and there is none; add `store: s3://BUCKET/PREFIX`"
            )
        if self.data.labels is not None and self.run is not None:
            raise ValueError("`data.labels` is only read by the bundled trainer, and `run` takes its place; remove one")
        shared = set(self.env) & set(self.secrets)
        if shared:
            raise ValueError(f"{', '.join(sorted(shared))}: in `env` and in `secrets`; keep it in `secrets` only")
        return self

    def unknown_gpus(self) -> list[tuple[int, str, list[str]]]:
        """Return (place in the list, name, likely names) of each wanted GPU that no cloud has."""
        if is_own_cluster(self.infra):
            return []
        return [(place, gpu.name, nearest(gpu.name)) for place, gpu in enumerate(self.gpus) if not is_known(gpu.name)]

    def as_plain(self) -> dict[str, Any]:
        """Return the job as values that YAML and JSON can hold; loading them again gives an equal JobSpec."""
        return self.model_dump(mode="json")
