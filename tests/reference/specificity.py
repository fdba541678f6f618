"""Slow twins of maskatlas.evaluation.specificity: masks are really exchanged."""

import torch
from torch import Tensor

from maskatlas.model import AttributeNetwork
from reference import model


def exchanged_logit(network: AttributeNetwork, image: Tensor, own: int, other: int) -> float:
    """The logit of one attribute, its masks replaced by those of another."""
    parts = network.subnetworks
    with torch.no_grad():
        features = model.features(network, image[None])
        masks = model.masks(parts, features, other)
        attended = (parts.offset + masks) * features
        logit = parts.bias[own]
        for channel in range(network.channels):
            logit = logit + parts.weight[own, channel] * attended[0, channel].mean()
    return float(logit)
