"""Slow twins of maskatlas.evaluation.localization, pixel by pixel."""

import math

import numpy as np

from maskatlas.data import AttributeDataset
from maskatlas.model import AttributeNetwork
from reference import explanations


def points_into(values: np.ndarray, region: np.ndarray, tolerance: float) -> bool | None:
    best, point = -math.inf, (0, 0)
    for place, value in np.ndenumerate(values):
        if value > best:
            best, point = value, place
    inside = [place for place, value in np.ndenumerate(region) if value == 1]
    if not inside:
        return None
    if all(value == best for value in values.flat):
        return False
    if min(math.dist(point, place) for place in inside) <= tolerance:
        return True
    return None if region[point] == 255 else False


def centre_square(region: np.ndarray, size: int) -> np.ndarray:
    """The pixel nearest to the middle of each cell of the centre square."""
    side = min(region.shape)
    top, left = ((length - side) // 2 for length in region.shape)
    result = np.empty((size, size), region.dtype)
    for row in range(size):
        for column in range(size):
            y, x = (math.floor((place + 0.5) * side / size) for place in (row, column))
            result[row, column] = region[top + y, left + x]
    return result


def pointing_game(
    network: AttributeNetwork, data: AttributeDataset, method: str, tolerance: float
) -> tuple[list[int], list[int]]:
    """Hits and images of each of the network's attributes."""
    hits, images = [0] * len(network.attributes), [0] * len(network.attributes)
    size = network.config.image_size
    for index in range(len(data)):
        regions = data.regions(index)
        if regions is None:
            continue
        image = network.preprocess(data.read(index)).double()
        for k, name in enumerate(network.attributes):
            if name not in data.attributes:
                continue
            column = data.attributes.index(name)
            if data.labels[index, column] != 1:
                continue
            small = getattr(explanations, f"{method}_map")(network, image, k)
            values = explanations.resize(small, size, size).astype(np.float32)
            region = centre_square(regions[column].numpy(), size)
            outcome = points_into(values, region, tolerance)
            if outcome is not None:
                hits[k] += outcome
                images[k] += 1
    return hits, images
