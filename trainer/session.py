"""Data, model and optimizer of one run, put together."""

from __future__ import annotations

import hashlib
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from timm.layers import convert_sync_batchnorm
from torch import Tensor

from trainer.augment import Square, evaluation_transform, ranges_of, square_side
from trainer.cache import PixelCache, limit_bytes, open_cache
from trainer.config import TrainConfig
from trainer.device import Device, choose_device, cores, thread_count, tune_for_cpu, worker_count
from trainer.diagnosis import Facts
from trainer.ema import Ema
from trainer.errors import TrainerError
from trainer.folders import Dataset, LabelledFile, list_dataset
from trainer.folds import find_groups, fold_of_each, labelled_files
from trainer.gradients import GradientSync
from trainer.holdout import hold_out_for
from trainer.labels import list_labelled
from trainer.loader import Loader, check_headers, even_sizes, mix
from trainer.loss import image_losses, weights_of_classes
from trainer.model import Ensemble, build_model
from trainer.optim import Schedule, make_optimizer, schedule_of
from trainer.ranks import ALONE, Ranks
from trainer.targets import Targets, targets_of
from trainer.unreadable import Unreadable

if TYPE_CHECKING:
    from trainer.step import StepResult

_AUTO_BATCH_GPU, _AUTO_BATCH_CPU = 64, 32
_AUTO_BATCH_EACH = 32  # of several GPUs; fewer leave one waiting between its kernels
# Batch norm's statistics of fewer images than this are too noisy: several processes put theirs together.
_FEW_FOR_NORMS = 16


@dataclass
class Tally:
    """Sums over an epoch's images so far; loss and count stay on the device until they are asked for."""

    loss_sum: Tensor
    correct: Tensor
    images: int = 0
    seconds: float = 0.0
    waited_s: float = 0.0  # of these, for images; but for an epoch's first batch, which nothing could fetch ahead

    def add(self, result: StepResult, *, images: int) -> None:
        self.loss_sum += result.loss_sum
        self.correct += result.correct
        self.images += images

    def loss(self) -> float:
        return float(self.loss_sum.item()) / max(1, self.images)

    def accuracy(self) -> float:
        return float(self.correct.item()) / max(1, self.images)

    def images_per_s(self) -> float:
        return self.images / self.seconds if self.seconds else 0.0

    def wait_share(self) -> float:
        return self.waited_s / self.seconds if self.seconds else 0.0

    def as_plain(self) -> dict[str, float]:
        return {
            "loss_sum": float(self.loss_sum.item()),
            "correct": int(self.correct.item()),
            "images": self.images,
            "seconds": self.seconds,
            "waited_s": self.waited_s,
        }


