"""Images from which something is taken away: what it is replaced by, and where."""

import math

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor
from torch.nn.functional import conv2d, pad

BLUR = 1 / 12
"""Standard deviation of the blur, as a share of the image's longer side."""
SQUARES = (1 / 8, 1 / 2)
"""Sides of the squares that are taken away, as shares of the image's shorter side."""

Image = Float[Tensor, "3 rows columns"]


def image_seed(seed: int, place: int) -> int:
    """Return the seed of what is drawn for one image, whatever others are drawn for."""
    return int(np.random.SeedSequence([seed, place]).generate_state(1, np.uint64)[0] >> 1)


def blurred(image: Image) -> Image:
    """Return the image without its details, by a Gaussian; its border is repeated outside."""
    deviation = BLUR * max(image.shape[1:])
    reach = math.ceil(3 * deviation)
    offsets = torch.arange(-reach, reach + 1, dtype=image.dtype, device=image.device)
    weights = torch.exp(-(offsets**2) / (2 * deviation**2))
    weights = weights / weights.sum()
    padded = pad(image[:, None], (reach,) * 4, mode="replicate")
    rows_done = conv2d(padded, weights[None, None, :, None])
    return conv2d(rows_done, weights[None, None, None])[:, 0]


def mean_colour(image: Image) -> Image:
    """Return the image's mean colour, at every pixel."""
    return image.mean((1, 2), keepdim=True).expand_as(image)


def pixel_ranks(
    maps: Float[Tensor, "*map rows columns"], seed: int
) -> Int64[Tensor, "*map rows columns"]:
    """Return the place of each pixel when the highest values come first, from 0.

    Pixels of one value are in random order, so that a constant map is a random order and not one
    from the top left.

    Args:
        maps: Values.
        seed: Of the order of equals, one for all the maps.
    """
    flat = maps.flatten(-2)
    generator = torch.Generator().manual_seed(seed)
    shuffle = torch.randperm(flat.shape[-1], generator=generator).to(flat.device)
    order = shuffle[(-flat[..., shuffle]).argsort(dim=-1, stable=True)]
    places = torch.arange(flat.shape[-1], device=flat.device).expand_as(order)
    return torch.empty_like(order).scatter_(-1, order, places).reshape(maps.shape)


def random_squares(
    count: int, size: tuple[int, int], seed: int
) -> Bool[np.ndarray, "square rows columns"]:
    """Return squares of random sides at random places, wholly inside, true where they are.

    Args:
        count: Number of squares.
        size: Rows and columns of the image.
        seed: Of sides and places.
    """
    random = np.random.default_rng(seed)
    shorter = min(size)
    least, most = (max(1, round(share * shorter)) for share in SQUARES)
    squares = np.zeros((count, *size), bool)
    for square in squares:
        side = int(random.integers(least, most + 1))
        top, left = (int(random.integers(0, length - side + 1)) for length in size)
        square[top : top + side, left : left + side] = True
    return squares
