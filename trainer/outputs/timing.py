"""How long the parts of this process's work take: what is left is foretold from it, here and in later runs."""

from __future__ import annotations

from dataclasses import dataclass

# The first steps compile kernels, fill caches and wait for the loader's processes: they say nothing of the rest.
_WARMUP_STEPS = 3
# A forward pass alone against forward and backward: the bound until the first evaluation has been timed.
_EVALUATION_SHARE = 1 / 3


@dataclass
class Timing:
    """Seconds of this process alone; a resumed run is timed anew, perhaps on another machine."""

    steps_per_epoch: int
    timed_steps: int = 0
    timed_s: float = 0.0
    evaluation_s: float = 0.0
    evaluated_images: int = 0
    _seen: int = 0

    def add_step(self, seconds: float, *, work: float = 1.0) -> None:
        """`work`: a part of a step at full image size; it is timed as the whole one."""
        self._seen += 1
        if self._seen > min(_WARMUP_STEPS, self.steps_per_epoch - 1):
            self.timed_steps += 1
            self.timed_s += seconds / work

    def add_evaluation(self, seconds: float, *, images: int) -> None:
        self.evaluation_s += seconds
        self.evaluated_images += images

    def left(
        self, *, epochs: int, steps: float, batch_size: int, val_images: int, test_images: int
    ) -> dict[str, float | bool]:
        """For progress.json: the timed steps, and `steps` and the evaluations of `epochs` epochs as what is left.

        All steps are counted and timed as those at full image size.
        """
        images = epochs * val_images + test_images
        is_measured = self.evaluated_images > 0
        if is_measured:
            image_s = self.evaluation_s / self.evaluated_images
        else:
            image_s = self.timed_s / max(1, self.timed_steps) / batch_size * _EVALUATION_SHARE
        return {
            "timed_steps": self.timed_steps,
            "timed_s": round(self.timed_s, 4),
            "steps_per_epoch": self.steps_per_epoch,
            "steps_left": round(steps),
            "evaluation_left_s": round(images * image_s, 4),
            "evaluation_is_measured": is_measured,
        }