@dataclass
class Session:
    """What a run trains with; `micro_batch` shrinks where memory runs out."""

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
    caches: tuple[PixelCache | None, PixelCache | None]  # of train and val
    unreadable: Unreadable
    schedule: Schedule
    batch_size: int
    micro_batch: int
    workers: int
    train_size: int  # pixels of the training images by now
    ema: Ema | None = None
    class_weights: Tensor | None = None  # on the device
    ranks: Ranks = ALONE
    gradients: GradientSync | None = None  # with several processes
    has_shared_norms: bool = False
    _val_loaders: dict[int, Loader] = field(default_factory=dict)
    _evaluation_loaders: list[Loader] = field(default_factory=list)

    @property
    def steps_per_epoch(self) -> int:
        return len(self.train_loader)

    def new_tally(
        self,
        *,
        loss_sum: float = 0.0,
        correct: int = 0,
        images: int = 0,
        seconds: float = 0.0,
        waited_s: float = 0.0,
    ) -> Tally:
        place = self.device.torch_device
        # float64, so that a sum that went through a checkpoint is the sum that did not.
        return Tally(
            torch.tensor(loss_sum, dtype=torch.float64, device=place),
            torch.tensor(correct, device=place),
            images,
            seconds,
            waited_s,
        )

    def val_loader(self) -> Loader:
        """One for all epochs, so that its processes start once; a new one where memory ran out meanwhile."""
        key = self.micro_batch
        if key not in self._val_loaders:
            loader = self.evaluation_loader(self.val_files, cache=self.caches[1], unreadable=self.unreadable)
            self._val_loaders = {key: loader}
        return self._val_loaders[key]

    def evaluation_loader(
        self, files: list[LabelledFile], *, cache: PixelCache | None = None, unreadable: Unreadable | None = None
    ) -> Loader:
        """`unreadable`: counts images that are left out; None: each of them is needed."""
        loader = Loader(
            files,
            evaluation_transform(self.config.image_size),
            batch_size=max(self.micro_batch, 2),
            seed=None,
            workers=self.workers,
            pin_memory=self.device.is_cuda,
            cache=cache,
            unreadable=unreadable,
            ranks=self.ranks,
        )
        self._evaluation_loaders.append(loader)
        return loader

    def image_losses(self, logits: Tensor, labels: Tensor) -> Tensor:
        """(B,) from float32 logits (B, classes) and labels (B,)."""
        return image_losses(logits, labels, self.config, targets=self.targets, class_weights=self.class_weights)

    def judged(self) -> AbstractContextManager[None]:
        """Meanwhile the model has the weights that are validated and kept: the averaged ones, where there are."""
        return self.ema.in_place() if self.ema else nullcontext()

    def start_afresh(self) -> None:
        """Weights and optimizer as they were before the first step."""
        torch.manual_seed(mix(self.config.seed))
        fresh = build_model(self.config, classes=len(self.dataset.classes))
        self.model.load_state_dict(fresh.state_dict())
        self.optimizer = make_optimizer(self.model, self.config)
        self.ema = _average_of(self.model, self.config)

    def stop_loading(self) -> None:
        """End the processes that load images."""
        for loader in (self.train_loader, *self._evaluation_loaders):
            loader.close()

    def close(self) -> None:
        """The run has ended, and its decoded images are of no more use."""
        for cache in self.caches:
            if cache is not None:
                cache.remove()

    def unreadable_names(self) -> list[str]:
        """Images that were skipped, relative to the data folder."""
        return [path.relative_to(self.dataset.folder).as_posix() for path in self.unreadable.paths]

    def share_unreadable(self) -> None:
        """Each process hears what the others found. Raises FolderProblem where that is too much."""
        found = [(path.relative_to(self.dataset.folder), reason) for path, reason in self.unreadable.found()]
        for name, reason in (one for part in self.ranks.gather(found) for one in part):
            self.unreadable.note(self.dataset.folder / name, reason)

    def facts(self) -> Facts:
        """What the diagnosis of the run's curves needs to know besides them."""
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
        )

    def describe(self) -> list[str]:
        """What the run rests on, for the head of its log."""
        names = self.dataset.classes
        held_out = "" if "val" in self.dataset.splits else " (held out from train)"
        if self.config.folds:
            held_out = f" (fold {self.config.fold} of {self.config.folds}, from 0)"
        counts = self.dataset.count_classes(self.train_files)
        test_count = len(self.dataset.splits.get("test", ()))
        size, parameters = self.config.image_size, self.model.parameter_count() / 1e6
        each = "" if self.ranks.world == 1 else f" in each of {self.ranks.world} processes"
        norms = ", batch norm over all of them" if self.has_shared_norms else ""
        grows = "" if self.config.start_image_size is None else f" (trained from {self.config.start_image_size} px up)"
        return [
            f"device: {self.device.describe()}{_shared_by(self.ranks)}",
            f"data: {len(self.train_files)} train, {len(self.val_files)} val{held_out}, {test_count} test images",
            f"classes: {', '.join(f'{name} {counts[label]}' for label, name in enumerate(names))}",
            f"model: {' + '.join(self.config.backbones)}, {self.model.head.in_features} features",
            f"size: {parameters:.2f} M parameters, images of {size} px{grows}, {self.workers} loader process(es)",
            f"batch: {self.batch_size}, {self.micro_batch} at once{each}{norms}; {self.steps_per_epoch} steps an epoch",
        ]


