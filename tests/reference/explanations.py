"""Slow twins of maskatlas.explanations: maps summed up one channel and position at a time."""

import hashlib
import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from maskatlas.model import AttributeNetwork
from reference import model as slow
from reference.differences import traced_contribution_map


def contribution_map(network: AttributeNetwork, image: Tensor, attribute: int) -> np.ndarray:
    """What each position adds to the logit, over all channels, [height width]."""
    features = slow.features(network, image[None])
    if network.subnetworks is None:
        weights = network.classifier.weight[attribute]
        total = sum(weight * f for weight, f in zip(weights, features[0], strict=True))
        return (total / total.numel()).detach().numpy()
    shares = slow.contributions(network.subnetworks, features, attribute)[0].detach().numpy()
    total = np.zeros(shares.shape[1:])
    for channel in shares:
        total += channel
    return total


def centred_contribution_map(
    network: AttributeNetwork, image: Tensor, attribute: int
) -> np.ndarray:
    """The contribution less the average one, each position shared with its neighbours."""
    contribution = contribution_map(network, image, attribute)
    average = network.average_contribution[attribute].numpy()
    average = resize(average * average.size / contribution.size, *contribution.shape)
    rows, columns = contribution.shape
    shared = np.zeros((rows, columns))
    for row in range(rows):
        for column in range(columns):
            for down, weight in ((-1, 1), (0, 2), (1, 1)):
                for right, times in ((-1, 1), (0, 2), (1, 1)):
                    y = min(max(row + down, 0), rows - 1)
                    x = min(max(column + right, 0), columns - 1)
                    difference = contribution[y, x] - average[y, x]
                    shared[row, column] += weight * times / 16 * difference
    return shared


def mask_map(network: AttributeNetwork, image: Tensor, attribute: int) -> np.ndarray:
    """The masks' mean over channels, [height width]."""
    features = slow.features(network, image[None])
    masks = slow.masks(network.subnetworks, features, attribute)[0].detach().numpy()
    total = np.zeros(masks.shape[1:])
    for channel in masks:
        total += channel / len(masks)
    return total


def flat_mask_map(network: AttributeNetwork, image: Tensor, attribute: int) -> np.ndarray:
    """The contribution with each mask replaced by its mean over positions."""
    features = slow.features(network, image[None])
    masks = slow.masks(network.subnetworks, features, attribute)[0]
    total = torch.zeros_like(masks[0])
    for mask, f, weight in zip(
        masks, features[0], network.subnetworks.weight[attribute], strict=True
    ):
        total = total + weight * (network.subnetworks.offset + mask.mean()) * f / f.numel()
    return total.detach().numpy()


def logit(network: AttributeNetwork, features: Tensor, attribute: int) -> Tensor:
    """What the head that answers says of one image, differentiable."""
    if network.subnetworks is None:
        return slow.multilabel_logits(network.classifier, features)[0, attribute]
    return slow.logit(network.subnetworks, features, attribute)[0]


def feature_gradient(network: AttributeNetwork, image: Tensor, attribute: int) -> tuple:
    """Features, and d logit / d f by autograd, both [channel height width]."""
    features = slow.features(network, image[None]).detach().requires_grad_()
    (gradient,) = torch.autograd.grad(logit(network, features, attribute), features)
    return features[0].detach().numpy(), gradient[0].numpy()


def grad_cam_map(network: AttributeNetwork, image: Tensor, attribute: int) -> np.ndarray:
    features, gradient = feature_gradient(network, image, attribute)
    total = np.zeros(features.shape[1:])
    for f, slope in zip(features, gradient, strict=True):
        total += slope.mean() * f
    return np.maximum(total, 0)


def hires_cam_map(network: AttributeNetwork, image: Tensor, attribute: int) -> np.ndarray:
    features, gradient = feature_gradient(network, image, attribute)
    total = np.zeros(features.shape[1:])
    for f, slope in zip(features, gradient, strict=True):
        total += slope * f
    return total


def image_gradient(network: AttributeNetwork, image: Tensor, attribute: int) -> Tensor:
    pixels = image.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(
        logit(network, slow.features(network, pixels[None]), attribute), pixels
    )
    return gradient


def gradient_x_input_map(network: AttributeNetwork, image: Tensor, attribute: int) -> np.ndarray:
    gradient = image_gradient(network, image, attribute)
    return sum(g * (x - 0.5) for g, x in zip(gradient, image, strict=True)).numpy()


def integrated_gradients_map(
    network: AttributeNetwork, image: Tensor, attribute: int, steps: int = 32
) -> np.ndarray:
    total = torch.zeros_like(image)
    for step in range(steps):
        share = (2 * step + 1) / (2 * steps)
        total += image_gradient(network, (1 - share) * 0.5 + share * image, attribute)
    return sum(g * (x - 0.5) for g, x in zip(total / steps, image, strict=True)).numpy()


def random_map(network: AttributeNetwork, image: Tensor, attribute: int) -> np.ndarray:
    pixels = bytes(round(255 * float(x)) for x in image.flatten())
    key = hashlib.blake2b(pixels, digest_size=16).digest()
    text = f"0 {network.attributes[attribute]}".encode()
    seed = hashlib.blake2b(text, key=key, digest_size=16).digest()
    random = np.random.default_rng(int.from_bytes(seed, "little"))
    return random.random((16, 16), np.float32)


def centre_map(network: AttributeNetwork, image: Tensor, attribute: int) -> np.ndarray:
    rows, columns = image.shape[1:]
    blob = np.zeros((rows, columns))
    for row in range(rows):
        for column in range(columns):
            y, x = (row + 0.5) / rows - 0.5, (column + 0.5) / columns - 0.5
            blob[row, column] = math.exp(-(y * y + x * x) / (2 * 0.25 * 0.25))
    return blob


METHODS: dict[str, Callable[[AttributeNetwork, Tensor, int], np.ndarray]] = {
    "contribution": contribution_map,
    "contribution-centred": centred_contribution_map,
    "contribution-traced": traced_contribution_map,
    "mask": mask_map,
    "contribution-flat-masks": flat_mask_map,
    "grad-cam": grad_cam_map,
    "hires-cam": hires_cam_map,
    "gradient-x-input": gradient_x_input_map,
    "integrated-gradients": integrated_gradients_map,
    "random": random_map,
    "centre": centre_map,
}


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
