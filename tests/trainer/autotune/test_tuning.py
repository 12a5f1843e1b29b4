"""What a run measures at its start. Everything here is measured for real, on the CPU."""

import shutil
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.support.processes import run_program
from tests.support.trainer_runs import Config, StopsAfter, Train, assert_same_run, rows
from trainer.autotune.batch_fit import largest_that_fits
from trainer.autotune.memory_format import faster, measure_formats, set_memory_formats, slowest
from trainer.autotune.tuning import full_size_epochs, tune
from trainer.distributed.stop import StopFlag
from trainer.errors import StoppedEarly, TrainerError
from trainer.model.ensemble import build_model
from trainer.outputs import checkpoint
from trainer.outputs.progress import Progress
from trainer.session.autotune_result import AutotuneResult
from trainer.session.build import build_setup
from trainer.session.device import choose_device
from trainer.session.probe import is_out_of_memory, make_images, restored_after, run_pass
from trainer.session.setup import TrainingSetup
from trainer.session.step import train_step
from trainer.training.engine import train


def bits(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {key: value.clone() for key, value in model.state_dict().items()}


def assert_equal_bits(some: dict[str, torch.Tensor], others: dict[str, torch.Tensor]) -> None:
    assert some.keys() == others.keys()
    assert all(torch.equal(value, others[key]) for key, value in some.items())


def autotune(setup: TrainingSetup, **more: Any) -> list[str]:
    """As on a GPU: measured. What is said of it."""
    said: list[str] = []
    tune(setup, stop=StopFlag(), say=said.append, measures=True, **more)
    return said


@pytest.mark.parametrize(
    ("most", "limit", "found"),
    [
        (64, 64, 64),
        (64, 63, 32),
        (64, 21, 16),  # 22 would be the third part
        (256, 100, 86),  # thirds: 128 are too many, and 64 more parts than are needed
        (100, 7, 7),
        (63, 20, 16),
        (65_536, 3000, 2979),
        (5, 3, 3),  # batch norm needs two images: 3 and 2
        (5, 2, None),
        (64, 1, None),
        (1, 1, 1),
    ],
)
def test_the_batch_goes_in_as_few_parts_as_fit(most: int, limit: int, found: int | None) -> None:
    tried: list[int] = []
    assert largest_that_fits(most, lambda count: tried.append(count) or count <= limit) == found
    assert len(tried) == len(set(tried)) <= 12


@pytest.mark.slow
def test_the_search_finds_what_fits_into_a_memory_that_runs_out(leaves: Path) -> None:
    found, whole_fits, few_fit, is_unchanged = run_program("little_memory", "search", leaves, 300).split()
    assert 16 <= int(found) <= 256
    assert (whole_fits, few_fit, is_unchanged) == ("False", "True", "True")


def test_a_step_whose_memory_runs_out_is_done_again_with_fewer_images_at_once(leaves: Path) -> None:
    at_once, halved, learned, is_finite = run_program("little_memory", "step", leaves, 300).split()
    assert int(at_once) == 512 / 2 ** int(halved)
    assert int(halved) >= 1
    assert (float(learned), is_finite) == (1.0, "True")


@pytest.mark.slow
def test_an_evaluation_whose_memory_runs_out_looks_at_fewer_images_at_once(leaves: Path) -> None:
    counts, same = run_program("little_memory", "evaluate", leaves, 300).splitlines()
    tried = [int(count) for count in counts.split()]
    assert tried[:2] == [2, 512]  # few images in a batch are no reason to take few of the next
    size = tried[-2]  # of the second batch's passes, none of which tries what failed
    assert tried[-1 - 512 // size :] == [size] * (512 // size) + [3]
    assert size < 512
    assert same == "True 1029"


def test_memory_that_runs_out_in_the_optimizers_own_step_is_not_tried_again(
    leaves: Path, tiny_config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    setup = build_setup(tiny_config(), leaves)
    batch = next(setup.train_loader.epoch(1))
    tried: list[int] = []

    def step(*_: object) -> None:
        tried.append(1)
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(setup.optimizer, "step", step)
    with pytest.raises(TrainerError, match="memory does not hold AdamW's state"):
        train_step(setup, batch, say=lambda _: None)
    assert tried == [1]


def test_words_that_may_mean_something_else_are_no_lack_of_memory_where_there_is_some() -> None:
    assert not is_out_of_memory(RuntimeError("FIND was unable to find an engine to execute this computation"))


def test_memory_that_runs_out_is_known_by_what_allocators_say() -> None:
    assert is_out_of_memory(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"))
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**50)
    assert is_out_of_memory(caught.value)
    with pytest.raises(RuntimeError) as caught:
        torch.ones(2) @ torch.ones(3)
    assert not is_out_of_memory(caught.value)


def test_both_formats_are_measured_and_nothing_is_left_of_it(tiny_config: Config) -> None:
    model = build_model(tiny_config(), classes=4).eval()
    model.use_default_formats("cpu")
    before, random, cudnn = bits(model), torch.get_rng_state(), torch.backends.cudnn.benchmark
    rates = measure_formats(model, choose_device(tiny_config()), count=8, size=32)
    assert [sorted(one) for one in rates] == [["channels_last", "contiguous"]] * 2
    assert all(rate > 0 for one in rates for rate in one.values())
    assert_equal_bits(bits(model), before)
    assert torch.equal(torch.get_rng_state(), random)
    assert torch.backends.cudnn.benchmark == cudnn
    assert not model.training
    assert all(parameter.grad is None for parameter in model.parameters())


def test_what_a_trial_changes_is_put_back_also_where_it_fails(tiny_config: Config) -> None:
    model, device = build_model(tiny_config(), classes=4), choose_device(tiny_config())
    before, random = bits(model), torch.get_rng_state()
    with pytest.raises(ZeroDivisionError), restored_after(model):
        run_pass(model, make_images(4, size=32, device=device), device)
        assert any(not torch.equal(value, before[key]) for key, value in model.state_dict().items())
        raise ZeroDivisionError
    assert_equal_bits(bits(model), before)
    assert torch.equal(torch.get_rng_state(), random)


class OnlyContiguous(torch.nn.Module):
    """As some models of timm: `view` of what has to lie in one piece."""

    def __init__(self) -> None:
        super().__init__()
        self.filters = torch.nn.Conv2d(3, 4, 3)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        seen: torch.Tensor = self.filters(images)
        return seen.view(len(seen), -1)


def test_a_format_in_which_a_backbone_fails_is_not_chosen(tiny_config: Config) -> None:
    model = build_model(tiny_config(backbones="test_resnet"), classes=4)
    model.backbones["test_resnet"] = OnlyContiguous()
    [rates] = measure_formats(model, choose_device(tiny_config()), count=4, size=32)
    assert list(rates) == ["contiguous"]
    assert faster(rates, otherwise="channels_last") == "contiguous"


def test_the_faster_format_is_taken_and_the_rules_where_nothing_could_be_measured() -> None:
    assert faster({"contiguous": 535.0, "channels_last": 202.0}, otherwise="channels_last") == "contiguous"
    assert faster({}, otherwise="channels_last") == "channels_last"


def test_moments_and_averaged_weights_follow_the_weights_into_another_format(leaves: Path, tiny_config: Config) -> None:
    setup = build_setup(tiny_config(ema_decay=0.9), leaves)
    setup.model.train()
    train_step(setup, next(iter(setup.train_loader.epoch(1))), say=print)
    assert setup.ema
    setup.ema.update()
    before, averages = bits(setup.model), setup.ema.state_dict()["average"]
    moments = {id(one): state["exp_avg"].clone() for one, state in setup.optimizer.state.items()}
    set_memory_formats(setup, ["contiguous", "contiguous"])
    assert_equal_bits(bits(setup.model), before)
    for one, state in setup.optimizer.state.items():
        assert state["exp_avg"].stride() == state["exp_avg_sq"].stride() == one.stride()
        assert torch.equal(state["exp_avg"], moments[id(one)])
    after = setup.ema.state_dict()["average"]
    assert isinstance(averages, dict)
    assert isinstance(after, dict)
    assert_equal_bits(after, averages)
    for name, one in setup.model.named_parameters():
        assert after[name].stride() == one.stride()


def test_a_checkpoint_of_one_format_goes_on_in_another(
    leaves: Path, tmp_path: Path, tiny_config: Config, train_quietly: Train
) -> None:
    train_quietly(tiny_config(dropout=0, lr=1e-4), leaves, tmp_path / "whole")
    with pytest.raises(StoppedEarly):
        train_quietly(tiny_config(dropout=0, lr=1e-4), leaves, tmp_path / "changed", StopsAfter(9))
    config = tiny_config(dropout=0, lr=1e-4, memory_format="contiguous")
    assert train_quietly(config, leaves, tmp_path / "changed")["memory_formats"] == ["contiguous"] * 2
    for one, other in zip(rows(tmp_path / "whole"), rows(tmp_path / "changed"), strict=True):
        assert one["loss"] == pytest.approx(other["loss"], abs=1e-3)


def test_what_was_measured_is_said_with_its_numbers(leaves: Path, tiny_config: Config) -> None:
    setup = build_setup(tiny_config(), leaves)
    before, random = bits(setup.model), torch.get_rng_state()
    said = autotune(setup)
    assert [line.split()[:3] for line in said[:2]] == [
        ["memory", "format:", "test_efficientnet"],
        ["memory", "format:", "test_resnet"],
    ]
    assert said[0].count("images/s") == 2
    assert said[2].startswith("batch: 8, 8 at once (found in ")
    assert said[3].startswith("not compiled: it would take some 20 s for each number of images at once, ")
    assert setup.autotune is not None
    assert setup.autotune.memory_formats == tuple(setup.model.format_names())
    assert (setup.autotune.gpu, setup.autotune.micro_batch, setup.autotune.compiled_sizes) == (None, 8, ())
    assert_equal_bits(bits(setup.model), before)
    assert torch.equal(torch.get_rng_state(), random)


def test_a_run_that_is_resumed_on_its_gpu_goes_on_with_what_it_found_and_measures_anew_on_another(
    leaves: Path, tiny_config: Config
) -> None:
    setup = build_setup(tiny_config(), leaves)
    found = AutotuneResult(None, ("contiguous", "channels_last"), 4, (), compile_s=60.0)
    setup.autotune = found
    assert autotune(setup) == [
        "memory formats as before: contiguous, channels last",
        "batch: 8, 4 at once, as before",
        "not compiled, as before",
    ]
    assert setup.autotune == found
    assert setup.model.format_names() == ["contiguous", "channels_last"]
    setup = build_setup(tiny_config(), leaves)
    setup.autotune = replace(found, gpu="another")
    assert len(autotune(setup)) == 4
    assert (setup.autotune.gpu, setup.autotune.micro_batch, setup.autotune.compile_s) == (None, 8, 60.0)


def test_what_the_config_says_is_not_measured(leaves: Path, tiny_config: Config) -> None:
    setup = build_setup(tiny_config(memory_format="contiguous", micro_batch=4, compile=False), leaves)
    assert autotune(setup) == []
    assert setup.model.format_names() == ["contiguous"] * 2
    assert setup.autotune == AutotuneResult(None)


def test_a_stop_ends_the_measuring_between_two_parts(leaves: Path, tiny_config: Config) -> None:
    setup = build_setup(tiny_config(), leaves)
    said: list[str] = []
    with pytest.raises(StoppedEarly):
        tune(setup, stop=StopsAfter(0), say=said.append, measures=True)
    assert [line.split(":")[0] for line in said] == ["memory format"] * 2
    assert setup.autotune is None
    tune(setup, stop=StopsAfter(3), say=said.append, measures=True)
    assert setup.autotune is not None  # all was done: the first step stops, and its checkpoint keeps it


def test_on_a_cpu_nothing_is_measured_and_the_checkpoint_says_so(
    leaves: Path, tmp_path: Path, tiny_config: Config
) -> None:
    with (tmp_path / "said.txt").open("w") as said:
        train(tiny_config(epochs=1), data=leaves, out=tmp_path, stop=StopFlag(), progress=Progress(stream=said))
    assert "memory format" not in (tmp_path / "said.txt").read_text()
    state = checkpoint.load(tmp_path / "checkpoints" / "last.pt")
    assert AutotuneResult.from_plain(state["tuned"]) == AutotuneResult(None)


def test_a_run_goes_on_to_equal_bits_with_what_it_measured(
    leaves: Path, tmp_path: Path, tiny_config: Config, train_quietly: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trainer.training.engine.tune", partial(tune, measures=True))
    with pytest.raises(StoppedEarly):
        train_quietly(tiny_config(), leaves, tmp_path / "one", StopsAfter(9))
    shutil.copytree(tmp_path / "one", tmp_path / "other")
    found = AutotuneResult.from_plain(checkpoint.load(tmp_path / "one" / "checkpoints" / "last.pt")["tuned"])
    assert found.memory_formats
    summaries = [train_quietly(tiny_config(), leaves, tmp_path / name) for name in ("one", "other")]
    assert_same_run(tmp_path / "one", tmp_path / "other")
    assert [one["memory_formats"] for one in summaries] == [list(found.memory_formats)] * 2


def test_a_checkpoint_from_before_there_was_measuring_goes_on(
    leaves: Path, tmp_path: Path, tiny_config: Config, train_quietly: Train
) -> None:
    train_quietly(tiny_config(), leaves, tmp_path / "whole")
    with pytest.raises(StoppedEarly):
        train_quietly(tiny_config(), leaves, tmp_path / "old", StopsAfter(3))
    last = tmp_path / "old" / "checkpoints" / "last.pt"
    state = checkpoint.load(last)
    del state["tuned"], state["asked_epochs"], state["spent_s"]
    for key in ("memory_format", "compile", "metric", "patience"):
        del state["config"][key]
    checkpoint.save(state, last)
    train_quietly(tiny_config(), leaves, tmp_path / "old")
    assert_same_run(tmp_path / "old", tmp_path / "whole")


def test_only_epochs_at_full_size_are_left_to_gain_from_compiling(leaves: Path, tiny_config: Config) -> None:
    setup = build_setup(tiny_config(image_size=64, start_image_size=32, epochs=4), leaves)
    assert setup.steps_per_epoch == 4
    assert full_size_epochs(setup, epoch=1, step=1) == 2
    assert full_size_epochs(setup, epoch=4, step=1) == 0.75
    assert full_size_epochs(setup, epoch=4, step=1, runs_after=3) == 6.75  # folds that use the same code


@pytest.mark.parametrize(("runs_after", "is_tried"), [(0, False), (500, True)])
def test_what_was_compiled_before_is_compiled_again_only_where_the_rest_repays_it(
    leaves: Path, tiny_config: Config, monkeypatch: pytest.MonkeyPatch, runs_after: int, is_tried: bool
) -> None:
    """As on a machine in place of one that was taken away: 32 images of 1/80 s an epoch, a fifth of which is saved."""
    monkeypatch.setattr("trainer.autotune.compiling.BACKEND", "aot_eager")
    setup = build_setup(tiny_config(backbones="test_resnet"), leaves)
    setup.autotune = AutotuneResult(None, ("contiguous",), 8, (8,), 90.0, compile_rates=(100.0, 80.0), size_s=90.0)
    said = autotune(setup, epoch=3, runs_after=runs_after)
    assert any(line.startswith("compiling, some 90 s") for line in said) == is_tried
    assert any("and save some 20% (measured before) of 0 s left" in line for line in said) != is_tried
    assert setup.autotune.compile_rates is not None


@pytest.mark.parametrize("wish", ["auto", pytest.param("on", marks=pytest.mark.slow)])
def test_processes_that_train_together_measure_and_agree(leaves: Path, wish: str) -> None:
    one, other = run_program("tune_together", leaves, wish).splitlines()
    assert one == other
    assert f", 6, True, {wish == 'on'}) " in one  # of 11 images, in one part


def test_processes_are_as_fast_as_the_slowest_and_take_what_works_in_each() -> None:
    fast, slow = {"contiguous": 500.0, "channels_last": 600.0}, {"contiguous": 300.0, "channels_last": 200.0}
    assert slowest([fast, slow]) == slow
    assert slowest([fast, {"contiguous": 10.0}]) == {"contiguous": 10.0}