def open_session(
    config: TrainConfig,
    data: Path,
    *,
    labels: Path | None = None,
    batch_size: int | None = None,
    ranks: Ranks = ALONE,
) -> Session:
    """Everything that training `config` on `data` needs. `batch_size`: what `auto` was in the run to resume.

    `labels`: a CSV file; None: the folders say the classes. `ranks`: joined already.
    """
    device = choose_device(config, ranks=ranks)
    dataset = list_dataset(data) if labels is None else list_labelled(data, labels)
    train_files, val_files = train_and_val(dataset, config)
    unreadable = Unreadable(images=len(train_files) + len(val_files), share=config.max_unreadable)
    digest = digest_of(dataset, config)
    if len(set(ranks.gather(digest))) > 1:
        raise TrainerError("the machines of this run hold different images", hint="give each the same data folder")
    check_headers([*train_files, *val_files], unreadable, ranks=ranks)
    check_headers(dataset.splits.get("test", ()), ranks=ranks)
    batch = batch_size or choose_batch_size(
        config, images=len(train_files), on_gpu=device.is_cuda, processes=ranks.world
    )
    each = _images_of_each(batch, images=len(train_files), ranks=ranks)
    if device.is_cuda:
        torch.backends.cudnn.benchmark = True
        torch.set_float32_matmul_precision("high")  # TF32 for what autocast leaves in float32
    else:
        tune_for_cpu()
    torch.manual_seed(mix(config.seed))
    model = build_model(config, classes=len(dataset.classes)).to(device.torch_device)
    micro_batch = each if config.micro_batch == "auto" else min(config.micro_batch, each)
    has_shared_norms = _shares_norms(config, device, ranks, micro_batch=micro_batch)
    if has_shared_norms:
        model = convert_sync_batchnorm(model)
    model.lay_out_for(device.torch_device.type)
    if not device.is_cuda:
        torch.set_num_threads(thread_count(parameters=model.parameter_count(), processes=ranks.local_world))
    workers = worker_count(config, device, processes=ranks.local_world)
    weights = weights_of_classes(train_files, config, classes=len(dataset.classes), sets=dataset.label_sets)
    side = square_side(config)
    caches = _open_caches(config, train_files, val_files, ranks)
    loader = Loader(
        train_files,
        Square(side),
        batch_size=batch,
        seed=config.seed,
        workers=workers,
        pin_memory=device.is_cuda,
        at_least=side,
        ranges=ranges_of(config),
        cache=caches[0],
        unreadable=unreadable,
        ranks=ranks,
    )
    return Session(
        config=config,
        device=device,
        dataset=dataset,
        train_files=train_files,
        val_files=val_files,
        data_digest=digest,
        targets=targets_of(dataset, device.torch_device),
        model=model,
        optimizer=make_optimizer(model, config),
        scaler=torch.amp.GradScaler(device.torch_device.type, enabled=device.autocast_dtype == torch.float16),
        train_loader=loader,
        caches=caches,
        unreadable=unreadable,
        schedule=schedule_of(config, steps_per_epoch=len(loader)),
        batch_size=batch,
        micro_batch=micro_batch,
        workers=workers,
        train_size=config.image_size,
        ema=_average_of(model, config),
        class_weights=None if weights is None else weights.to(device.torch_device),
        ranks=ranks,
        gradients=GradientSync(model, ranks) if ranks.world > 1 else None,
        has_shared_norms=has_shared_norms,
    )


def _average_of(model: Ensemble, config: TrainConfig) -> Ema | None:
    return Ema(model, decay=config.ema_decay) if config.ema_decay else None


