"""What the network does without a channel: the causal reading of its importance."""

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor
from tqdm import tqdm

from maskatlas import distributed
from maskatlas.cache import PackedImages
from maskatlas.devices import autocast
from maskatlas.inference import passes
from maskatlas.metrics import auroc
from maskatlas.model import AttributeNetwork

MOST_IMAGES = 1000
"""The drop is measured on at most so many images, spread evenly over the dataset."""


def channel_drops(
    network: AttributeNetwork,
    images: PackedImages,
    labels: Float[Tensor, "image attribute"],
    sample: Int64[Tensor, " chosen"],
    *,
    precision: str = "auto",
    title: str | None = None,
) -> Float[np.ndarray, "attribute channel"]:
    """Return how much AUROC each attribute loses when a channel is set to its mean.

    f_c is replaced, at every position and before masks and classifiers, by its mean over positions
    and the sample's images; the drop is the AUROC of the sub-networks before, less after, on the
    same images. NaN where the sample lacks positives or negatives.

    Args:
        network: In eval mode, with sub-networks.
        images: The dataset, preprocessed.
        labels: 0, 1, or NaN where unknown; in the network's order.
        sample: Which of the images are used; their features are held.
        precision: As in :class:`maskatlas.config.TrainConfig`, the same before and after.
        title: Shown before a progress bar; None shows none.
    """
    subnetworks = network.subnetworks
    assert subnetworks is not None, "there are no masks to switch channels of"
    batches = [
        (batch.indices, output.features)
        for batch, output in passes(network, images, indices=sample, precision=precision)
    ]
    means = _channel_means([features for _, features in batches], network.channels)
    truth = labels[sample].numpy()

    def area(channel: int | None) -> Float[np.ndarray, " attribute"]:
        scores = torch.zeros((len(images), len(network.attributes)), dtype=torch.float64)
        for indices, features in batches:
            replaced = features if channel is None else _without(features, channel, means)
            with torch.no_grad(), autocast(features.device, precision):
                logits = subnetworks(replaced).logits
            scores[indices] = logits.to("cpu", torch.float64)
        return auroc(distributed.sum_(scores)[sample].numpy(), truth)

    before = area(None)
    hidden = None if title else True
    channels = tqdm(range(network.channels), desc=title, disable=hidden, leave=False)
    return np.stack([before - area(channel) for channel in channels], axis=1)


def evenly_spread(count: int, most: int) -> Int64[Tensor, " chosen"]:
    """Return at most so many of the indices 0 to count - 1, at equal distances."""
    return torch.linspace(0, count - 1, min(count, most), dtype=torch.float64).round().long()


def _channel_means(
    batches: list[Float[Tensor, "_ channel height width"]], channels: int
) -> Float[Tensor, " channel"]:
    """Return each channel's mean over the positions and images of all processes."""
    sums = torch.zeros(channels + 1, dtype=torch.float64)
    for features in batches:
        sums[:-1] += features.sum((0, 2, 3), dtype=torch.float64).cpu()
        sums[-1] += features[:, 0].numel()
    distributed.sum_(sums)
    return sums[:-1] / sums[-1]


def _without(
    features: Float[Tensor, "batch channel height width"],
    channel: int,
    means: Float[Tensor, " channel"],
) -> Float[Tensor, "batch channel height width"]:
    replaced = features.clone()
    replaced[:, channel] = means[channel].to(features.dtype)
    return replaced
