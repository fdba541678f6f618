"""Slow twins of maskatlas.evaluation.perturbations, pixel by pixel."""

import math

import numpy as np


def blurred(image: np.ndarray, deviation: float) -> np.ndarray:
    """Gaussian weights of all pixels within 3 deviations each way; the border goes on outside."""
    reach = math.ceil(3 * deviation)
    offsets = range(-reach, reach + 1)
    result = np.zeros_like(image)
    _, rows, columns = image.shape
    for y in range(rows):
        for x in range(columns):
            total = 0.0
            for i in offsets:
                for j in offsets:
                    weight = math.exp(-(i * i + j * j) / (2 * deviation**2))
                    place = min(max(y + i, 0), rows - 1), min(max(x + j, 0), columns - 1)
                    result[:, y, x] += weight * image[(slice(None), *place)]
                    total += weight
            result[:, y, x] /= total
    return result


def mean_colour(image: np.ndarray) -> np.ndarray:
    result = np.empty_like(image)
    for colour, values in enumerate(image):
        result[colour] = math.fsum(values.flat) / values.size
    return result
