"""Small networks whose every number is random, and datasets in memory for them to look at."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image

from maskatlas.config import ModelConfig
from maskatlas.data import AttributeDataset
from maskatlas.model import AttributeNetwork, build_network

NAMES = ("Smiling", "Male", "Wearing_Hat", "Eyeglasses", "Young")


def make_network(
    attributes: int | Sequence[str] = 3,
    *,
    channels: int = 6,
    image_size: int = 32,
    seed: int = 0,
    dtype: torch.dtype = torch.float64,
    **parts: Any,
) -> AttributeNetwork:
    """A network in eval mode; nothing in it is 0 or 1, so that nothing can be left out unnoticed.

    Args:
        attributes: Names, or how many of `NAMES`.
        channels: C.
        image_size: Side of what it is made for.
        seed: Of all weights.
        dtype: Of all weights.
        parts: Further fields of the configuration.
    """
    names = NAMES[:attributes] if isinstance(attributes, int) else tuple(attributes)
    settings = {"depth": 1, **parts}
    torch.manual_seed(seed)
    network = build_network(
        ModelConfig(channels=channels, image_size=image_size, **settings), names
    ).to(dtype)
    with torch.no_grad():
        for name, tensor in network.state_dict().items():
            if name.endswith("running_var"):
                tensor.uniform_(0.5, 1.5)
            elif tensor.is_floating_point() and tensor.ndim < 3:
                tensor.add_(0.3 * torch.randn_like(tensor))
    contribution, image = network.average_shapes()
    network.average_contribution = 0.1 * torch.randn(contribution, dtype=dtype)
    network.average_image = torch.rand(image, dtype=dtype)
    return network.eval()


def draw_images(
    batch: int, size: int | tuple[int, int] = 32, *, seed: int = 0, dtype: Any = torch.float64
) -> torch.Tensor:
    """Images [batch 3 rows columns] of noise, 0 to 1."""
    rows, columns = (size, size) if isinstance(size, int) else size
    generator = torch.Generator().manual_seed(seed)
    return torch.rand((batch, 3, rows, columns), generator=generator, dtype=dtype)


class Pictures:
    """An image store in memory."""

    def __init__(self, pixels: np.ndarray) -> None:
        self.pixels = pixels

    def image(self, index: int) -> Image.Image:
        return Image.fromarray(self.pixels[index])

    def content(self, index: int) -> bytes:
        return self.pixels[index].tobytes()

    def key(self, index: int) -> bytes:
        return self.content(index)


class Regions:
    """A region store in memory; None for an image of which nothing is known."""

    def __init__(self, regions: Sequence[np.ndarray | None]) -> None:
        self.known = regions

    def regions(self, index: int) -> np.ndarray | None:
        return self.known[index]

    def select(self, attributes: Sequence[int]) -> "Regions":
        return Regions([None if r is None else r[list(attributes)] for r in self.known])


def make_dataset(
    labels: np.ndarray | Sequence[Sequence[float]] | int = 7,
    attributes: int | Sequence[str] = 3,
    *,
    size: tuple[int, int] = (40, 36),
    seed: int = 0,
    regions: Sequence[np.ndarray | None] | None = None,
    split: str | None = "val",
) -> AttributeDataset:
    """Images of smooth noise, some of whose labels are unknown.

    Args:
        labels: 0, 1 or NaN for each image and attribute; random for a number of images.
        attributes: Names, or how many of `NAMES`.
        size: Rows and columns of the images.
        seed: Of pictures and labels.
        regions: Of each image, or None if this data has none.
        split: That all are in.
    """
    random = np.random.default_rng(seed)
    names = NAMES[:attributes] if isinstance(attributes, int) else tuple(attributes)
    if isinstance(labels, int):
        labels = random.choice([0.0, 1.0, np.nan], (labels, len(names)), p=[0.4, 0.4, 0.2])
    labels = np.asarray(labels, np.float32).reshape(-1, len(names))
    coarse = random.integers(0, 256, (len(labels), 5, 5, 3), dtype=np.uint8)
    pixels = [
        np.array(Image.fromarray(image).resize(size[::-1], Image.Resampling.BICUBIC))
        for image in coarse
    ]
    return AttributeDataset(
        attributes=names,
        labels=torch.from_numpy(labels),
        names=tuple(f"{number:03d}.png" for number in range(len(labels))),
        splits=(split or "train",) * len(labels),
        images=Pictures(np.array(pixels)),
        source=f"memory-{seed}",
        regions_of=None if regions is None else Regions(regions),
        split=split,
    )