def choose_batch_size(config: TrainConfig, *, images: int, on_gpu: bool, processes: int = 1) -> int:
    """`auto`: 64 on a GPU, 32 on a CPU, 32 for each of several GPUs where that is more.

    Less where an epoch would have fewer than 8 steps.
    """
    if config.batch_size != "auto":
        return config.batch_size
    wanted = max(_AUTO_BATCH_GPU, _AUTO_BATCH_EACH * processes) if on_gpu else _AUTO_BATCH_CPU
    return min(wanted, max(8, images // 8))


def _images_of_each(batch_size: int, *, images: int, ranks: Ranks) -> int:
    """Of a batch, at most. Raises TrainerError where a process would have fewer than two, which batch norm needs."""
    smallest = min(even_sizes(images, batch_size))
    if ranks.world > 1 and smallest < 2 * ranks.world:
        raise TrainerError(
            f"a batch of {smallest} images cannot be shared by {ranks.world} processes: each needs two",
            hint=f"set `batch_size` to {4 * ranks.world} or more, give more images, or ask for fewer GPUs",
        )
    return -(-batch_size // ranks.world)


def _shares_norms(config: TrainConfig, device: Device, ranks: Ranks, *, micro_batch: int) -> bool:
    if ranks.world == 1 or config.sync_batchnorm is False:
        return False
    if not device.is_cuda:
        if config.sync_batchnorm is True:
            raise TrainerError(
                "`sync_batchnorm: true` needs GPUs: torch's SyncBatchNorm has no CPU form",
                hint="set `sync_batchnorm: auto`",
            )
        return False
    return config.sync_batchnorm is True or micro_batch < _FEW_FOR_NORMS


def _shared_by(ranks: Ranks) -> str:
    if ranks.world == 1:
        return ""
    machines = ranks.world // ranks.local_world
    return f"; {ranks.world} processes{f' on {machines} machines' if machines > 1 else ''}"


def _open_caches(
    config: TrainConfig, train_files: list[LabelledFile], val_files: list[LabelledFile], ranks: Ranks
) -> tuple[PixelCache | None, PixelCache | None]:
    """For the training images' squares and for what validation sees, within `cache_gb` in all; train comes first.

    Processes of one machine share them: so all have the same limit, the lowest of any.
    """
    paths, val_paths = [path for path, _ in train_files], [path for path, _ in val_files]
    limit = min(ranks.gather(limit_bytes(config.cache_gb)))
    train = open_cache(paths, recipe="square", side=square_side(config), limit=limit)
    left = max(0, limit - (train.size_bytes if train else 0))
    return train, open_cache(val_paths, recipe="evaluation", side=config.image_size, limit=left)


def train_and_val(dataset: Dataset, config: TrainConfig) -> tuple[list[LabelledFile], list[LabelledFile]]:
    """The images that train in this run, and those that validate."""
    if config.folds:
        groups = find_groups(config.groups, dataset)
        fold_of = fold_of_each(dataset, folds=config.folds, seed=config.seed, groups=groups)
        placed = list(zip(labelled_files(dataset), fold_of, strict=True))
        return [f for f, fold in placed if fold != config.fold], [f for f, fold in placed if fold == config.fold]
    files = dataset.splits["train"]
    if "val" in dataset.splits:
        return list(files), list(dataset.splits["val"])
    train, val = hold_out_for(dataset, fraction=config.val_fraction, seed=config.seed)
    return [files[index] for index in train], [files[index] for index in val]


def digest_of(dataset: Dataset, config: TrainConfig) -> str:
    """Of the names of the images that train and of those that validate, wherever the folder lies."""
    digest = hashlib.sha256()
    if dataset.label_sets is not None:
        digest.update(f"{dataset.label_sets}\n".encode())
    for split, files in zip(("train", "val"), train_and_val(dataset, config), strict=True):
        for path, label in files:
            digest.update(f"{split}/{label}/{path.relative_to(dataset.folder).as_posix()}\n".encode())
    return digest.hexdigest()
