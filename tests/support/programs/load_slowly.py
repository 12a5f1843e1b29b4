"""Load three batches of two images, each of which takes a second; prints the size of each batch."""

import sys
import time
from pathlib import Path

from PIL import Image
from torch import Tensor

from cloudrun.imagedata.folders import list_dataset
from cloudrun.recipe.inputs import Colouring, Inputs
from trainer.data import loader
from trainer.data.augment import evaluation_transform


def transform(image: Image.Image) -> Tensor:
    time.sleep(0.5)
    pixels: Tensor = evaluation_transform(32, Inputs((Colouring(),)))(image)
    return pixels


def main(data: Path) -> None:
    loader.WAIT_S, loader.WAITS = 1, 4
    files = list(list_dataset(data).splits["train"])[:6]
    slow = loader.Loader(files, transform, batch_size=2, seed=None, workers=1, prefetch=1)
    for batch in slow.epoch(1):
        print(len(batch.labels), flush=True)
    slow.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
