"""Build the TrainingSetup of a run from its config and data folder."""

from __future__ import annotations

import hashlib
from pathlib import Path

import torch
from timm.layers import convert_sync_batchnorm
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from cloudrun.imagedata.dataset import Reading, read_dataset
from cloudrun.imagedata.folders import Dataset, LabelledFile
from cloudrun.imagedata.folds import find_groups, fold_of_each, labelled_files
from cloudrun.imagedata.holdout import hold_out_for
from cloudrun.recipe.inputs import Inputs
from cloudrun.recipe.train_config import TrainConfig
from trainer.data.augment import Square, evaluation_recipe, ranges_of, square_side
from trainer.data.cache import PixelCache, limit_bytes, open_cache
from trainer.data.loader import Loader, check_headers, equal_sizes, mix
from trainer.data.loader_budget import loader_budget
from trainer.data.sampling import sampling_weights
from trainer.data.soft_targets import SoftSummary, SoftTargets, pseudo_labelled, soft_labels_for
from trainer.data.unreadable import Unreadable
from trainer.distributed.gradients import GradientSync
from trainer.distributed.ranks import ALONE, Ranks
from trainer.errors import TrainerError
from trainer.model.ensemble import Ensemble, build_model
from trainer.model.loss import weights_of_classes
from trainer.model.optim import make_optimizer, schedule_of
from trainer.model.targets import targets_of
from trainer.outputs.scoring import metric_of
from trainer.session.device import Device, choose_device, thread_count, tune_for_cpu, worker_count
from trainer.session.setup import TrainingSetup, average_of

_AUTO_BATCH_GPU, _AUTO_BATCH_CPU = 64, 32
_AUTO_BATCH_EACH = 32  # for each of several GPUs; with fewer images a GPU waits between its kernels
# Batch norm's statistics of fewer images than this are too noisy: several processes combine theirs.
_FEW_FOR_NORMS = 16
# Algorithms that cuDNN times for each convolution, the most promising first; its default is 10.
_ALGORITHMS_TRIED = 4


def build_setup(  # noqa: PLR0913 - the arguments of a run, each by its name
    config: TrainConfig,
    data: Path,
    *,
    labels: Path | Reading | None = None,
    batch_size: int | None = None,
    ranks: Ranks = ALONE,
    inputs: Inputs | None = None,
) -> TrainingSetup:
    """Return everything that training `config` on `data` needs. `batch_size`: what `auto` was in the run to resume.

    `inputs`: those of the run to resume; None: what the backbones' weights expect. `labels`: a CSV file; None: class
    folders. `ranks`: joined already.
    """
    if config.fold == "all":  # a setup is of one fold; `overfit`, `lr` and `bench` use the first
        config = config.model_copy(update={"fold": 0})
    device = choose_device(config, ranks=ranks)
    dataset = read_dataset(data, labels)
    train_files, val_files = train_and_val(dataset, config)
    soft = soft_labels_for(dataset, config)
    pseudo = pseudo_labelled(soft, dataset)
    train_files += pseudo
    unreadable = Unreadable(images=len(train_files) + len(val_files), share=config.max_unreadable)
    digest = digest_of(dataset, config)
    if len(set(ranks.gather(digest))) > 1:
        raise TrainerError("the machines of this run hold different images", hint="give each the same data folder")
    check_headers([*train_files, *val_files], unreadable, ranks=ranks)
    check_headers(dataset.splits.get("test", ()), ranks=ranks)
    wanted = batch_size or choose_batch_size(
        config, images=len(train_files), on_gpu=device.is_cuda, processes=ranks.world
    )
    batch = equal_sizes(len(train_files), wanted)[0]
    each = _images_of_each(batch, ranks=ranks)
    micro_batch = each if config.micro_batch == "auto" else min(config.micro_batch, each)
    model = _model_on(device, config, classes=len(dataset.classes), ranks=ranks)
    if inputs is not None:
        model.set_inputs(inputs)
    has_shared_norms = shares_norms(model, config, is_cuda=device.is_cuda, ranks=ranks, micro_batch=micro_batch)
    if has_shared_norms:
        model = convert_sync_batchnorm(model)
        model.use_default_formats(device.torch_device.type)
    weights = weights_of_classes(train_files, config, classes=len(dataset.classes), sets=dataset.label_sets)
    loading = loader_budget(
        worker_count(config, device, processes=ranks.local_world),
        batch_bytes=each * 3 * square_side(config) ** 2,
        processes=ranks.local_world,
    )
    caches = _open_caches(config, train_files, val_files, ranks, recipe=evaluation_recipe(model.inputs))
    soft_targets = None
    if soft is not None:
        soft_targets = SoftTargets(train_files, soft, weight=config.soft_weight, classes=len(dataset.classes))
    loader = Loader(
        train_files,
        Square(square_side(config)),
        batch_size=batch,
        seed=config.seed,
        workers=loading.workers,
        prefetch=loading.prefetch,
        pin_memory=device.is_cuda,
        at_least=square_side(config),
        ranges=ranges_of(config),
        cache=caches[0],
        unreadable=unreadable,
        ranks=ranks,
        weights=sampling_weights(train_files, dataset, config),
        soft=soft_targets,
    )
    targets = targets_of(dataset, device.torch_device)
    return TrainingSetup(
        config=config,
        device=device,
        dataset=dataset,
        train_files=train_files,
        val_files=val_files,
        data_digest=digest,
        targets=targets,
        metric=metric_of(config, dataset.classes, has_several=targets.has_several),
        model=model,
        optimizer=make_optimizer(model, config),
        scaler=torch.amp.GradScaler(device.torch_device.type, enabled=device.autocast_dtype == torch.float16),
        train_loader=loader,
        caches=caches,
        unreadable=unreadable,
        schedule=schedule_of(config, steps_per_epoch=len(loader)),
        batch_size=batch,
        micro_batch=micro_batch,
        loading=loading,
        train_size=config.image_size,
        soft=None
        if soft is None or soft_targets is None
        else SoftSummary(len(soft_targets), len(pseudo), config.soft_weight, soft.warnings),
        ema=average_of(model, config),
        class_weights=None if weights is None else weights.to(device.torch_device),
        ranks=ranks,
        gradients=GradientSync(model, ranks) if ranks.world > 1 else None,
        has_shared_norms=has_shared_norms,
    )


