"""What the network does without a channel: the causal reading of its importance."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import NamedTuple

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


class ChannelEffects(NamedTuple):
    """What is lost when a channel is set to its mean; NaN where undefined."""

    auroc: Float[np.ndarray, "attribute channel"]
    """AUROC before, less after."""
    logit: Float[np.ndarray, "attribute channel"]
    """Mean logit of the positives before, less after: finer, as few ranks change."""
    change: Float[np.ndarray, "attribute channel"]
    """Mean over all images of the absolute change of the logit: how much of the answer it moves,
    for or against."""


class HeldFeatures(NamedTuple):
    """The features of some images, batch by batch, and each channel's mean over all of them."""

    batches: list[tuple[Int64[Tensor, " batch"], Float[Tensor, "batch channel height width"]]]
    """Indices of the images of this process, and f."""
    means: Float[Tensor, " channel"]
    """Over positions and the images of all processes."""


def hold_features(
    network: AttributeNetwork,
    images: PackedImages,
    sample: Int64[Tensor, " chosen"],
    *,
    precision: str = "float32",
) -> HeldFeatures:
    """Compute the features of the chosen images and keep them."""
    batches = [
        (batch.indices, output.features)
        for batch, output in passes(network, images, indices=sample, precision=precision)
    ]
    return HeldFeatures(
        batches, _channel_means([features for _, features in batches], network.channels)
    )


def channel_drops(
    network: AttributeNetwork,
    images: PackedImages,
    labels: Float[Tensor, "image attribute"],
    sample: Int64[Tensor, " chosen"],
    *,
    precision: str = "auto",
    title: str | None = None,
) -> Float[np.ndarray, "attribute channel"]:
    """Return how much AUROC each attribute loses, as :func:`channel_effects` has it."""
    effects = channel_effects(network, images, labels, sample, precision=precision, title=title)
    return effects.auroc


def channel_effects(
    network: AttributeNetwork,
    images: PackedImages,
    labels: Float[Tensor, "image attribute"],
    sample: Int64[Tensor, " chosen"],
    *,
    precision: str = "auto",
    title: str | None = None,
) -> ChannelEffects:
    """Return what each attribute loses when a channel is set to its mean.

    f_c is replaced, at every position and before masks and classifiers, by its mean over positions
    and the sample's images; compared are the sub-networks before and after, on the same images. NaN
    where the sample lacks positives, or for the AUROC negatives.

    Args:
        network: In eval mode, with sub-networks.
        images: The dataset, preprocessed.
        labels: 0, 1, or NaN where unknown; in the network's order.
        sample: Which of the images are used; their features are held.
        precision: As in :class:`maskatlas.config.TrainConfig`, the same before and after.
        title: Shown before a progress bar; None shows none.
    """
    scores = removed_one_by_one(network, images, sample, precision=precision, title=title)
    return effects_of(next(scores), scores, labels[sample].numpy())


def effects_of(
    whole: Float[np.ndarray, "image attribute"],
    parts: Iterable[Float[np.ndarray, "image attribute"]],
    labels: Float[np.ndarray, "image attribute"],
) -> ChannelEffects:
    """Return what is lost from the logits as they are to those without each channel in turn."""
    area, logit = auroc(whole, labels), positive_mean(whole, labels)
    effects = []
    for part in parts:
        lost = area - auroc(part, labels), logit - positive_mean(part, labels)
        effects.append((*lost, np.abs(whole - part).mean(0)))
    return ChannelEffects(*np.stack(effects, axis=-1))


def removed_one_by_one(
    network: AttributeNetwork,
    images: PackedImages,
    sample: Int64[Tensor, " chosen"],
    *,
    precision: str = "auto",
    title: str | None = None,
) -> Iterator[Float[np.ndarray, "chosen attribute"]]:
    """Yield the sub-networks' logits as they are, then with each channel in turn at its mean.

    Args:
        network: As for :func:`channel_effects`, as are the others.
        images: The dataset, preprocessed.
        sample: Which of the images are used; their features are held.
        precision: The same for all.
        title: Shown before a progress bar; None shows none.
    """
    subnetworks = network.subnetworks
    assert subnetworks is not None, "there are no masks to switch channels of"
    held = hold_features(network, images, sample, precision=precision)
    channels = tqdm(
        range(network.channels), desc=title, disable=None if title else True, leave=False
    )
    for channel in chain([None], channels):
        scores = torch.zeros((len(images), len(network.attributes)), dtype=torch.float64)
        for indices, features in held.batches:
            replaced = features if channel is None else without(features, [channel], held.means)
            with torch.no_grad(), autocast(features.device, precision):
                logits = subnetworks(replaced).logits
            scores[indices] = logits.to("cpu", torch.float64)
        yield distributed.sum_(scores)[sample].numpy()


def positive_mean(
    scores: Float[np.ndarray, "image attribute"], labels: Float[np.ndarray, "image attribute"]
) -> Float[np.ndarray, " attribute"]:
    """Return the mean score of the images that have each attribute; NaN where none has."""
    positive = labels == 1
    count = positive.sum(0)
    means = np.full(labels.shape[1], np.nan)
    np.divide((scores * positive).sum(0), count, out=means, where=count > 0)
    return means


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


def without(
    features: Float[Tensor, "batch channel height width"],
    channels: Sequence[int],
    means: Float[Tensor, " channel"],
) -> Float[Tensor, "batch channel height width"]:
    """Return a copy of the features in which some channels are their means everywhere."""
    replaced = features.clone()
    chosen = list(channels)
    replaced[:, chosen] = means[chosen].to(features)[:, None, None]
    return replaced
