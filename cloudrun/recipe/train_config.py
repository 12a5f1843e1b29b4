"""Define the config of a training run: every field with its default, the champion recipe.

Importing this module loads neither torch nor timm nor numpy: cloudrun validates job files with it.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer, StrictBool, model_validator
from pydantic.functional_validators import AfterValidator, WrapValidator
from pydantic_core import PydanticCustomError

from cloudrun.recipe.auto_epochs import plain_epochs, read_epochs
from cloudrun.recipe.backbones import has_weights, is_known, nearest


def _no_bool(value: object) -> object:
    """Refuse true and false: `lr: true` is a mistake, not 1.0.

    Text such as "3e-4" is allowed: YAML 1.1 reads it as text.
    """
    if isinstance(value, bool):
        raise PydanticCustomError("float_type", "Input should be a valid number")
    return value


def _on_or_off(value: object) -> object:
    """Accept true and false: YAML 1.1 reads a bare `on` as true."""
    return {True: "on", False: "off"}.get(value, value) if isinstance(value, bool) else value


def _as_list(value: object) -> object:
    return (value,) if isinstance(value, str) else value


def _no_list(value: object) -> object:
    return () if value is None else _as_list(value)


def _check_backbone(name: str) -> str:
    if is_known(name):
        return name
    near = nearest(name)
    raise PydanticCustomError(
        "unknown_backbone",
        '"{name}" is not a model that timm has',
        {
            "name": name,
            "hint": f"did you mean {' or '.join(f'`{name}`' for name in near)}?"
            if near
            else 'names: `python -c "import timm; print(timm.list_models())"`',
        },
    )


def _check_unique(backbones: tuple[str, ...]) -> tuple[str, ...]:
    twice = sorted({name for name in backbones if backbones.count(name) > 1})
    if twice:
        raise PydanticCustomError(
            "twice",
            "duplicate {names}: the same features twice teach nothing new",
            {"names": ", ".join(twice), "hint": "keep one of them"},
        )
    return backbones


def _check_trackers(trackers: tuple[str, ...]) -> tuple[str, ...]:
    if len(set(trackers)) < len(trackers):
        raise PydanticCustomError("twice", "a tracker is named twice", {"hint": "name each once"})
    return trackers


Number = Annotated[float, BeforeValidator(_no_bool)]
Whole = Annotated[int, Field(strict=True)]
Epochs = Annotated[
    Whole,
    Field(ge=1, le=10_000, json_schema_extra={"words": ["auto"]}),
    WrapValidator(read_epochs),
    PlainSerializer(plain_epochs),
]
MetricName = Literal[
    "accuracy", "balanced_accuracy", "macro_f1", "f_beta", "auc", "log_loss", "quadratic_kappa", "top_k"
]
TrackerName = Literal["wandb", "mlflow", "aim"]
FileNames = Annotated[tuple[Annotated[str, Field(min_length=1)], ...], BeforeValidator(_as_list), Field(max_length=20)]
Flips = Literal["mirror", "dihedral", "none"]
StrongAugment = Literal["none", "trivial", "rand"]
Backbones = Annotated[
    tuple[Annotated[str, AfterValidator(_check_backbone)], ...],
    BeforeValidator(_as_list),
    Field(min_length=1, max_length=8),
    AfterValidator(_check_unique),
]


class TrainConfig(BaseModel):
    """The `train:` section of a job file, or a file of its own."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    backbones: Backbones = ("efficientnet_b3", "resnest50d")
    """timm names; their pooled features are concatenated."""
    pretrained: StrictBool | str = True
    """ImageNet weights: from timm's hub, none, or from a folder of `<timm name>.pth` or `.safetensors`."""
    image_size: Annotated[Whole, Field(ge=32, le=1024)] = 224
    """Pixels of the square that the model sees."""
    start_image_size: Annotated[Whole, Field(ge=32, le=1024)] | None = None
    """Size in the first epoch, growing to `image_size` over three quarters of the run: 128, say; null: `image_size`."""
    final_image_size: Annotated[Whole, Field(ge=32, le=1024)] | None = None
    """Size in the last `final_epochs` epochs, larger than `image_size`: 288, say; null: `image_size`."""
    final_epochs: Annotated[Whole, Field(ge=1, le=10_000)] = 2
    """Epochs at `final_image_size`; at most half of the run."""
    test_image_size: Annotated[Whole, Field(ge=32, le=1024)] | None = None
    """Size of the images that validate, test and are predicted; null: the size of the last epoch."""
    epochs: Epochs = 30
    """Passes over the training images; `auto`: as many as fit into `train_hours`, or into what the job's budget leaves
    to train, at most 100."""
    batch_size: Literal["auto"] | Annotated[Whole, Field(ge=2, le=65_536)] = "auto"
    """Images in an optimizer step; they are accumulated where they do not fit into memory at once.

    auto: 64 on a GPU (32 for each of several, where that is more), 32 on a CPU; less where an epoch would have fewer
    than 8 steps.
    """
    micro_batch: Literal["auto"] | Annotated[Whole, Field(ge=1, le=65_536)] = "auto"
    """Images in memory at once; auto: on a GPU as many as fit, found by trying at the start; on a CPU the whole batch.

    Halved whenever memory still runs out.
    """
    memory_format: Literal["auto", "channels_last", "contiguous"] = "auto"
    """Memory format of images and filters; auto: on a GPU the faster one for each backbone, by measuring."""
    grad_checkpointing: StrictBool = False
    """Compute activations again in the backward pass instead of keeping them: more images at once, for a third more
    time. Then nothing is compiled."""
    compile: Annotated[Literal["auto", "on", "off"], BeforeValidator(_on_or_off)] = "auto"
    """torch.compile for training; auto: on a GPU, where the rest of the run gains more than compiling takes."""
    lr: Annotated[Number, Field(gt=0, le=1)] = 3e-4
    """AdamW's learning rate at the end of the warm-up."""
    backbone_lr: Annotated[Number, Field(gt=0, le=1)] = 1
    """Learning rate of the backbones as a share of `lr`, the rate of the linear layer."""
    layer_decay: Annotated[Number, Field(gt=0, le=1)] = 1
    """Learning rate of a stage of a backbone as a share of that of the next stage: 0.7, say."""
    frozen_epochs: Annotated[Whole, Field(ge=0, le=10_000)] = 0
    """The first of `epochs`, in which the head learns alone, with the backbones as they were pretrained: cheap epochs
    (linear probe, then fine-tuning). Warm-up and schedule begin after them."""
    weight_decay: Annotated[Number, Field(ge=0, le=1)] = 1e-2
    """Weight decay of AdamW; norms and biases do not decay."""
    dropout: Annotated[Number, Field(ge=0, le=0.95)] = 0.3
    """Dropout before the linear layer."""
    dropout_samples: Annotated[Whole, Field(ge=1, le=64)] = 1
    """Draws of dropout for each image in training, whose losses are averaged: 5, say."""
    head: Literal["linear", "arcface"] = "linear"
    """arcface: scaled cosines in place of the linear layer, trained with an angle as margin; for many classes of few
    images."""
    arcface_margin: Annotated[Number, Field(ge=0, le=1.5)] = 0.3
    """Margin of `head: arcface`, in radians."""
    arcface_scale: Annotated[Number, Field(gt=0, le=1000)] = 30
    """Scale of the cosines of `head: arcface`; its logits are between minus this and this."""
    pooling: Literal["avg", "gem"] = "avg"
    """gem: generalised mean of the feature maps, with a learned exponent; for backbones that end in maps."""
    drop_path: Annotated[Number, Field(ge=0, le=0.9)] = 0
    """Stochastic depth: share of the images for which the last block is skipped; less for earlier blocks."""
    label_smoothing: Annotated[Number, Field(ge=0, le=0.9)] = 0.1
    """Share of each label that is spread over all classes."""
    warmup_epochs: Annotated[Number, Field(ge=0, le=10_000)] = 5
    """Epochs of linear warm-up; at most half of the run is warm-up, however short the run."""
    grad_clip: Annotated[Number, Field(ge=0, le=1000)] = 1.0
    """Largest norm of the gradient; 0: no clipping."""
    mixup: Annotated[Number, Field(ge=0, le=10)] = 0
    """Blends pairs of images; alpha of the Beta distribution of the shares: 0.2, say; 0: none."""
    cutmix: Annotated[Number, Field(ge=0, le=10)] = 0
    """Pastes a box of one image into another; alpha as in `mixup`: 1, say; 0: none. With both on they take turns."""
    loss: Literal["cross_entropy", "generalized_ce", "symmetric_ce", "bce"] = "cross_entropy"
    """generalized_ce, symmetric_ce: wrong labels teach less; bce: binary cross entropy of each class, though an image
    has one: with `mixup` or `cutmix`, say."""
    generalized_ce_q: Annotated[Number, Field(gt=0, le=1)] = 0.7
    """q of `loss: generalized_ce`, which has no label smoothing: near 0 as cross entropy; 1: as the mean absolute
    error, which bears most wrong labels and learns slowly."""
    logit_adjustment: Annotated[Number, Field(ge=0, le=10)] = 0
    """tau: training adds tau * log(share of the class) to the logits, so that rare classes are predicted as readily as
    frequent ones: 1 for balanced accuracy and macro F1, say; 0: nothing."""
    class_weights: Literal["none", "balanced"] = "none"
    """balanced: rare classes weigh as much in the loss as frequent ones."""
    focal_gamma: Annotated[Number, Field(ge=0, le=10)] = 0
    """Focal loss: images weigh (1 - probability of the label) to this power: 2, say; 0: all weigh the same."""
    ema_decay: Annotated[Number, Field(ge=0, lt=1)] = 0
    """Decay of an average of the weights, which validates and predicts instead of them: 0.999, say; 0: no average."""
    swa_epochs: Annotated[Whole, Field(ge=0, le=10_000)] = 0
    """Last epochs whose weights are averaged (SWA): 5, say; the average predicts where the metric on val does not fall;
    0: none."""
    swa_lr: Annotated[Number, Field(gt=0, le=1)] | None = None
    """Learning rate in these epochs, as a share of `lr`: 0.1, say; null: it goes on falling to 0."""
    soup: Annotated[Whole, Field(ge=0, le=20)] = 0
    """Best epochs whose weights are tried in an average, one after another, and stay in it where the metric on val does
    not fall (a greedy soup): 5, say; 0: none."""
    precision: Literal["auto", "bf16", "fp16", "fp32"] = "auto"
    """auto: bf16 where the GPU has it, else fp16 with loss scaling; fp32 on a CPU."""
    device: Literal["auto", "cuda", "cpu"] = "auto"
    """auto: the GPU that was asked for must work, or the run fails at once; cpu: train without one."""
    sync_batchnorm: Literal["auto"] | StrictBool = "auto"
    """Batch norm's statistics over all GPUs of a run; auto: where each has fewer than 16 images at once."""
    seed: Annotated[Whole, Field(ge=0, lt=2**31)] = 0
    """Seed of weights, split, order and augmentation."""
    metric: MetricName | Literal["auto"] = "auto"
    """What chooses the epoch; auto: accuracy, or macro F1 where an image may have several classes.

    `auc` is the mean over the classes' columns; `quadratic_kappa` takes classes in the order of their numbers or names.
    """
    metric_beta: Annotated[Number, Field(gt=0, le=10)] = 2
    """Weight of recall against precision in `metric: f_beta`."""
    metric_k: Annotated[Whole, Field(ge=1, le=1000)] = 5
    """Classes that may be named in `metric: top_k`."""
    patience: Annotated[Whole, Field(ge=0, le=10_000)] = 0
    """Epochs without a better one after which the run ends; 0: it never ends early."""
    train_hours: Annotated[Number, Field(gt=0, le=10_000)] | None = None
    """Hours that the run may take on its machine: fewer epochs are trained where `epochs` do not fit, and the learning
    rate falls to its end in them; null: all epochs."""
    tta: Literal["none", "flip", "dihedral"] = "none"
    """Test-time augmentation: the logits of several views of an image are averaged; flip: the image and its mirror
    image; dihedral: both in four quarter turns, for images without an up and a down."""
    tta_sizes: Annotated[tuple[Number, ...], Field(max_length=4)] = ()
    """Sizes at which each view is seen, in pixels or as shares of the evaluated size: `[1, 1.25]`; none: that size."""
    val_fraction: Annotated[Number, Field(gt=0, le=0.5)] = 0.1
    """Share of train that validates, by class, where there is no val folder."""
    folds: Annotated[Whole, Field(ge=0, le=100)] = 0
    """Number of folds of the labelled images, one of which validates; 0: val, or a share held out, validates."""
    fold: Literal["all"] | Annotated[Whole, Field(ge=0, lt=100)] = 0
    """The fold that validates, from 0; all: train each in turn, and merge the results."""
    groups: str | None = None
    """A CSV (image,group) or JSON file in the data folder: images of one group are never in two folds, nor held out
    while others of it train."""
    soft_labels: FileNames = ()
    """A CSV file in the data folder, or a list of them, with the probability of each class for images: oof.csv for
    labelled images, predictions.csv for others, which then train with these targets (pseudo-labels).

    The columns are those that the trainer writes, or `image` and a column for each class.
    """
    soft_weight: Annotated[Number, Field(ge=0, le=1)] = 0.5
    """Share of the file's probabilities in the target of an image that has a label, too; the label has the rest."""
    crop_scale_min: Annotated[Number, Field(gt=0, le=1)] = 0.08
    """Smallest area of a random crop, as a fraction of the image's."""
    flips: Flips = "mirror"
    """Random flips of training images; mirror: left to right; dihedral: quarter turns and vertical flips, too, for
    images without an up and down: leaves from above, satellites, microscopes; none: none, for text and left hands."""
    rotation_degrees: Annotated[Number, Field(ge=0, le=180)] = 30
    """Largest random rotation."""
    color_jitter: Annotated[Number, Field(ge=0, le=1)] = 0.2
    """Largest relative change of brightness, of contrast and of saturation."""
    augment: StrongAugment = "none"
    """Strong augmentation after crop, flip, rotation and colours; trivial: TrivialAugment, an operation of a random
    strength; rand: RandAugment, `rand_operations` of the strength `rand_magnitude`.

    The papers have it without other rotations and colours: `rotation_degrees: 0` and `color_jitter: 0`.
    """
    rand_operations: Annotated[Whole, Field(ge=1, le=8)] = 2
    """Operations of `augment: rand` on an image."""
    rand_magnitude: Annotated[Whole, Field(ge=0, le=30)] = 9
    """Strength of the operations of `augment: rand`, of 30."""
    random_erasing: Annotated[Number, Field(ge=0, le=1)] = 0
    """Probability that a box of 2 % to a third of a training image is filled with one random colour: 0.25, say."""
    plain_epochs: Annotated[Whole, Field(ge=0, le=10_000)] = 0
    """Last epochs without `augment`, `random_erasing`, `mixup` and `cutmix`, and with crops of at least half of the
    image: 2, say. A run that `patience` ends earlier may have none."""
    sampler: Literal["shuffle", "balanced", "sqrt"] = "shuffle"
    """How an epoch's images are drawn; shuffle: each once; balanced: as often from each class; sqrt: from each class by
    the root of its number of images.

    An epoch has as many images as with `shuffle`. An image of several classes is drawn by its rarest.
    """
    decoded_size: Literal["auto"] | Annotated[Whole, Field(ge=32, le=2048)] = "auto"
    """Pixels of the squares that training images are decoded to and cropped from; auto: 256/224 of the largest
    size that trains."""
    cache_gb: Literal["auto"] | Annotated[Number, Field(ge=0, le=100_000)] = "auto"
    """Decoded images kept on the machine's disk, so that later epochs decode nothing, in GB.

    auto: up to half of the free disk and half of the memory; 0: none.
    """
    workers: Literal["auto"] | Annotated[Whole, Field(ge=0, le=256)] = "auto"
    """Processes that load images; auto: one for each core but one; 0: the trainer loads them itself."""
    max_unreadable: Annotated[Number, Field(ge=0, lt=1)] = 0.01
    """Share of the training and validation images that may be unreadable: each is named once and skipped."""
    trackers: Annotated[tuple[TrackerName, ...], BeforeValidator(_no_list), AfterValidator(_check_trackers)] = ()
    """Services that get the figures of each epoch, beside TensorBoard's file; installed where they are named."""
    checkpoint_minutes: Annotated[Number, Field(gt=0, le=24 * 60)] = 5
    """Most time between saves of last.pt; it is also saved after an epoch, where that costs little of the time."""

    @model_validator(mode="after")
    def _fold_exists(self) -> TrainConfig:
        if self.folds == 1:
            raise PydanticCustomError(
                "one_fold", "`folds` is 1, which leaves no images to train on", {"hint": "set 5, or 0"}
            )
        if self.fold == "all" and not self.folds:
            raise PydanticCustomError(
                "no_folds", "`fold` is all, of 0 folds", {"hint": "set `folds: 5`, or leave it out"}
            )
        if self.fold != "all" and self.fold and self.fold >= self.folds:
            raise PydanticCustomError(
                "no_such_fold",
                "`fold` is {fold} of {folds} folds, which count from 0",
                {"fold": self.fold, "folds": self.folds, "hint": "lower `fold`, or raise `folds`"},
            )
        return self

    @model_validator(mode="after")
    def _learns_as_asked(self) -> TrainConfig:
        from cloudrun.recipe.learning_rules import check_learning

        check_learning(self)
        return self

    @model_validator(mode="after")
    def _averages_several(self) -> TrainConfig:
        for key in ("swa_epochs", "soup"):
            if getattr(self, key) == 1:
                raise PydanticCustomError(
                    "one_epoch", "`{key}` is 1, and one epoch is no average", {"key": key, "hint": "set 5, or 0"}
                )
        if self.swa_lr is not None and not self.swa_epochs:
            raise PydanticCustomError(
                "no_swa", "`swa_lr` is set, and `swa_epochs` is 0", {"hint": "set `swa_epochs: 5`, or leave it out"}
            )
        return self

    @model_validator(mode="after")
    def _sizes_fit(self) -> TrainConfig:
        from cloudrun.recipe.size_checks import check_sizes

        check_sizes(self)
        return self

    @model_validator(mode="after")
    def _weights_exist(self) -> TrainConfig:
        without = [name for name in self.backbones if not has_weights(name)]
        if self.pretrained is True and without:
            raise PydanticCustomError(
                "no_weights",
                "timm has no pretrained weights for {names}",
                {"names": ", ".join(without), "hint": "set `pretrained: false`, or take another backbone"},
            )
        if self.pretrained == "":
            raise PydanticCustomError(
                "empty_folder",
                "`pretrained` is an empty text",
                {"hint": "write true, false, or a folder of weights"},
            )
        return self


