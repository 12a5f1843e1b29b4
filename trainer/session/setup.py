"""The parts of a training run: data, model, optimizer, and what belongs to them."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field

import torch
from torch import Tensor

from cloudrun.imagedata.folders import Dataset, LabelledFile
from cloudrun.recipe.train_config import TrainConfig
from trainer.data.augment import evaluation_transform
from trainer.data.cache import PixelCache
from trainer.data.loader import Loader, mix
from trainer.data.loader_budget import LoaderBudget
from trainer.data.soft_targets import SoftSummary
from trainer.data.unreadable import Unreadable
from trainer.distributed.gradients import GradientSync
from trainer.distributed.ranks import ALONE, Ranks
from trainer.model.ema import Ema
from trainer.model.ensemble import Ensemble, build_model
from trainer.model.loss import image_losses
from trainer.model.optim import Schedule, make_optimizer
from trainer.model.soft_loss import blended_losses
from trainer.model.targets import Targets
from trainer.outputs.diagnosis import Facts
from trainer.outputs.scoring import ACCURACY, Metric
from trainer.session.autotune_result import AutotuneResult
from trainer.session.device import Device, cores
from trainer.session.epoch_stats import EpochStats


@dataclass
class TrainingSetup:
    """Parts of a training run. `micro_batch` is lowered where memory runs out; `autotune`: what was measured."""

    config: TrainConfig
    device: Device
    dataset: Dataset
    train_files: list[LabelledFile]
    val_files: list[LabelledFile]
    data_digest: str
    targets: Targets
    model: Ensemble
    optimizer: torch.optim.AdamW
    scaler: torch.amp.GradScaler
    train_loader: Loader
    caches: tuple[PixelCache | None, PixelCache | None]  # for train and val
    unreadable: Unreadable
    schedule: Schedule
    batch_size: int
    micro_batch: int
    loading: LoaderBudget
    train_size: int  # current pixels a side of training images
    soft: SoftSummary | None = None
    is_plain: bool = False  # an epoch without mixup, cutmix and strong augmentation
    ema: Ema | None = None
    class_weights: Tensor | None = None  # on the device
    autotune: AutotuneResult | None = None
    ranks: Ranks = ALONE
    gradients: GradientSync | None = None  # with several processes
    metric: Metric = ACCURACY  # chooses the epoch
    has_shared_norms: bool = False
    has_validated: bool = False  # the processes of the loader that validates are running
    _val_loaders: dict[int, Loader] = field(default_factory=dict)
    _evaluation_loaders: list[Loader] = field(default_factory=list)

    @property
    def workers(self) -> int:
        """Processes that load images."""
        return self.loading.workers

    @property
    def steps_per_epoch(self) -> int:
        return len(self.train_loader)

    def new_epoch_stats(
        self,
        *,
        loss_sum: float = 0.0,
        correct: int = 0,
        images: int = 0,
        seconds: float = 0.0,
        waited_s: float = 0.0,
    ) -> EpochStats:
        """Return statistics on the device, with the sums of a checkpoint or 0."""
        place = self.device.torch_device
        # float64, so that a sum is the same whether or not it went through a checkpoint.
        return EpochStats(
            torch.tensor(loss_sum, dtype=torch.float64, device=place),
            torch.tensor(correct, device=place),
            images,
            seconds,
            waited_s,
        )

    def val_loader(self) -> Loader:
        """Return one loader for all epochs, so that its processes start once.

        A new one where `micro_batch` was lowered.
        """
        key = self.micro_batch
        if key not in self._val_loaders:
            for old in self._val_loaders.values():
                old.close()
            self.has_validated = False
            loader = self.evaluation_loader(self.val_files, cache=self.caches[1], unreadable=self.unreadable)
            self._val_loaders = {key: loader}
        return self._val_loaders[key]

    def evaluation_loader(
        self, files: list[LabelledFile], *, cache: PixelCache | None = None, unreadable: Unreadable | None = None
    ) -> Loader:
        """Return a loader without augmentation.

        `unreadable`: counts skipped images; None: an unreadable image is an error.
        """
        loader = Loader(
            files,
            evaluation_transform(self.config.image_size, self.model.inputs),
            batch_size=max(self.micro_batch, 2),
            seed=None,
            workers=self.workers,
            prefetch=self.loading.prefetch,
            pin_memory=self.device.is_cuda,
            cache=cache,
            unreadable=unreadable,
            ranks=self.ranks,
        )
        self._evaluation_loaders.append(loader)
        return loader

    def image_losses(self, logits: Tensor, labels: Tensor, soft: Tensor | None = None) -> Tensor:
        """Return (B,) losses of float32 logits (B, classes) and labels (B,). `soft`: see `Batch`."""
        weights = self.class_weights
        hard = image_losses(logits, labels, self.config, targets=self.targets, class_weights=weights)
        if soft is None:
            return hard
        return blended_losses(hard, logits, soft, self.config, targets=self.targets, class_weights=weights)

    def with_averaged_weights(self) -> AbstractContextManager[None]:
        """Give the model, inside the context, the weights that validate and are kept.

        They are the averages, where the config asks for them.
        """
        return self.ema.in_place() if self.ema else nullcontext()

    def reset_weights(self) -> None:
        """Restore weights and optimizer as before the first step."""
        torch.manual_seed(mix(self.config.seed))
        fresh = build_model(self.config, classes=len(self.dataset.classes))
        self.model.load_state_dict(fresh.state_dict())
        self.optimizer = make_optimizer(self.model, self.config)
        self.ema = average_of(self.model, self.config)

    def stop_loading(self) -> None:
        """End the loader processes."""
        for loader in (self.train_loader, *self._evaluation_loaders):
            loader.close()

    def close(self) -> None:
        """Remove the decoded images of a run that has ended."""
        for cache in self.caches:
            if cache is not None:
                cache.remove()

    def unreadable_names(self) -> list[str]:
        """Return the skipped images, relative to the data folder."""
        return [path.relative_to(self.dataset.folder).as_posix() for path in self.unreadable.paths]

    def exchange_unreadable(self) -> None:
        """Tell all processes which images are unreadable. Raises FolderProblem where there are too many."""
        own = [(path.relative_to(self.dataset.folder), reason) for path, reason in self.unreadable.found()]
        for name, reason in (image for part in self.ranks.gather(own) for image in part):
            self.unreadable.note(self.dataset.folder / name, reason)

    def facts(self) -> Facts:
        """Return what the diagnosis of the curves needs besides them."""
        counts, images = self.dataset.count_classes(self.train_files), len(self.train_files)
        return Facts(
            config=self.config,
            class_shares=tuple(count / images for count in counts),
            has_several=self.targets.has_several,
            train_images=images,
            val_images=len(self.val_files),
            batch_size=self.batch_size,
            micro_batch=self.micro_batch,
            workers=self.workers,
            cores=cores(),
            precision=self.device.precision,
            processes=self.ranks.world,
            fitting_micro_batch=self.autotune.micro_batch if self.autotune else None,
        )

    def describe(self) -> list[str]:
        """Return the lines at the head of the log: device, data, classes, model, batch."""
        names = self.dataset.classes
        held_out = "" if "val" in self.dataset.splits else " (held out from train)"
        if self.config.folds:
            held_out = f" (fold {self.config.fold} of {self.config.folds}, from 0)"
        counts = self.dataset.count_classes(self.train_files)
        test_count = len(self.dataset.splits.get("test", ()))
        size, parameters = self.config.image_size, self.model.parameter_count() / 1e6
        is_searched = self.device.is_cuda and self.config.micro_batch == "auto"
        at_once = "as many at once as fit" if is_searched else f"{self.micro_batch} at once"
        each = "" if self.ranks.world == 1 else f" in each of {self.ranks.world} processes"
        norms = ", batch norm over all of them" if self.has_shared_norms else ""
        grows = "" if self.config.start_image_size is None else f" (trained from {self.config.start_image_size} px up)"
        shortage = (
            []
            if self.loading.shortage is None
            else [f"warning: {self.workers} loader process(es): {self.loading.shortage}"]
        )
        return [
            f"device: {self.device.describe()}{_shared_by(self.ranks)}",
            f"data: {len(self.train_files)} train, {len(self.val_files)} val{held_out}, {test_count} test images",
            *(self.soft.lines() if self.soft else ()),
            f"classes: {', '.join(f'{name} {counts[label]}' for label, name in enumerate(names))}",
            *_read_as(self.dataset),
            f"model: {' + '.join(self.config.backbones)}, {self.model.head.in_features} features",
            f"size: {parameters:.2f} M parameters, images of {size} px{grows}, {self.workers} loader process(es)",
            f"batch: {self.batch_size}, {at_once}{each}{norms}; {self.steps_per_epoch} steps an epoch",
            *shortage,
        ]


def _read_as(dataset: Dataset) -> list[str]:
    """What was guessed of the data set, and which files are not used."""
    columns = [] if dataset.columns is None else [f"labels: {dataset.columns.text()}"]
    unused = [f"not used: {one.text()}" for one in dataset.unused]
    return [*columns, *unused, *(f"warning: {one}" for one in dataset.warnings)]


def average_of(model: Ensemble, config: TrainConfig) -> Ema | None:
    """Return the average of the weights that the config asks for; None where it asks for none."""
    return Ema(model, decay=config.ema_decay) if config.ema_decay else None


def _shared_by(ranks: Ranks) -> str:
    if ranks.world == 1:
        return ""
    return f"; {ranks.world} processes{f' on {ranks.machines} machines' if ranks.machines > 1 else ''}"
