"""Fork children that put images into a cache, kill each when it has put one more than the one before.

After each kill every image of the cache is absent or as it was put. Prints how many different numbers were kept.
"""

import os
import signal
import sys
from pathlib import Path

import numpy as np

from trainer.data.cache import PixelCache
from trainer.data.pixels import Pixels

COUNT = 40


def main(folder: Path) -> None:
    paths = [folder / f"{index}.jpg" for index in range(COUNT)]
    for path in paths:
        path.touch()
    images = [np.full((3, 200, 200), index + 1, np.uint8) for index in range(COUNT)]

    def cache() -> PixelCache:
        return PixelCache(folder, paths, recipe="r", side=200, limit_bytes=10**9)

    counts = set()
    for kill in range(30):
        cache().remove()
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            put_all(cache(), images, writing)
        os.close(writing)
        with os.fdopen(reading, "rb") as put:
            put.read(kill)
            os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        held = cache()
        kept = [held.get(index) for index in range(COUNT)]
        assert all(pixels is None or (pixels.values == images[index]).all() for index, pixels in enumerate(kept))
        counts.add(sum(pixels is not None for pixels in kept))
    print(len(counts))


def put_all(cache: PixelCache, images: list[np.ndarray], writing: int) -> None:
    for index, image in enumerate(images):
        cache.put(index, Pixels(image, 1, 1))
        os.write(writing, b".")
    signal.pause()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
