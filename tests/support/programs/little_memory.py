"""Search, train or evaluate in a process whose memory is limited to so much more than it has in use.

`python -m tests.support.programs.little_memory search|step|evaluate DATA MEGABYTES`. Without oneDNN, which may crash
where memory runs out; torch's own kernels raise.
"""

import ctypes
import resource
import sys
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from cloudrun.recipe.train_config import TrainConfig
from trainer.autotune.batch_fit import MemoryProbe, largest_that_fits
from trainer.data.augment import normalise
from trainer.data.loader import Batch
from trainer.session.build import build_setup
from trainer.session.scores import evaluate
from trainer.session.setup import TrainingSetup
from trainer.session.step import train_step

SIDE = 160
Weights = dict[str, Tensor]


def search(setup: TrainingSetup, before: Weights) -> None:
    """Print what fits, then whether the model is what it was."""
    probe = MemoryProbe(setup, {})
    fits = {}

    def is_fitting(count: int) -> bool:
        fits[count] = probe.fits(count)
        ctypes.CDLL(None).malloc_trim(0)  # what a GPU's allocator is asked for, too
        return fits[count]

    print(largest_that_fits(512, is_fitting), fits[512], is_fitting(8))
    print(all(torch.equal(value, before[key]) for key, value in setup.model.state_dict().items()))


def step(setup: TrainingSetup, before: Weights) -> None:
    """Print how many images were at once in the end, how often that was said, and the share of weights that learned."""
    images = torch.randint(0, 256, (512, 3, SIDE, SIDE), dtype=torch.uint8)
    said: list[str] = []
    setup.micro_batch = 512
    setup.model.train()
    result = train_step(setup, Batch(images, torch.zeros(512, dtype=torch.int64)), say=said.append)
    weights = dict(setup.model.named_parameters())
    learned = [name for name, value in weights.items() if not torch.equal(value, before[name])]
    print(setup.micro_batch, len(said), len(learned) / len(weights), torch.isfinite(result.loss_sum).item())


class Batches:
    """A loader of the given images."""

    def __init__(self, images: list[Tensor]) -> None:
        self._images = images

    def epoch(self, _: int) -> Iterator[Batch]:
        return iter([Batch(images, torch.zeros(len(images), dtype=torch.int64)) for images in self._images])


def evaluate_in_parts(setup: TrainingSetup, _: Weights) -> None:
    """Print the number of images of each pass; then whether the logits are those of few images at once."""
    rng = torch.Generator().manual_seed(0)
    batches = [
        torch.randint(0, 256, (count, 3, SIDE, SIDE), dtype=torch.uint8, generator=rng) for count in (2, 512, 512, 3)
    ]
    counts: list[int] = []
    setup.model.register_forward_pre_hook(lambda _, inputs: counts.append(len(inputs[0])))
    logits = evaluate(setup.model, Batches(batches), setup.device).logits
    print(*counts)
    setup.model.eval()
    with torch.inference_mode():
        few = [setup.model(normalise(part)) for images in batches for part in images.split(4)]
    print(torch.allclose(logits, torch.cat(few), atol=1e-5), len(logits))


ACTS = {"search": search, "step": step, "evaluate": evaluate_in_parts}


def main(act: str, data: Path, megabytes: int) -> None:
    torch.backends.mkldnn.set_flags(False)
    config = TrainConfig(
        backbones="test_vit", pretrained=False, image_size=SIDE, batch_size=512, workers=0, device="cpu"
    )
    setup = build_setup(config, data)
    in_use = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    limit = in_use + megabytes * 2**20
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    before = {key: value.clone() for key, value in setup.model.state_dict().items()}
    ACTS[act](setup, before)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]))