# Key, sensible range, what goes wrong below, what goes wrong above.
KNOBS: tuple[tuple[str, float, float, str, str], ...] = (
    ("lr", 1e-5, 1e-2, "learning is too slow to finish", "the loss diverges; start at 3e-4"),
    ("weight_decay", 1e-4, 1e-2, "nothing holds back overfitting", "the weights shrink faster than they learn"),
    ("dropout", 0.2, 0.5, "the head overfits small data sets", "too few features are left to learn from"),
    ("label_smoothing", 0.05, 0.2, "the model grows overconfident", "the classes blur into each other"),
    ("batch_size", 16, 256, "gradients and batch norm get noisy", "few steps an epoch, and a higher lr is needed"),
)


def knob_warnings(config: TrainConfig, *, written_only: bool = False) -> list[str]:
    """Return a line for each value outside its sensible range: value, range, and what goes wrong there.

    `written_only`: nothing of a default that does not fit a shorter run, which the trainer's log tells anyway.
    """
    lines = []
    for key, low, high, below, above in KNOBS:
        value = getattr(config, key)
        if value != "auto" and not low <= value <= high:
            trouble = below if value < low else above
            lines.append(f"`{key}` is {value:g}, outside the sensible {low:g} to {high:g}: {trouble}")
    if config.sampler != "shuffle" and config.class_weights != "none":
        lines.append(
            f"`sampler: {config.sampler}` and `class_weights: {config.class_weights}` both favour rare classes:"
            " together they favour them twice"
        )
    if config.plain_epochs and config.plain_epochs >= config.epochs:
        lines.append(
            f"`plain_epochs` is {config.plain_epochs} of {config.epochs} epochs: no epoch has strong augmentation,"
            " mixup or cutmix"
        )
    if config.frozen_epochs and config.pretrained is False:
        lines.append(
            f"`frozen_epochs` is {config.frozen_epochs} with `pretrained: false`: the head learns from random features"
        )
    is_told = not written_only or "warmup_epochs" in config.model_fields_set
    learning = config.epochs - config.frozen_epochs
    if is_told and config.warmup_epochs > learning / 2:
        lines.append(
            f"`warmup_epochs` is {config.warmup_epochs:g} of {learning} epochs: "
            f"the warm-up is cut to half of the run, {learning / 2:g}"
        )
    return lines
