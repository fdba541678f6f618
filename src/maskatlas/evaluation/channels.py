"""What channels are for whom, and which of them say the same: over the images of a dataset."""

from collections.abc import Iterable

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from maskatlas import distributed
from maskatlas.cache import PackedImages
from maskatlas.inference import passes
from maskatlas.model import AttributeNetwork

READINGS = ("mask", "contribution")
"""Of a channel's importance for an attribute: mean mask, and mean absolute contribution."""

_CONSTANT = 1e-10
"""A variance that is a smaller share of the mean square is rounding."""

FeaturePair = tuple[Float[Tensor, "_ first _ _"], Float[Tensor, "_ second _ _"]]


def channel_readings(
    network: AttributeNetwork, images: PackedImages, sample: Int64[Tensor, " chosen"]
) -> dict[str, Float[np.ndarray, "attribute channel"]]:
    """Return mean masks and mean absolute contributions over the sample, by name.

    Args:
        network: In eval mode, with sub-networks.
        images: The dataset, preprocessed.
        sample: Which of the images are used.
    """
    assert network.subnetworks is not None, "there are no masks to read"
    weight = network.subnetworks.weight.detach()
    sums = torch.zeros((2, *weight.shape), dtype=torch.float64)
    for _, output in passes(network, images, indices=sample):
        assert output.mask_mean is not None
        assert output.pooled is not None
        sums[0] += output.mask_mean.sum(0).cpu()
        sums[1] += (output.pooled * weight).abs().sum(0).cpu()
    means = (distributed.sum_(sums) / len(sample)).numpy()
    return dict(zip(READINGS, means, strict=True))


def channel_correlation(
    pairs: Iterable[FeaturePair], first: int, second: int
) -> Float[np.ndarray, "first second"]:
    """Return Pearson of two networks' channels over all positions of the same images.

    In one pass, in float64, summed over processes. The second network's features are resized
    bilinearly where they have other sides than the first's. NaN for a channel that is constant.

    Args:
        pairs: Features of both networks, batch by batch.
        first: Number of the first network's channels.
        second: Number of the second's.
    """
    sums = torch.zeros((first + 1, second + 1), dtype=torch.float64)
    squares = [torch.zeros(channels, dtype=torch.float64) for channels in (first, second)]
    for features, others in pairs:
        if others.shape[2:] != features.shape[2:]:
            others = torch.nn.functional.interpolate(others, features.shape[2:], mode="bilinear")
        rows, columns = (
            f.transpose(0, 1).flatten(1).to("cpu", torch.float64) for f in (features, others)
        )
        one = torch.ones((1, rows.shape[1]), dtype=torch.float64)
        sums += torch.cat([rows, one]) @ torch.cat([columns, one]).T
        squares[0] += rows.square().sum(1)
        squares[1] += columns.square().sum(1)
    products, *powers = (distributed.sum_(tensor).numpy() for tensor in (sums, *squares))
    count = max(products[-1, -1], 1.0)
    means = products[:-1, -1] / count, products[-1, :-1] / count
    deviations = []
    for power, mean in zip(powers, means, strict=True):
        variance = power / count - mean**2
        flat = variance <= _CONSTANT * power / count
        deviations.append(np.sqrt(np.where(flat, np.nan, variance)))
    covariance = products[:-1, :-1] / count - np.outer(*means)
    return np.asarray(np.clip(covariance / np.outer(*deviations), -1, 1))


def feature_pairs(
    first: AttributeNetwork,
    second: AttributeNetwork,
    images: PackedImages,
    sample: Int64[Tensor, " chosen"],
) -> Iterable[FeaturePair]:
    """Run both networks over the same images, batch by batch."""
    streams = (passes(network, images, indices=sample) for network in (first, second))
    for (_, output), (_, other) in zip(*streams, strict=True):
        yield output.features, other.features
