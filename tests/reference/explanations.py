"""Slow twins of maskatlas.explanations: maps summed up one channel and position at a time."""

import math

import numpy as np
import torch
from torch import Tensor

from maskatlas.model import AttributeNetwork
from reference import model as slow


def contribution_map(network: AttributeNetwork, image: Tensor, attribute: int) -> np.ndarray:
    """What each position adds to the logit, over all channels, [height width]."""
    features = slow.features(network, image[None])
    shares = slow.contributions(network.subnetworks, features, attribute)[0].detach().numpy()
    total = np.zeros(shares.shape[1:])
    for channel in shares:
        total += channel
    return total


def mask_map(network: AttributeNetwork, image: Tensor, attribute: int) -> np.ndarray:
    """The masks' mean over channels, [height width]."""
    features = slow.features(network, image[None])
    masks = slow.masks(network.subnetworks, features, attribute)[0].detach().numpy()
    total = np.zeros(masks.shape[1:])
    for channel in masks:
        total += channel / len(masks)
    return total


def resize(values: np.ndarray, rows: int, columns: int) -> np.ndarray:
    """Bilinear, between the centres of cells; what lies outside of them repeats the border."""
    result = np.zeros((rows, columns))
    for row in range(rows):
        for column in range(columns):
            y = (row + 0.5) * values.shape[0] / rows - 0.5
            x = (column + 0.5) * values.shape[1] / columns - 0.5
            for i in (math.floor(y), math.floor(y) + 1):
                for j in (math.floor(x), math.floor(x) + 1):
                    weight = (1 - abs(y - i)) * (1 - abs(x - j))
                    inside = (
                        min(max(i, 0), values.shape[0] - 1),
                        min(max(j, 0), values.shape[1] - 1),
                    )
                    result[row, column] += weight * values[inside]
    return result


def strongest(network: AttributeNetwork, image: Tensor, attribute: int) -> list[tuple[int, float]]:
    """Channels and what they add to the logit, the largest amounts first."""
    with torch.no_grad():
        features = slow.features(network, image[None])
        shares = slow.contributions(network.subnetworks, features, attribute)[0]
    sums = [(channel, float(share.sum())) for channel, share in enumerate(shares)]
    return sorted(sums, key=lambda pair: -abs(pair[1]))
