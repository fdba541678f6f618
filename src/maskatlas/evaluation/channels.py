"""What channels are for whom, and which of them say the same: over the images of a dataset."""

from collections.abc import Iterable, Iterator

import numpy as np
import torch
from jaxtyping import Float, Int, Int64
from torch import Tensor

from maskatlas import distributed
from maskatlas.cache import PackedImages
from maskatlas.evaluation.draws import Weights, drawn_mean
from maskatlas.inference import passes
from maskatlas.model import AttributeNetwork

READINGS = ("mask", "contribution")
"""Of a channel's importance for an attribute: mean mask, and mean absolute contribution."""

_CONSTANT = 1e-10
"""A variance that is a smaller share of the mean square is rounding."""

Reading = Float[Tensor, "batch attribute channel"]
Maps = Float[Tensor, "batch _ _ _"]
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
    sums = torch.zeros((2, len(network.attributes), network.channels), dtype=torch.float64)
    for _, *readings in _batches(network, images, sample):
        sums += torch.stack(readings).sum(1)
    means = (distributed.sum_(sums) / len(sample)).numpy()
    return dict(zip(READINGS, means, strict=True))


def readings_by_image(
    network: AttributeNetwork, images: PackedImages, sample: Int64[Tensor, " chosen"]
) -> dict[str, Float[np.ndarray, "chosen attribute channel"]]:
    """Return what :func:`channel_readings` averages; 16 bytes an image, attribute and channel."""
    size = len(sample), len(network.attributes), network.channels
    held = torch.zeros((2, *size), dtype=torch.float64)
    for indices, *readings in _batches(network, images, sample):
        held[:, torch.searchsorted(sample, indices)] = torch.stack(readings).double()
    return dict(zip(READINGS, distributed.sum_(held).numpy(), strict=True))


def _batches(
    network: AttributeNetwork, images: PackedImages, sample: Int64[Tensor, " chosen"]
) -> Iterator[tuple[Int64[Tensor, " batch"], Reading, Reading]]:
    """Yield the indices of some images, the means of their masks, and what channels contribute."""
    assert network.subnetworks is not None, "there are no masks to read"
    weight = network.subnetworks.weight.detach()
    for batch, output in passes(network, images, indices=sample):
        assert output.mask_mean is not None
        assert output.pooled is not None
        yield batch.indices, output.mask_mean.cpu(), (output.pooled * weight).abs().cpu()


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
        rows, columns = (
            f.transpose(0, 1).flatten(1).to("cpu", torch.float64)
            for f in (features, _resized(others, features))
        )
        one = torch.ones((1, rows.shape[1]), dtype=torch.float64)
        sums += torch.cat([rows, one]) @ torch.cat([columns, one]).T
        squares[0] += rows.square().sum(1)
        squares[1] += columns.square().sum(1)
    products, *powers = (distributed.sum_(tensor).numpy() for tensor in (sums, *squares))
    count = max(products[-1, -1], 1.0)
    means = products[:-1, -1:] / count, products[-1, :-1] / count
    return _pearson(
        products[:-1, :-1] / count, means, (powers[0][:, None] / count, powers[1] / count)
    )


def drawn_channel_correlation(
    first: AttributeNetwork,
    second: AttributeNetwork,
    images: PackedImages,
    sample: Int64[Tensor, " chosen"],
    matched: Int[np.ndarray, "pair 2"],
    weights: Weights,
) -> Float[np.ndarray, "draw pair"]:
    """Return :func:`channel_correlation` of some pairs in each draw; 40 bytes an image and pair.

    Args:
        first: In eval mode.
        second: Another, of the same images.
        images: The dataset, preprocessed.
        sample: Which of the images are used.
        matched: A channel of the first and one of the second.
        weights: Of those images, as :func:`maskatlas.evaluation.draws.draw_weights` gives them.
    """
    held = torch.zeros((5, len(sample), len(matched)), dtype=torch.float64)
    streams = (passes(network, images, indices=sample) for network in (first, second))
    for (batch, output), (_, other) in zip(*streams, strict=True):
        features, others = output.features, _resized(other.features, output.features)
        x, y = (
            f[:, ids].to("cpu", torch.float64)
            for f, ids in zip((features, others), matched.T.tolist(), strict=True)
        )
        moments = [part.mean((2, 3)) for part in (x, y, x * x, y * y, x * y)]
        held[:, torch.searchsorted(sample, batch.indices)] = torch.stack(moments)
    x_mean, y_mean, x_square, y_square, product = (
        drawn_mean(values, weights) for values in distributed.sum_(held).numpy()
    )
    return _pearson(product, (x_mean, y_mean), (x_square, y_square))


def _resized(maps: Maps, other: Maps) -> Maps:
    """Return maps with the sides of others, bilinearly."""
    if maps.shape[2:] == other.shape[2:]:
        return maps
    return torch.nn.functional.interpolate(maps, other.shape[2:], mode="bilinear")


def _pearson(
    product: np.ndarray,
    means: tuple[np.ndarray, np.ndarray],
    squares: tuple[np.ndarray, np.ndarray],
) -> np.ndarray:
    """Return Pearson's r of mean products, means and mean squares; NaN of what is constant."""
    deviations = []
    for square, mean in zip(squares, means, strict=True):
        variance = square - mean**2
        flat = variance <= _CONSTANT * square
        deviations.append(np.sqrt(np.where(flat, np.nan, variance)))
    covariance = product - means[0] * means[1]
    return np.asarray(np.clip(covariance / (deviations[0] * deviations[1]), -1, 1))


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
