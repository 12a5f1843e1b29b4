"""What a run measures at its start. Everything here is measured for real, on the CPU."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from cloudrun.recipe.train_config import TrainConfig
from tests.trainer.test_kill import run_python
from tests.trainer.test_train import StopsAfter, assert_same_run, rows
from trainer.autotune.batch_fit import largest_that_fits
from trainer.autotune.memory_format import faster, lay_out, measure_formats, slowest
from trainer.autotune.tuning import full_size_epochs, tune
from trainer.distributed.stop import StopFlag
from trainer.errors import StoppedEarly, TrainerError
from trainer.model.ensemble import build_model
from trainer.outputs import checkpoint
from trainer.outputs.progress import Progress
from trainer.session.autotune_result import Tuned
from trainer.session.build import open_session
from trainer.session.device import choose_device
from trainer.session.probe import is_out_of_memory, make_images, no_trace, run_pass
from trainer.session.setup import Session
from trainer.session.step import train_step
from trainer.training.engine import train

Config = Callable[..., TrainConfig]
Train = Callable[..., dict[str, Any]]


def bits(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {key: value.clone() for key, value in model.state_dict().items()}


def assert_equal_bits(some: dict[str, torch.Tensor], others: dict[str, torch.Tensor]) -> None:
    assert some.keys() == others.keys()
    assert all(torch.equal(value, others[key]) for key, value in some.items())


def tuned(session: Session, **more: Any) -> list[str]:
    """As on a GPU: measured. What is said of it."""
    said: list[str] = []
    tune(session, stop=StopFlag(), say=said.append, measures=True, **more)
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


# Memory is limited to so much more than there is in use.
# Without oneDNN, which may crash where memory runs out; torch's own kernels raise.
IN_LITTLE_MEMORY = """
import ctypes, resource, sys
from pathlib import Path
import torch
torch.backends.mkldnn.set_flags(False)
from cloudrun.recipe.train_config import TrainConfig
from trainer.autotune.batch_fit import Room, largest_that_fits
from trainer.data.loader import Batch
from trainer.session.build import open_session
from trainer.session.step import train_step
config = TrainConfig(backbones="test_vit", pretrained=False, image_size=160, batch_size=512, workers=0, device="cpu")
session = open_session(config, Path(sys.argv[1]))
in_use = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
limit = in_use + int(sys.argv[2]) * 2**20
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
before = {key: value.clone() for key, value in session.model.state_dict().items()}
"""
# Prints what fits, then whether the model is what it was.
SEARCHES = """
room = Room(session, {})
fits = {}
def is_fitting(count):
    fits[count] = room.fits(count)
    ctypes.CDLL(None).malloc_trim(0)  # what a GPU's allocator is asked for, too
    return fits[count]
print(largest_that_fits(512, is_fitting), fits[512], is_fitting(8))
print(all(torch.equal(value, before[key]) for key, value in session.model.state_dict().items()))
"""
# Prints how many images were at once in the end, how often that was said, and how many weights have learned.
STEPS = """
images = torch.randint(0, 256, (512, 3, 160, 160), dtype=torch.uint8)
said = []
session.model.train()
result = train_step(session, Batch(images, torch.zeros(512, dtype=torch.int64)), say=said.append)
weights = dict(session.model.named_parameters())
learned = [name for name, value in weights.items() if not torch.equal(value, before[name])]
print(session.micro_batch, len(said), len(learned) / len(weights), torch.isfinite(result.loss_sum).item())
"""
# Prints how many images were looked at at once, a number a pass; then, whether logits are those of few at once.
LOOKS = """
from trainer.data.augment import normalise
from trainer.session.scores import evaluate
drawn = torch.Generator().manual_seed(0)
batches = [torch.randint(0, 256, (count, 3, 160, 160), dtype=torch.uint8, generator=drawn)
    for count in (2, 512, 512, 3)]
class Batches:
    def epoch(self, number):
        return iter([Batch(images, torch.zeros(len(images), dtype=torch.int64)) for images in batches])
counts = []
session.model.register_forward_pre_hook(lambda model, given: counts.append(len(given[0])))
logits = evaluate(session.model, Batches(), session.device).logits
print(*counts)
session.model.eval()
with torch.inference_mode():
    few = [session.model(normalise(part)) for images in batches for part in images.split(4)]
