"""The share of each pixel inside a shape, counted over many points of it."""

from collections.abc import Callable

import numpy as np

from maskatlas.sources.faces.canvas import Frame


def counted_coverage(
    shape: Callable[[Frame], np.ndarray], size: int, points: int = 16
) -> np.ndarray:
    """Coverage [size size] of a signed distance over [-1, 1], by `points`² points a pixel."""
    steps = (np.arange(size * points) + 0.5) * 2 / (size * points) - 1
    x, y = np.meshgrid(steps, steps)
    inside = shape(Frame(x, y, 2 / (size * points))) < 0
    return inside.reshape(size, points, size, points).mean((1, 3))
