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


def known_pixels(values: np.ndarray, region: np.ndarray) -> list[tuple[float, int]]:
    pairs = zip(values.astype(float).flat, region.flat, strict=True)
    return [(value, place) for value, place in pairs if place != 255]


def energy_ratio(values: np.ndarray, region: np.ndarray) -> float:
    pixels = known_pixels(values, region)
    total = sum(value for value, _ in pixels if value > 0)
    inside = sum(value for value, place in pixels if value > 0 and place == 1)
    area = sum(place for _, place in pixels) / len(pixels)
    return inside / total / area if total > 0 else 0.0


def attention_iou(values: np.ndarray, region: np.ndarray) -> float:
    pixels = known_pixels(values, region)
    total = sum(max(value, 0) for value, _ in pixels)
    area = sum(place for _, place in pixels)
    together = spread = 0.0
    for value, place in pixels:
        p, q = (max(value, 0) / total if total > 0 else 0), place / area
        together += p * q
        spread += ((p + q) / 2) ** 2
    return together / spread


def iou(values: np.ndarray, region: np.ndarray, level: float) -> float:
    highest = float(values.max())
    marked = [
        (highest > 0 and value / highest >= level, place)
        for value, place in known_pixels(values, region)
    ]
    both = sum(mark and place == 1 for mark, place in marked)
    either = sum(mark or place == 1 for mark, place in marked)
    return both / either


def best_level(tables: list[tuple[int, list[float]]]) -> int:
    """Where the mean over attributes of the means over pairs is highest, of (attribute, IoUs)."""
    attributes = sorted({attribute for attribute, _ in tables})
    means = []
    for level in range(len(tables[0][1])):
        rows = [[ious[level] for k, ious in tables if k == attribute] for attribute in attributes]
        means.append(sum(sum(row) / len(row) for row in rows) / len(rows))
    return means.index(max(means))


def judged(
    network: AttributeNetwork, data: AttributeDataset, method: str
) -> list[tuple[int, int, np.ndarray, np.ndarray]]:
    """Image, attribute, map and region of every pair, one after another."""
    found = []
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
            region = centre_square(regions[column].numpy(), size)
            if data.labels[index, column] != 1 or not (region == 1).any():
                continue
            small = explanations.METHODS[method](network, image, k)
            values = explanations.resize(small, size, size).astype(np.float32)
            found.append((index, k, values, region))
    return found
