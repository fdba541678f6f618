"""What images, and what attributes' contributions, are on average: to compare an image with."""

import torch
from jaxtyping import Float
from torch import Tensor

from maskatlas import distributed
from maskatlas.cache import PackedImages
from maskatlas.explanations import contribution_map
from maskatlas.inference import BATCH_SIZE, passes
from maskatlas.interventions import evenly_spread
from maskatlas.model import AttributeNetwork

MOST_IMAGES = 500
"""Contributions are averaged over at most so many images, spread evenly over the dataset."""
MOST_PICTURES = 5000
"""Images themselves over at most so many: that costs no pass of a network."""
FEWEST_IMAGES = 50
"""An average of fewer images is not kept with a model, which one hands on: it would show them."""


def average_contribution(
    network: AttributeNetwork,
    images: PackedImages,
    *,
    limit: int = MOST_IMAGES,
    precision: str = "float32",
) -> Float[Tensor, "attribute height width"]:
    """Return the mean over images of each attribute's contribution at each position.

    Summed over positions it is the mean logit, less the bias. Each process takes its share of the
    images, and all get the mean over all of them. Given to the network as
    ``network.average_contribution`` it allows the method ``contribution-centred``.

    Args:
        network: In eval mode; one that adds up its logits as this package's do.
        images: At least one.
        limit: Most images.
        precision: As in :class:`maskatlas.config.TrainConfig`.
    """
    sample = evenly_spread(len(images), limit)
    total = torch.zeros(network.average_shapes()[0], dtype=torch.float64)
    parameter = next(network.parameters())
    for _, output in passes(network, images, indices=sample, precision=precision):
        features = output.features.to(parameter.dtype)
        with torch.no_grad():
            maps = contribution_map(network, features, network.attributes)
        total += maps.sum(0).to("cpu", torch.float64)
    mean = distributed.sum_(total) / len(sample)
    return mean.to(parameter.device, parameter.dtype)


def average_image(
    images: PackedImages, *, limit: int = MOST_PICTURES
) -> Float[Tensor, "3 rows columns"]:
    """Return the mean image, RGB 0..1.

    Each process takes its share of the images, and all get the mean over all of them. Given to a
    network as ``network.average_image`` it is what ``contribution-traced`` compares images with.

    Args:
        images: At least one.
        limit: Most images, spread evenly over the dataset.
    """
    sample = evenly_spread(len(images), limit)
    share = sample[distributed.rank() :: distributed.world_size()]
    total = torch.zeros(images.batch(sample[:1]).images.shape[1:], dtype=torch.float64)
    for part in share.split(BATCH_SIZE):
        total += images.batch(part).images.sum(0, dtype=torch.float64)
    return distributed.sum_(total).to(torch.float32) / (255 * len(sample))