print(torch.allclose(logits, torch.cat(few), atol=1e-5), len(logits))
"""


@pytest.mark.slow
def test_the_search_finds_what_fits_into_a_memory_that_runs_out(leaves: Path) -> None:
    found, whole_fits, few_fit, is_unchanged = run_python(IN_LITTLE_MEMORY + SEARCHES, leaves, Path("300")).split()
    assert 16 <= int(found) <= 256
    assert (whole_fits, few_fit, is_unchanged) == ("False", "True", "True")


def test_a_step_whose_memory_runs_out_is_done_again_with_fewer_images_at_once(leaves: Path) -> None:
    at_once, halved, learned, is_finite = run_python(IN_LITTLE_MEMORY + STEPS, leaves, Path("300")).split()
    assert int(at_once) == 512 / 2 ** int(halved)
    assert int(halved) >= 1
    assert (float(learned), is_finite) == (1.0, "True")


@pytest.mark.slow
def test_an_evaluation_whose_memory_runs_out_looks_at_fewer_images_at_once(leaves: Path) -> None:
    counts, same = run_python(IN_LITTLE_MEMORY + LOOKS, leaves, Path("300")).splitlines()
    tried = [int(count) for count in counts.split()]
    assert tried[:2] == [2, 512]  # few images in a batch are no reason to take few of the next
    size = tried[-2]  # of the second batch's passes, none of which tries what failed
    assert tried[-1 - 512 // size :] == [size] * (512 // size) + [3]
    assert size < 512
    assert same == "True 1029"


def test_memory_that_runs_out_in_the_optimizers_own_step_is_not_tried_again(
    leaves: Path, tiny_config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = open_session(tiny_config(), leaves)
    batch = next(session.train_loader.epoch(1))
    tried: list[int] = []

    def step(*_: object) -> None:
        tried.append(1)
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(session.optimizer, "step", step)
    with pytest.raises(TrainerError, match="memory does not hold AdamW's state"):
        train_step(session, batch, say=lambda _: None)
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
    model.lay_out_for("cpu")
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
    with pytest.raises(ZeroDivisionError), no_trace(model):
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
    session = open_session(tiny_config(ema_decay=0.9), leaves)
    session.model.train()
    train_step(session, next(iter(session.train_loader.epoch(1))), say=print)
    assert session.ema
    session.ema.update()
    before, averages = bits(session.model), session.ema.state_dict()["average"]
    moments = {id(one): state["exp_avg"].clone() for one, state in session.optimizer.state.items()}
    lay_out(session, ["contiguous", "contiguous"])
    assert_equal_bits(bits(session.model), before)
    for one, state in session.optimizer.state.items():
        assert state["exp_avg"].stride() == state["exp_avg_sq"].stride() == one.stride()
        assert torch.equal(state["exp_avg"], moments[id(one)])
    after = session.ema.state_dict()["average"]
    assert isinstance(averages, dict)
    assert isinstance(after, dict)
    assert_equal_bits(after, averages)
    for name, one in session.model.named_parameters():
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
    session = open_session(tiny_config(), leaves)
    before, random = bits(session.model), torch.get_rng_state()
    said = tuned(session)
    assert [line.split()[:3] for line in said[:2]] == [
        ["memory", "format:", "test_efficientnet"],
        ["memory", "format:", "test_resnet"],
    ]
    assert said[0].count("images/s") == 2
    assert said[2].startswith("batch: 8, 8 at once (found in ")
    assert said[3].startswith("not compiled: it would take some 33 s for each of 1 size(s) of a batch, ")
    assert session.tuned is not None
    assert session.tuned.memory_formats == tuple(session.model.format_names())
    assert (session.tuned.gpu, session.tuned.micro_batch, session.tuned.compiled_sizes) == (None, 8, ())
    assert_equal_bits(bits(session.model), before)
    assert torch.equal(torch.get_rng_state(), random)


def test_a_run_that_is_resumed_on_its_gpu_goes_on_with_what_it_found_and_measures_anew_on_another(
    leaves: Path, tiny_config: Config
) -> None:
    session = open_session(tiny_config(), leaves)
    found = Tuned(None, ("contiguous", "channels_last"), 4, (), compile_s=60.0)
    session.tuned = found
    assert tuned(session) == [
        "memory formats as before: contiguous, channels last",
        "batch: 8, 4 at once, as before",
        "not compiled, as before",
    ]
    assert session.tuned == found
    assert session.model.format_names() == ["contiguous", "channels_last"]
    session = open_session(tiny_config(), leaves)
    session.tuned = replace(found, gpu="another")
    assert len(tuned(session)) == 4
    assert (session.tuned.gpu, session.tuned.micro_batch, session.tuned.compile_s) == (None, 8, 60.0)


def test_what_the_config_says_is_not_measured(leaves: Path, tiny_config: Config) -> None:
    session = open_session(tiny_config(memory_format="contiguous", micro_batch=4, compile=False), leaves)
    assert tuned(session) == []
    assert session.model.format_names() == ["contiguous"] * 2
    assert session.tuned == Tuned(None)


def test_a_stop_ends_the_measuring_between_two_parts(leaves: Path, tiny_config: Config) -> None:
    session = open_session(tiny_config(), leaves)
    said: list[str] = []
    with pytest.raises(StoppedEarly):
        tune(session, stop=StopsAfter(0), say=said.append, measures=True)
    assert [line.split(":")[0] for line in said] == ["memory format"] * 2
    assert session.tuned is None
    tune(session, stop=StopsAfter(3), say=said.append, measures=True)
    assert session.tuned is not None  # all was done: the first step stops, and its checkpoint keeps it


def test_on_a_cpu_nothing_is_measured_and_the_checkpoint_says_so(
    leaves: Path, tmp_path: Path, tiny_config: Config
) -> None:
    with (tmp_path / "said.txt").open("w") as said:
        train(tiny_config(epochs=1), data=leaves, out=tmp_path, stop=StopFlag(), progress=Progress(stream=said))
    assert "memory format" not in (tmp_path / "said.txt").read_text()
    state = checkpoint.load(tmp_path / "checkpoints" / "last.pt")
    assert Tuned.from_plain(state["tuned"]) == Tuned(None)


def test_a_run_goes_on_to_equal_bits_with_what_it_measured(
    leaves: Path, tmp_path: Path, tiny_config: Config, train_quietly: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trainer.training.engine.tune", partial(tune, measures=True))
    with pytest.raises(StoppedEarly):
        train_quietly(tiny_config(), leaves, tmp_path / "one", StopsAfter(9))
    shutil.copytree(tmp_path / "one", tmp_path / "other")
    found = Tuned.from_plain(checkpoint.load(tmp_path / "one" / "checkpoints" / "last.pt")["tuned"])
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
    del state["tuned"], state["config"]["memory_format"], state["config"]["compile"]
    checkpoint.save(state, last)
    train_quietly(tiny_config(), leaves, tmp_path / "old")
    assert_same_run(tmp_path / "old", tmp_path / "whole")


def test_only_epochs_at_full_size_are_left_to_gain_from_compiling(leaves: Path, tiny_config: Config) -> None:
    session = open_session(tiny_config(image_size=64, start_image_size=32, epochs=4), leaves)
    assert session.steps_per_epoch == 4
    assert full_size_epochs(session, epoch=1, step=1) == 2
    assert full_size_epochs(session, epoch=4, step=1) == 0.75


# Two processes measure, and take a step; each prints what it chose, what its gradients' buffers look like, its weights.
TUNES_TOGETHER = """
import hashlib, os, socket, sys
from pathlib import Path
import torch
from tests.trainer.conftest import TINY
from trainer.autotune import compiling
from cloudrun.recipe.train_config import TrainConfig
from trainer.session.device import choose_device
from trainer.distributed.ranks import Ranks
from trainer.session.build import open_session
from trainer.session.step import train_step
from trainer.distributed.stop import StopFlag
from trainer.autotune.tuning import tune
held = socket.socket()  # to the end: nobody else is given its port
held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
held.bind(("127.0.0.1", 0))
os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(held.getsockname()[1]), WORLD_SIZE="2")
children = []
for rank in range(2):
    children.append(os.fork())
    if children[-1] == 0:
        break
