"""Maps that know nothing of the network: what any explanation must beat."""

import hashlib
from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

Images = Float[Tensor, "batch 3 rows columns"]
Map = Float[Tensor, "batch attribute height width"]

CELLS = 16
"""Positions of a random map along a side, about as many as feature maps have."""
WIDTH = 0.25
"""Standard deviation of the blob in the centre, as a share of the image's sides."""


def random_map(images: Images, attributes: Sequence[str], *, seed: int = 0) -> Map:
    """Return uniform noise, 0 to 1: a function of the seed, the attribute and the image's bytes.

    The same image has the same maps in any batch and any order.
    """
    maps = np.empty((len(images), len(attributes), CELLS, CELLS), np.float32)
    pixels = (images.detach().float() * 255).round().to(torch.uint8).cpu().numpy()
    for place, image in enumerate(pixels):
        content = hashlib.blake2b(image.tobytes(), digest_size=16).digest()
        for row, name in enumerate(attributes):
            text = f"{seed} {name}".encode("utf-8", "surrogatepass")
            key = hashlib.blake2b(text, key=content, digest_size=16).digest()
            random = np.random.default_rng(int.from_bytes(key, "little"))
            maps[place, row] = random.random((CELLS, CELLS), np.float32)
    return torch.from_numpy(maps).to(images.device)


def centre_map(images: Images, attributes: Sequence[str]) -> Map:
    """Return the same Gaussian blob in the middle of every image, 1 at its top."""
    height, width = images.shape[2:]
    down, across = (
        (torch.arange(side, dtype=torch.float32, device=images.device) + 0.5) / side - 0.5
        for side in (height, width)
    )
    blob = torch.exp(-(down[:, None] ** 2 + across**2) / (2 * WIDTH**2))
    return blob.expand(len(images), len(attributes), height, width)
