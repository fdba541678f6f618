"""Slow twins of maskatlas.dissection, pixel by pixel."""

import math

import numpy as np
import torch

from maskatlas.data import AttributeDataset
from maskatlas.model import AttributeNetwork
from reference.localization import centre_square


def upsampled(values: np.ndarray, size: int) -> np.ndarray:
    """Bilinear, pixel centres on pixel centres, borders repeated."""
    height, width = values.shape
    result = np.empty((size, size))
    for row in range(size):
        for column in range(size):
            y = min(max((row + 0.5) * height / size - 0.5, 0), height - 1)
            x = min(max((column + 0.5) * width / size - 0.5, 0), width - 1)
            top, left = min(math.floor(y), height - 1), min(math.floor(x), width - 1)
            low, right = min(top + 1, height - 1), min(left + 1, width - 1)
            above = values[top, left] * (1 - (x - left)) + values[top, right] * (x - left)
            below = values[low, left] * (1 - (x - left)) + values[low, right] * (x - left)
            result[row, column] = above * (1 - (y - top)) + below * (y - top)
    return result


def features_of(network: AttributeNetwork, data: AttributeDataset) -> dict[int, np.ndarray]:
    """Features [C h w] of each image that has regions."""
    found = {}
    for index in range(len(data)):
        if data.regions(index) is not None:
            image = network.preprocess(data.read(index)).to(torch.float64)
            with torch.no_grad():
                found[index] = network(image[None]).features[0].float().numpy()
    return found


def quantile(values: list[float], share: float) -> float:
    """By linear interpolation between the two values around it."""
    ordered = sorted(values)
    place = share * (len(ordered) - 1)
    below = math.floor(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (place - below)


def iou(
    features: dict[int, np.ndarray],
    channel: int,
    threshold: float,
    shown: dict[int, np.ndarray],
    size: int,
) -> float:
    """Of a channel and a concept, given as 1, 0 and 255 (unknown) for each image."""
    both = either = 0
    for index, values in features.items():
        active = upsampled(values[channel], size) > threshold
        for place, value in np.ndenumerate(shown[index]):
            if value != 255:
                both += bool(active[place]) and value == 1
                either += bool(active[place]) or value == 1
    return both / either if either else 0.0


def shown_attribute(
    network: AttributeNetwork, data: AttributeDataset, index: int, attribute: int
) -> np.ndarray:
    """The region of an attribute where the image has it; nowhere, or unknown."""
    regions = data.regions(index)
    assert regions is not None
    region = centre_square(regions[attribute].numpy(), network.preprocessing.size)
    label = float(data.labels[index, attribute])
    if math.isnan(label):
        return np.full_like(region, 255)
    return np.where(region == 255, 255, region * (label == 1)).astype(np.uint8)
