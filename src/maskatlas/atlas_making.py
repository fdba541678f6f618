"""From a network and a dataset to an atlas: one pass, a few examples, and what channels cause."""

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, Int64
from threadpoolctl import ThreadpoolController
from torch import Tensor

from maskatlas import distributed
from maskatlas.analysis import Atlas, Examples
from maskatlas.cache import PackedImages
from maskatlas.confidence import confidence
from maskatlas.data import AttributeDataset, Batch
from maskatlas.errors import ConfigError, DataError
from maskatlas.explanations import contribution_map
from maskatlas.inference import labels_for, passes
from maskatlas.interventions import MOST_IMAGES, channel_drops, evenly_spread
from maskatlas.model import AttributeNetwork
from maskatlas.replicates import REPLICATES, ReplicateSums
from maskatlas.resampling import resampling_units
from maskatlas.statistics import MaskStatistics, MaskSummary

MOST_EXAMPLES = 12
"""Images kept to draw; chosen so that together they show as many attributes as they can."""


def analyze(
    network: AttributeNetwork,
    data: AttributeDataset,
    *,
    top: int = 3,
    drop_images: int = MOST_IMAGES,
    replicates: int = REPLICATES,
    seed: int = 0,
    progress: bool = False,
) -> Atlas:
    """Draw the atlas of a network: its masks, channels and attributes over a dataset.

    Memory does not grow with the number of images. Attributes are matched by name; one that the
    dataset does not label counts as unknown.

    Args:
        network: In eval mode, with sub-networks.
        data: Images, and labels where known.
        top: Channels of each attribute whose masks are kept for the examples.
        drop_images: Images of the sample on which channels are set to their mean; 0 leaves the
            causal reading out.
        replicates: Bootstrap replicates, from which intervals come; 0 leaves confidence out. They
            are all made in the same pass.
        seed: Of the replicates.
        progress: Show progress bars on a terminal.

    Raises:
        ConfigError: The network has no sub-networks, hence no masks; or ``top``,
            ``drop_images`` or ``replicates`` is too small.
        DataError: There are no images, or some cannot be read.
    """
    if network.subnetworks is None:
        raise ConfigError(
            "analyze: this network has no sub-networks and hence no masks to map; train one with "
            "model.subnetworks = true"
        )
    if top < 1 or drop_images < 0:
        raise ConfigError(
            f"analyze: expected top of at least 1 and drop_images of at least 0, found {top} and "
            f"{drop_images}"
        )
    if replicates < 0 or replicates == 1:
        raise ConfigError(
            f"analyze: expected replicates of at least 2, or 0 for none, found {replicates}"
        )
    if not len(data):
        raise DataError(f"{data.path or data.source}: no image to analyze")
    images = PackedImages(data, network.preprocessing, progress=progress)
    labels = labels_for(network, images.data)
    title = "masks" if progress else None
    identities = images.data.identities
    units = resampling_units(len(images), None if identities is None else identities.numpy())
    size = len(network.attributes), network.channels
    sums = ReplicateSums(*size, units, replicates=replicates, seed=seed) if replicates else None
    sample = evenly_spread(len(images), MOST_IMAGES)
    summary, scores = _summarise(network, images, labels, units, sums, sample, title=title)
    drop = None
    if drop_images:
        title = "channels" if progress else None
        few = evenly_spread(len(images), drop_images)
        drop = channel_drops(network, images, labels, few, title=title)
    chosen = sample[choose_examples(scores.numpy(), labels[sample].numpy(), MOST_EXAMPLES)]
    channels = np.argsort(-summary.mask_mean, axis=1, kind="stable")[:, :top]
    return Atlas.from_summary(
        network.attributes,
        summary,
        confidence=None if sums is None else confidence(sums, labels.numpy(), units),
        importance_drop=drop,
        examples=_examples(network, images.data, images.batch(chosen), labels[chosen], channels),
        source=f"{data.source}, {data.split or 'all splits'}",
    )


