"""How much of a map lies where it should, over what a map without any idea would have there."""

import numpy as np
from jaxtyping import Float, UInt8

from maskatlas.data import UNKNOWN


def energy_ratios(
    maps: Float[np.ndarray, "pair height width"],
    regions: UInt8[np.ndarray, "pair height width"],
) -> Float[np.ndarray, " pair"]:
    """Return the share of a map's positive part inside the region over the region's share of area.

    Both among the pixels of which something is known; the share itself is the energy-based pointing
    game of Wang et al. 2020. 1 is what a uniform map has. A map that is nowhere positive has 0: it
    shows nothing, and saying nothing must not be a way to a better mean.

    Args:
        maps: One for each pair of an image and an attribute.
        regions: 1 inside, 0 outside, 255 unknown; each with a pixel inside.
    """
    known, inside = regions != UNKNOWN, regions == 1
    positive = np.where(known, np.maximum(maps, 0.0), 0.0).astype(np.float64)
    total, within = positive.sum((1, 2)), (positive * inside).sum((1, 2))
    uniform = inside.sum((1, 2)) / known.sum((1, 2))
    share = np.divide(within, total, out=np.zeros(len(maps)), where=total > 0)
    ratios: Float[np.ndarray, " pair"] = share / uniform
    return ratios
