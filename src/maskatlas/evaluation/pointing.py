"""The pointing game: does the highest point of a map lie where it should."""

import numpy as np
from jaxtyping import Float, UInt8
from scipy.ndimage import distance_transform_edt

from maskatlas.data import UNKNOWN

TOLERANCE = 15 / 178
"""Of the image's side: 15 pixels in an image of CelebA, 178 pixels wide."""


def distances(
    regions: UInt8[np.ndarray, "pair height width"],
) -> Float[np.ndarray, "pair height width"]:
    """Return how far each pixel is from the nearest one inside the region, between centres."""
    return np.stack([distance_transform_edt(region != 1) for region in regions])


def pointing_hits(
    maps: Float[np.ndarray, "pair height width"],
    regions: UInt8[np.ndarray, "pair height width"],
    away: Float[np.ndarray, "pair height width"],
    tolerance: float,
) -> Float[np.ndarray, " pair"]:
    """Return 1 for a hit and 0 for a miss (Zhang et al. 2018, with a tolerance).

    The highest point of the map, the first of several, hits if it lies within the tolerance of the
    region. A map without a highest point, constant as it is, misses.

    Args:
        maps: One for each pair of an image and an attribute.
        regions: 1 inside, 0 outside, 255 unknown; each with a pixel inside.
        away: Of the regions, as :func:`distances` gives them.
        tolerance: In pixels.

    Returns:
        NaN where the point misses on a pixel of which nothing is known.
    """
    flat = maps.reshape(len(maps), -1)
    pairs, points = np.arange(len(maps)), flat.argmax(1)
    hits = away.reshape(flat.shape)[pairs, points] <= tolerance
    unknown = regions.reshape(flat.shape)[pairs, points] == UNKNOWN
    constant = flat.max(1) == flat.min(1)
    return np.where(constant, 0.0, np.where(hits, 1.0, np.where(unknown, np.nan, 0.0)))


def points_into(
    values: Float[np.ndarray, "height width"],
    region: UInt8[np.ndarray, "height width"],
    tolerance: float,
) -> bool | None:
    """Return whether the highest point of one map lies within the tolerance of the region.

    Args:
        values: The map.
        region: 1 inside, 0 outside, 255 unknown.
        tolerance: In pixels, between centres.

    Returns:
        None if that cannot be said: no pixel is known to be inside, or the point misses on a pixel
        of which nothing is known.
    """
    if not (region == 1).any():
        return None
    regions = region[None]
    (hit,) = pointing_hits(values[None], regions, distances(regions), tolerance).tolist()
    return None if np.isnan(hit) else hit == 1