else:
    sys.exit(max(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children))
os.environ["RANK"] = str(rank)
config = TrainConfig.model_validate(TINY | {"batch_size": 11, "compile": sys.argv[2]})
ranks, compiling.BACKEND, compiling.STANCE = Ranks(rank, 2, rank, 2), "aot_eager", "fail_on_recompile"
ranks.join(choose_device(config, ranks=ranks).torch_device, StopFlag(ranks))
session = open_session(config, Path(sys.argv[1]), ranks=ranks)
tune(session, stop=StopFlag(ranks), say=lambda line: None, measures=True)
buckets = session.gradients._buckets
fits = all(one.stride() == view.stride() for part in buckets for one, view in zip(part.parameters, part._views))
session.model.train()
for batch in session.train_loader.epoch(1):
    train_step(session, batch, say=print, images=11)
weights = b"".join(value.contiguous().numpy().tobytes() for value in session.model.state_dict().values())
found = session.tuned.memory_formats, session.micro_batch, fits, session.model.compiled is not None
os.write(1, f"{found} {hashlib.sha256(weights).hexdigest()}\\n".encode())  # at once, whole
ranks.leave()
os._exit(0)
"""


@pytest.mark.parametrize("wish", ["auto", pytest.param("on", marks=pytest.mark.slow)])
def test_processes_that_train_together_measure_and_agree(leaves: Path, wish: str) -> None:
    one, other = run_python(TUNES_TOGETHER, leaves, Path(wish)).splitlines()
    assert one == other
    assert f", 6, True, {wish == 'on'}) " in one  # of 11 images, in one part


def test_processes_are_as_fast_as_the_slowest_and_take_what_works_in_each() -> None:
    fast, slow = {"contiguous": 500.0, "channels_last": 600.0}, {"contiguous": 300.0, "channels_last": 200.0}
    assert slowest([fast, slow]) == slow
    assert slowest([fast, {"contiguous": 10.0}]) == {"contiguous": 10.0}
