"""Slow twins of maskatlas.model: one attribute at a time, every mask held."""

import torch
from torch import Tensor, nn

from maskatlas.model import AttributeNetwork, Reconstructor
from maskatlas.subnetworks import ContextGuide, LowRankGuide, SubNetworks


def masks(parts: SubNetworks, features: Tensor, attribute: int) -> Tensor:
    """M^k = sigmoid(W^k * g + b^k), [batch channel height width]."""
    weight, bias = parts.mask_weight[attribute], parts.mask_bias[attribute]
    seen = guides(parts, features)
    channels = []
    for c in range(len(weight)):
        z = bias[c]
        for g in range(seen.shape[1]):
            z = z + weight[c, g] * seen[:, g]
        channels.append(1 / (1 + torch.exp(-z)))
    return torch.stack(channels, dim=1)


def guides(parts: SubNetworks, features: Tensor) -> Tensor:
    """Mask features g: f itself, V f, or a 1x1 and two dilated layers, each normalised."""
    if parts.guide is None:
        return features
    if isinstance(parts.guide, LowRankGuide):
        return torch.einsum("rc,bchw->brhw", parts.guide.weight[:, :, 0, 0], features)
    assert isinstance(parts.guide, ContextGuide)
    for convolution, norm, dilation in zip(
        list(parts.guide)[::3], list(parts.guide)[1::3], (0, 2, 4), strict=True
    ):
        side = 2 * dilation + 1  # the dilated kernel written out, zeros between
        kernel = convolution.weight.new_zeros(*convolution.weight.shape[:2], side, side)
        kernel[:, :, :: dilation or 1, :: dilation or 1] = convolution.weight
        z = nn.functional.conv2d(features, kernel, padding=dilation)
        scale = norm.weight / (norm.running_var + norm.eps).sqrt()
        shift = norm.bias - norm.running_mean * scale
        features = (z * scale[:, None, None] + shift[:, None, None]).clamp(min=0)
    return features


def logit(parts: SubNetworks, features: Tensor, attribute: int) -> Tensor:
    """w^k . p^k + c^k where p^k is the mean over positions of (offset + M^k) f, equation (2)."""
    attended = (parts.offset + masks(parts, features, attribute)) * features
    pooled = attended.mean((2, 3))
    return pooled @ parts.weight[attribute] + parts.bias[attribute]


def multilabel_logits(classifier: nn.Linear, features: Tensor) -> Tensor:
    """Equation (4): one linear classifier on each channel's mean."""
    _, channels, height, width = features.shape
    rows = []
    for weight, bias in zip(classifier.weight, classifier.bias, strict=True):
        logit = bias
        for c in range(channels):
            logit = logit + weight[c] * features[:, c].sum((1, 2)) / (height * width)
        rows.append(logit)
    return torch.stack(rows, dim=1)


def reconstruction(part: Reconstructor, features: Tensor) -> Tensor:
    """Two layers, then 16 numbers of each position and colour laid out as 4 x 4 pixels."""
    first, second = (layer for layer in part.layers if isinstance(layer, nn.Conv2d))
    hidden = nn.functional.conv2d(features, first.weight, first.bias, padding=1)
    flat = nn.functional.conv2d(hidden * (hidden > 0), second.weight, second.bias, padding=1)
    batch, _, height, width = features.shape
    image = flat.new_zeros(batch, 3, 4 * height, 4 * width)
    for colour in range(3):
        for i in range(4):
            for j in range(4):
                image[:, colour, i::4, j::4] = flat[:, 16 * colour + 4 * i + j]
    return image


def contributions(parts: SubNetworks, features: Tensor, attribute: int) -> Tensor:
    """w^k_c (offset + M^k_cu) f_cu / (h w), [batch channel height width], by loops."""
    batch, channels, height, width = features.shape
    shares = torch.zeros_like(features)
    lit = masks(parts, features, attribute)
    for b in range(batch):
        for c in range(channels):
            for y in range(height):
                for x in range(width):
                    attended = (parts.offset + lit[b, c, y, x]) * features[b, c, y, x]
                    shares[b, c, y, x] = parts.weight[attribute, c] * attended / (height * width)
    return shares


def features(network: AttributeNetwork, images: Tensor) -> Tensor:
    return network.extractor((images - 0.5) / 0.25)