def _summarise(
    network: AttributeNetwork,
    images: PackedImages,
    labels: Float[Tensor, "image attribute"],
    units: Int[np.ndarray, " image"],
    sums: ReplicateSums | None,
    sample: Int64[Tensor, " chosen"],
    *,
    title: str | None,
) -> tuple[MaskSummary, Float[Tensor, "chosen attribute"]]:
    """Sum up masks and contributions over the images of all processes, into ``sums`` too.

    The logits of the sample are kept on the way.
    """
    assert network.subnetworks is not None
    statistics = MaskStatistics(len(network.attributes), network.channels)
    weight = network.subnetworks.weight.detach()
    scores = torch.zeros((len(sample), len(network.attributes)), dtype=torch.float64)
    place = torch.full((len(images),), -1).scatter(0, sample, torch.arange(len(sample)))
    # threads that NumPy's products leave waiting would take the cores from PyTorch's
    with ThreadpoolController().select(internal_api="openblas").limit(limits=1):
        for batch, output in passes(network, images, title=title):
            assert output.pooled is not None
            assert output.mask_mean is not None
            seen = (
                output.mask_mean.cpu().numpy(),
                (output.pooled * weight).cpu().numpy(),
                labels[batch.indices].numpy(),
            )
            statistics.update(*seen)
            places = place[batch.indices]
            scores[places[places >= 0]] = output.scores[places >= 0].to("cpu", torch.float64)
            if sums is not None:
                sums.update(*seen, units[batch.indices.numpy()])
    whole = MaskStatistics(len(network.attributes), network.channels)
    for part in distributed.gather(statistics.to_arrays()):
        whole.merge(MaskStatistics.from_arrays(part))
    if sums is not None:
        sums.replace(distributed.gather(sums.to_arrays()))
    return whole.compute(), distributed.sum_(scores).to(torch.float32)


def choose_examples(
    scores: Float[np.ndarray, "image attribute"],
    labels: Float[np.ndarray, "image attribute"],
    most: int,
) -> list[int]:
    """Choose images that together show as many attributes as they can, clearly and truly.

    One after another, the image that shows most attributes not shown yet; an attribute is shown
    where its label is 1 (or unknown) and the network says so too. Ties go to the higher sum of
    those scores, then to the earlier image. When nothing new is left, all attributes are to be
    shown once more.

    Args:
        scores: Logits.
        labels: 0, 1, or NaN where unknown.
        most: How many to choose at most; one at least.
    """
    shown = (scores > 0) & (labels != 0)
    chosen: list[int] = []
    missing: Bool[np.ndarray, " attribute"] = np.ones(scores.shape[1], bool)
    while len(chosen) < min(most, len(scores)):
        gain = (shown & missing).sum(axis=1)
        gain[chosen] = -1
        clarity = np.where(shown & missing, np.tanh(scores), 0).sum(axis=1)
        best = int(np.lexsort((-np.arange(len(scores)), clarity, gain))[-1])
        if chosen and not gain[best]:
            if missing.all():  # what is left shows nothing at all
                break
            missing[:] = True
            continue
        chosen.append(best)
        missing &= ~shown[best]
    return chosen


def _examples(
    network: AttributeNetwork,
    data: AttributeDataset,
    batch: Batch,
    labels: Float[Tensor, "example attribute"],
    channels: Int[np.ndarray, "attribute top"],
) -> Examples:
    """Compute masks and contributions of the chosen images, one attribute at a time."""
    device = next(network.parameters()).device
    with torch.no_grad():
        output = network(batch.images.to(device, torch.float32) / 255)
        features = output.features
        masks = [
            network.masks(features, [name], ids.tolist())[:, 0]
            for name, ids in zip(network.attributes, channels, strict=True)
        ]
        contributions = contribution_map(network, features, network.attributes)
    return Examples(
        names=tuple(data.names[index] for index in batch.indices.tolist()),
        images=batch.images.permute(0, 2, 3, 1).contiguous().numpy(),
        scores=output.scores.sigmoid().cpu().numpy(),
        labels=labels.numpy(),
        channels=channels,
        masks=torch.stack(masks, dim=1).cpu().numpy(),
        contributions=contributions.cpu().numpy(),
    )