def choose_batch_size(config: TrainConfig, *, images: int, on_gpu: bool, processes: int = 1) -> int:
    """Return the batch size; `auto`: 64 on a GPU, 32 on a CPU, 32 for each of several GPUs where that is more.

    Smaller where an epoch would have fewer than 8 steps.
    """
    if config.batch_size != "auto":
        return config.batch_size
    wanted = max(_AUTO_BATCH_GPU, _AUTO_BATCH_EACH * processes) if on_gpu else _AUTO_BATCH_CPU
    return min(wanted, max(8, images // 8))


def _model_on(device: Device, config: TrainConfig, *, classes: int, ranks: Ranks) -> Ensemble:
    """Return the model with weights of the config's seed, and prepare the device for it."""
    if device.is_cuda:
        torch.backends.cudnn.benchmark = True
        torch.backends.cudnn.benchmark_limit = _ALGORITHMS_TRIED
        torch.set_float32_matmul_precision("high")  # TF32 for operations that autocast leaves in float32
    else:
        tune_for_cpu()
    torch.manual_seed(mix(config.seed))
    model = build_model(config, classes=classes).to(device.torch_device)
    model.use_default_formats(device.torch_device.type)
    if not device.is_cuda:
        torch.set_num_threads(thread_count(parameters=model.parameter_count(), processes=ranks.local_world))
    return model


def _images_of_each(batch_size: int, *, ranks: Ranks) -> int:
    """Return the most images of a batch that a process has.

    Raises TrainerError where a process would have fewer than two, which batch norm needs.
    """
    if ranks.world > 1 and batch_size < 2 * ranks.world:
        raise TrainerError(
            f"a batch of {batch_size} images cannot be shared by {ranks.world} processes: each needs two",
            hint=f"set `batch_size` to {4 * ranks.world} or more, give more images, or ask for fewer GPUs",
        )
    return -(-batch_size // ranks.world)


def shares_norms(model: nn.Module, config: TrainConfig, *, is_cuda: bool, ranks: Ranks, micro_batch: int) -> bool:
    """Return whether batch norm takes its statistics over all processes.

    Never where the model has no batch norm. Raises TrainerError where the config asks for it on a CPU.
    """
    if ranks.world == 1 or config.sync_batchnorm is False:
        return False
    if not any(isinstance(module, _BatchNorm) for module in model.modules()):
        return False
    if not is_cuda:
        if config.sync_batchnorm is True:
            raise TrainerError(
                "`sync_batchnorm: true` needs GPUs: torch's SyncBatchNorm has no CPU form",
                hint="set `sync_batchnorm: auto`",
            )
        return False
    return config.sync_batchnorm is True or micro_batch < _FEW_FOR_NORMS


def _open_caches(
    config: TrainConfig,
    train_files: list[LabelledFile],
    val_files: list[LabelledFile],
    ranks: Ranks,
    *,
    recipe: str,
) -> tuple[PixelCache | None, PixelCache | None]:
    """Return the caches of training squares and of validation images, within `cache_gb` in all; train comes first.

    Processes of one machine share them, so that all use the same limit, the lowest of any.
    """
    paths, val_paths = [path for path, _ in train_files], [path for path, _ in val_files]
    limit = min(ranks.gather(limit_bytes(config.cache_gb)))
    train = open_cache(paths, recipe="square", side=square_side(config), limit=limit)
    left = max(0, limit - (train.size_bytes if train else 0))
    return train, open_cache(val_paths, recipe=recipe, side=config.image_size, limit=left)


def train_and_val(dataset: Dataset, config: TrainConfig) -> tuple[list[LabelledFile], list[LabelledFile]]:
    """Return the images that train in this run, and those that validate."""
    groups = find_groups(config.groups, dataset)
    if config.folds:
        fold_of = fold_of_each(dataset, folds=config.folds, seed=config.seed, groups=groups)
        placed = list(zip(labelled_files(dataset), fold_of, strict=True))
        return [f for f, fold in placed if fold != config.fold], [f for f, fold in placed if fold == config.fold]
    files = dataset.splits["train"]
    if "val" in dataset.splits:
        return list(files), list(dataset.splits["val"])
    train, val = hold_out_for(dataset, fraction=config.val_fraction, seed=config.seed, groups=groups)
    return [files[index] for index in train], [files[index] for index in val]


def digest_of(dataset: Dataset, config: TrainConfig) -> str:
    """Return a hash of the names and labels of the images that train and validate, wherever the folder lies."""
    digest = hashlib.sha256()
    if dataset.label_sets is not None:
        digest.update(f"{dataset.label_sets}\n".encode())
    for split, files in zip(("train", "val"), train_and_val(dataset, config), strict=True):
        for path, label in files:
            digest.update(f"{split}/{label}/{path.relative_to(dataset.folder).as_posix()}\n".encode())
    soft = soft_labels_for(dataset, config)
    if soft is not None:
        digest.update(soft.digest.encode())
    return digest.hexdigest()
