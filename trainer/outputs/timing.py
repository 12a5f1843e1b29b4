"""Time the parts of a run in this process; the rest of the run, and later runs, are estimated from it."""

from __future__ import annotations

from dataclasses import dataclass

# The first steps compile kernels, fill caches and wait for the loader processes: they are not counted.
_WARMUP_STEPS = 3
# Time of a forward pass as a share of forward and backward: used until the first evaluation was timed.
_EVALUATION_SHARE = 1 / 3


@dataclass
class Timing:
    """Seconds in this process alone; a resumed run is timed again, perhaps on another machine."""

    steps_per_epoch: int
    batch_size: int = 0  # 0: the time of an evaluation is not guessed before it was measured
    timed_steps: int = 0
    timed_s: float = 0.0
    evaluation_s: float = 0.0
    evaluated_images: float = 0.0  # the views of an image are counted by their pixels
    _steps: int = 0

    def add_step(self, seconds: float, *, work: float = 1.0) -> None:
        """Count a step. `work`: its share of a step at full image size, as which it is timed."""
        self._steps += 1
        if self._steps > min(_WARMUP_STEPS, self.steps_per_epoch - 1):
            self.timed_steps += 1
            self.timed_s += seconds / work

    def add_rest(self, seconds: float, *, work: float = 1.0) -> None:
        """Count the seconds in which the device finished the steps that were added."""
        if self.timed_steps:
            self.timed_s += seconds / work

    def forget_steps(self) -> None:
        """Time the steps anew: the first epoch decodes each image, and later ones find it in the cache."""
        self.timed_steps, self.timed_s = 0, 0.0

    def add_evaluation(self, seconds: float, *, images: float) -> None:
        self.evaluation_s += seconds
        self.evaluated_images += images

    def seconds(self, *, steps: float, images: float) -> float:
        """Return the seconds of `steps` steps at full image size and of evaluating `images`, as they were timed."""
        step_s = self.timed_s / max(1, self.timed_steps)
        image_s = step_s / self.batch_size * _EVALUATION_SHARE if self.batch_size else 0.0
        if self.evaluated_images:
            image_s = self.evaluation_s / self.evaluated_images
        return steps * step_s + images * image_s

    def left(
        self, *, epochs: int, steps: float, batch_size: int, val_images: int, images_at_end: float
    ) -> dict[str, float | bool]:
        """Return the timing for progress.json: timed steps, and what is left.

        `steps` and the evaluations of `epochs` epochs are left, then those of `images_at_end`. Steps are counted and
        timed as steps at full image size.
        """
        images = epochs * val_images + images_at_end
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
