"""Slow twins of maskatlas.evaluation.channel_removal: channels go inside of the running network."""

import math

import numpy as np
import torch
from torch import Tensor, nn

from maskatlas.model import AttributeNetwork
from reference import model


def remaining(
    network: AttributeNetwork, images: list[Tensor], attribute: int, gone: list[int]
) -> list[float]:
    """Logits of an attribute when these channels are their means, over images and positions."""
    with torch.no_grad():
        features = [network(image[None]).features[0] for image in images]
    means = {}
    for channel in gone:
        numbers = [value for values in features for value in values[channel].flatten().tolist()]
        means[channel] = math.fsum(numbers) / len(numbers)

    def replace(_module: nn.Module, _inputs: tuple[Tensor, ...], maps: Tensor) -> Tensor:
        for channel, mean in means.items():
            maps[:, channel] = mean
        return maps

    hook = network.extractor.register_forward_hook(replace)
    with torch.no_grad():
        logits = [float(network(image[None]).logits[0, attribute]) for image in images]
    hook.remove()
    return logits


def readings(network: AttributeNetwork, images: list[Tensor]) -> dict[str, np.ndarray]:
    """Mean mask, and mean absolute contribution, of each attribute and channel."""
    parts = network.subnetworks
    found = {name: np.zeros(parts.weight.shape) for name in ("mask", "contribution")}
    with torch.no_grad():
        for image in images:
            features = model.features(network, image[None])
            for k in range(len(network.attributes)):
                masks = model.masks(parts, features, k)[0]
                shares = model.contributions(parts, features, k)[0]
                for c in range(network.channels):
                    found["mask"][k, c] += float(masks[c].mean()) / len(images)
                    added = abs(float(shares[c].sum()))
                    found["contribution"][k, c] += added / len(images)
    return found
