"""Slow twin of maskatlas.interventions: the channel is replaced inside of the running network."""

import math

import numpy as np
import torch
from torch import Tensor, nn

from maskatlas.model import AttributeNetwork
from reference.metrics import auroc


def scores(network: AttributeNetwork, images: list[Tensor]) -> np.ndarray:
    """Logits of the sub-networks, one image at a time."""
    with torch.no_grad():
        return np.stack([network(image[None]).logits[0].numpy() for image in images])


def channel_drop(
    network: AttributeNetwork, images: list[Tensor], labels: np.ndarray, channel: int
) -> list[float]:
    """AUROC of each attribute as it is, less what it is with the channel set to its mean."""
    with torch.no_grad():
        maps = [network(image[None]).features[0, channel] for image in images]
    numbers = [value for values in maps for value in values.flatten().tolist()]
    mean = math.fsum(numbers) / len(numbers)

    def replace(_module: nn.Module, _inputs: tuple[Tensor, ...], features: Tensor) -> Tensor:
        for position in np.ndindex(features.shape[2:]):
            features[(0, channel, *position)] = mean
        return features

    before = scores(network, images)
    hook = network.extractor.register_forward_hook(replace)
    after = scores(network, images)
    hook.remove()
    return [
        auroc(before[:, k].tolist(), labels[:, k].tolist())
        - auroc(after[:, k].tolist(), labels[:, k].tolist())
        for k in range(labels.shape[1])
    ]
