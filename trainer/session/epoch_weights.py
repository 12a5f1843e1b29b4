"""Keep the weights of epochs that may be averaged at the end of a run: the last ones, and the best ones.

Only the main process keeps weights; all processes know of which epochs they are.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from cloudrun.recipe.train_config import TrainConfig
from trainer.distributed.ranks import Ranks
from trainer.errors import TrainerError
from trainer.model.weight_average import WeightAverage
from trainer.outputs import checkpoint
from trainer.outputs.scoring import Metric
from trainer.outputs.writer import CheckpointWriter, snapshot


@dataclass
class Ingredient:
    """An epoch that is among the best so far; its weights are in the file of `slot`, or not yet written."""

    epoch: int
    slot: int
    metric: float | None
    loss: float
    unsaved: dict[str, Tensor] | None = None

    def rank(self, metric: Metric) -> tuple[float, float, int]:
        """Return a key that is higher for a better epoch, and for the earlier of two equal ones."""
        return metric.gain(self.metric), -self.loss, -self.epoch


@dataclass
class EpochWeights:
    """`swa`: the average of the last epochs; `soup`: the best epochs, at most as many as the config's `soup`.

    A file has a place of its own, `soup-0.pt` and so on, which a better epoch takes over: the disk, and a bucket, never
    hold more.
    """

    folder: Path
    swa: WeightAverage = field(default_factory=WeightAverage)
    soup: list[Ingredient] = field(default_factory=list)

    def add(  # noqa: PLR0913 - an epoch and how good it is
        self, config: TrainConfig, epoch: int, weights: Mapping[str, Tensor] | None, *, metric: Metric,
        value: float | None, loss: float,
    ) -> None:  # fmt: skip
        """Note an epoch that has validated. `weights`: those that validated; None in processes that keep none."""
        first_averaged = config.epochs - config.swa_epochs + 1
        is_averaged = bool(config.swa_epochs) and epoch >= first_averaged
        new = Ingredient(epoch, -1, value, loss)
        is_among_best = len(self.soup) < config.soup or any(new.rank(metric) > one.rank(metric) for one in self.soup)
        own = snapshot(weights) if weights is not None and (is_averaged or is_among_best) else None
        if not is_averaged or (self.swa.epochs and self.swa.epochs[0] < first_averaged):
            self.swa = WeightAverage()  # of epochs that the run has gone on from
        if is_averaged:
            self.swa = self.swa.plus(epoch, own)
        if is_among_best:
            self._take(new, own, most=config.soup, metric=metric)

    def _take(self, new: Ingredient, weights: dict[str, Tensor] | None, *, most: int, metric: Metric) -> None:
        if len(self.soup) == most:
            self.soup.remove(min(self.soup, key=lambda one: one.rank(metric)))
        taken = {one.slot for one in self.soup}
        new.slot = next(slot for slot in range(most) if slot not in taken)
        new.unsaved = weights
        self.soup.append(new)

    def best_first(self, metric: Metric) -> list[Ingredient]:
        return sorted(self.soup, key=lambda one: one.rank(metric), reverse=True)

    def path(self, slot: int) -> Path:
        return self.folder / f"soup-{slot}.pt"

    def weights_of(self, ingredient: Ingredient) -> dict[str, Tensor]:
        """Return the weights in the main process; call after `write`, once the writer has written."""
        model: dict[str, Tensor] = checkpoint.load(self.path(ingredient.slot))["model"]
        return model

    def write(self, writer: CheckpointWriter) -> None:
        """Write the files that are due, before the checkpoint that names them."""
        for one in self.soup:
            if one.unsaved is not None:
                writer.save({"epoch": one.epoch, "model": one.unsaved}, self.path(one.slot))
                one.unsaved = None

    def remove_files(self) -> None:
        """Remove the files of a run that has chosen its weights."""
        for path in self.folder.glob("soup-*.pt"):
            path.unlink(missing_ok=True)

    def as_plain(self) -> dict[str, Any]:
        return {
            "swa": self.swa.as_plain(),
            "soup": [
                {"epoch": one.epoch, "slot": one.slot, "metric": one.metric, "loss": one.loss} for one in self.soup
            ],
        }

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any] | None, folder: Path, ranks: Ranks) -> EpochWeights:
        """Return what a checkpoint keeps. An epoch whose file a later, better epoch has taken over is left out.

        That epoch comes again in the resumed run.
        """
        if plain is None:
            return cls(folder)
        found = cls(folder, WeightAverage.from_plain(plain["swa"], keeps_weights=ranks.is_main))
        listed = [Ingredient(**one) for one in plain["soup"]]
        epochs = ranks.from_main(lambda: [_epoch_in(found.path(one.slot)) for one in listed])
        found.soup = [one for one, epoch in zip(listed, epochs, strict=True) if epoch == one.epoch]
        return found


def _epoch_in(path: Path) -> int | None:
    """Return the epoch whose weights a file has; None where it has none that can be read."""
    try:
        return int(checkpoint.load(path)["epoch"])
    except TrainerError:
        return None
