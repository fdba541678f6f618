"""Datasets that cost nothing to have: noise, and few images that stand for many."""

import numpy as np
import torch
from PIL import Image

from maskatlas.data import AttributeDataset


class Noise:
    """An image store of random pixels, each image a function of the seed and its index."""

    def __init__(self, size: int, seed: int) -> None:
        self.size = size
        self.seed = seed

    def image(self, index: int) -> Image.Image:
        """Draw one image."""
        random = np.random.default_rng((self.seed, index))
        shape = self.size, self.size, 3
        return Image.fromarray(random.integers(0, 256, shape, dtype=np.uint8))

    def content(self, index: int) -> bytes:
        """The pixels of one image."""
        return self.image(index).tobytes()

    def key(self, index: int) -> bytes:
        """What the pixels are a function of."""
        return repr(("noise", self.size, self.seed, index)).encode()


def noise(count: int, attributes: int, size: int, seed: int) -> AttributeDataset:
    """Return a dataset of noise with labels drawn at random."""
    generator = torch.Generator().manual_seed(seed)
    return AttributeDataset(
        attributes=tuple(f"attribute_{number}" for number in range(attributes)),
        labels=torch.randint(2, (count, attributes), generator=generator).float(),
        names=tuple(f"{number:06d}" for number in range(count)),
        splits=("train",) * count,
        images=Noise(size, seed),
        source="noise",
    )


def repeated(data: AttributeDataset, count: int) -> AttributeDataset:
    """Return so many images of a dataset, from the beginning again when they are used up."""
    return data.subset([place % len(data) for place in range(count)])
