"""Count the work of a job: images, bytes and passes, by its job file and the survey of its images. Pure."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace

from cloudrun.job.spec import Budget, JobSpec, SourceKind
from cloudrun.recipe.auto_epochs import are_auto
from cloudrun.recipe.evaluations import evaluated_at_the_end
from cloudrun.recipe.progressive import evaluation_size, final_epochs
from cloudrun.recipe.train_config import TrainConfig
from cloudrun.text.units import times

# The images that `trainer.data.leaves` draws for `demo://leaves`.
_DEMO_COUNTS = {"train": 400, "val": 80, "test": 80}
_DEMO_BYTES = 560 * 2500


@dataclass(frozen=True, slots=True)
class Workload:
    """The work of one run. `train` is None for the user's own command, whose time only earlier runs can tell."""

    kind: str
    train: TrainConfig | None
    train_images: int
    val_images: int
    test_images: int
    epochs: int
    data_bytes: int
    sent_bytes: int  # sent to the rented machine; 0 where the data are used in place, or made on the machine
    stored_bytes: int  # fetched by the machine from a store, to which they are sent before it is rented
    has_setup: bool  # whether there is a set-up; data that are made on the machine count as set-up
    budget: Budget | None = None  # into which `epochs: auto` is fitted; `epochs` is then the most; None: not fitted
    models: int = 1  # models that are trained one after another, one for each fold; `epochs` are of all of them

    @property
    def image_bytes(self) -> float:
        """The mean bytes of an image; 0 where there are no images."""
        images = self.train_images + self.val_images + self.test_images
        return self.data_bytes / images if images else 0.0

    @property
    def evaluations(self) -> float:
        """The images that are only evaluated: validation after each epoch, and the predictions of each model's end.

        All are counted as images that validate, and each view of an image by its pixels.
        """
        if self.train is None:
            return self.epochs * self.val_images + self.models * self.test_images
        at_end = evaluated_at_the_end(
            self.train, train_images=self.train_images, val_images=self.val_images, test_images=self.test_images
        )
        return self.epochs * self.val_images + self.models * at_end

    def after(self, epochs_done: int, *, chosen: int | None = None) -> Workload:
        """Return the work that is left after `epochs_done` epochs, for a run that is resumed.

        `chosen`: the epochs that the run itself has chosen, where its job says `epochs: auto`; None: none yet.
        """
        if self.budget is not None and chosen:
            return replace(self, epochs=max(0, chosen - epochs_done), budget=None)
        return replace(self, epochs=max(0, self.epochs - epochs_done))


def workload_of(spec: JobSpec, counts: dict[str, int], size_bytes: int) -> Workload:
    """Return the work of a job. `counts`: images by split, as in the folder; `size_bytes`: of all data to be sent."""
    if spec.data.kind is SourceKind.DEMO:
        counts, size_bytes = _DEMO_COUNTS, _DEMO_BYTES
    train_images, val_images = counts.get("train", 0), counts.get("val", 0)
    if spec.train.folds:
        labelled = train_images + val_images
        val_images = round(labelled / spec.train.folds)
        train_images = labelled - val_images
    elif not val_images:
        val_images = round(train_images * spec.train.val_fraction)
        train_images -= val_images
    models = spec.train.folds if spec.train.fold == "all" else 1
    is_sent = spec.capabilities.is_remote and spec.data.kind is SourceKind.FOLDER
    return Workload(
        kind=kind_of(spec),
        train=None if spec.run is not None else spec.train,
        train_images=train_images,
        val_images=val_images,
        test_images=counts.get("test", 0),
        epochs=spec.train.epochs * models,
        data_bytes=size_bytes,
        sent_bytes=size_bytes if is_sent and spec.store is None else 0,
        stored_bytes=size_bytes if is_sent and spec.store is not None else 0,
        has_setup=spec.capabilities.is_remote or spec.setup is not None or spec.data.kind is not SourceKind.FOLDER,
        budget=spec.budget if spec.run is None and are_auto(spec.train.epochs) else None,
        models=models,
    )


def kind_of(spec: JobSpec) -> str:
    """Return the kind of a run, such as `resnet50 224 px auto batch 64`.

    Runs of one kind take the same time for each image on the same machine.
    """
    if spec.run is not None:
        return f"run {hashlib.sha256(f'{spec.data.source}{spec.run}'.encode()).hexdigest()[:12]}"
    train = spec.train
    size = f"{train.image_size} px"
    if train.start_image_size is not None:
        size = f"{train.start_image_size}-{size}"
    if final_epochs(train):
        size = f"{size}, {final_epochs(train)} epochs {train.final_image_size} px"
    if evaluation_size(train) != train.image_size:
        size = f"{size}, evaluated {evaluation_size(train)} px"
    return f"{' + '.join(sorted(train.backbones))} {size} {train.precision} batch {train.batch_size}"


def machine_key(spec: JobSpec, *, gpu: str | None, machine: str) -> str:
    """Return the name of what trains: the GPUs (`2 x A100:1` on two machines), or the computer where a CPU trains."""
    return times(spec.nodes, gpu if gpu is not None and spec.train.device != "cpu" else machine)
