"""What is left of a run, from what has been timed."""

from trainer.outputs.timing import Timing

LEFT = {"epochs": 2, "steps": 36, "batch_size": 10, "val_images": 30, "images_at_end": 60}


def timed(steps: int, *, steps_per_epoch: int) -> Timing:
    """Three slow steps, then a second each."""
    timing = Timing(steps_per_epoch=steps_per_epoch)
    for step in range(steps):
        timing.add_step(9.0 if step < 3 else 1.0)
    return timing


def test_the_first_steps_are_not_timed() -> None:
    left = timed(4, steps_per_epoch=20).left(**LEFT)
    assert (left["timed_steps"], left["timed_s"], left["steps_left"]) == (1, 1.0, 36)


def test_an_epoch_of_few_steps_still_gives_one_that_is_timed() -> None:
    assert timed(2, steps_per_epoch=2).timed_steps == 1
    assert timed(1, steps_per_epoch=1).timed_steps == 1


def test_evaluation_counts_as_a_third_of_training_until_it_has_been_timed() -> None:
    timing = timed(4, steps_per_epoch=20)
    images = 2 * 30 + 60
    left = timing.left(**LEFT)
    assert (left["evaluation_left_s"], left["evaluation_is_measured"]) == (images * 4.0 / 120, False)
    timing.add_evaluation(15.0, images=30)
    left = timing.left(**LEFT)
    assert (left["evaluation_left_s"], left["evaluation_is_measured"]) == (images * 0.5, True)
