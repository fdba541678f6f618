"""One pass over a dataset: predictions, and the sums from which the atlas is computed.

Each process of a group takes its share of the images and no image is counted twice, so that shards
of uneven size give the figures that one process gives.
"""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from tqdm import tqdm

from maskatlas import distributed
from maskatlas.cache import PackedImages
from maskatlas.data import AttributeDataset, Batch
from maskatlas.devices import autocast
from maskatlas.errors import DataError
from maskatlas.model import AttributeNetwork, Output

BATCH_SIZE = 64


class Predictions(NamedTuple):
    """What the network says of each image of a dataset, in its order, on the CPU."""

    logits: Float[Tensor, "image attribute"] | None
    """Of the sub-networks."""
    multilabel_logits: Float[Tensor, "image attribute"] | None
    """Of the multi-label classifier."""
    mask_mean: float | None
    """Mean of all masks, over images, attributes, channels and positions."""

    @property
    def scores(self) -> Float[Tensor, "image attribute"]:
        """The logits that answer, as in :attr:`maskatlas.model.Output.scores`."""
        scores = self.multilabel_logits if self.logits is None else self.logits
        assert scores is not None
        return scores


def passes(
    network: AttributeNetwork,
    images: PackedImages,
    *,
    indices: Int64[Tensor, " chosen"] | None = None,
    precision: str = "float32",
    title: str | None = None,
) -> Iterator[tuple[Batch, Output]]:
    """Run the network over this process's share of the images, batch by batch, without gradients.

    Images are not reconstructed.

    Args:
        network: In eval mode.
        images: The dataset, preprocessed.
        indices: Which of its images; None means all.
        precision: As in :class:`maskatlas.config.TrainConfig`.
        title: Shown before a progress bar; None shows none.
    """
    parameter = next(network.parameters())
    chosen = torch.arange(len(images)) if indices is None else indices
    share = chosen[distributed.rank() :: distributed.world_size()]
    hidden = None if title else True
    network = network.without_reconstructor()
    for part in tqdm(share.split(BATCH_SIZE), desc=title, disable=hidden, leave=False):
        batch = images.batch(part)
        pixels = batch.images.to(parameter.device).to(parameter.dtype) / 255
        with torch.no_grad(), autocast(parameter.device, precision):
            output = network(pixels)
        yield batch, output


def predict(
    network: AttributeNetwork,
    images: PackedImages,
    *,
    indices: Int64[Tensor, " chosen"] | None = None,
    precision: str = "float32",
    title: str | None = None,
) -> Predictions:
    """Return the logits of all images, on every process; 0 for those that are not chosen.

    Args:
        network: In eval mode.
        images: The dataset, preprocessed.
        indices: Which of its images; None means all.
        precision: As in :class:`maskatlas.config.TrainConfig`.
        title: Shown before a progress bar; None shows none.
    """
    shape = len(images), len(network.attributes)
    heads = [torch.zeros(shape, dtype=torch.float64) for _ in range(2)]
    lit = torch.zeros((), dtype=torch.float64)
    present = [network.subnetworks is not None, network.classifier is not None]
    for batch, output in passes(network, images, indices=indices, precision=precision, title=title):
        for head, logits in zip(heads, (output.logits, output.multilabel_logits), strict=True):
            if logits is not None:
                head[batch.indices] = logits.to("cpu", torch.float64)
        if output.mask_mean is not None:
            lit += output.mask_mean.mean((1, 2)).sum().to("cpu", torch.float64)
    logits, multilabel_logits = (
        distributed.sum_(head).to(torch.float32) if there else None
        for head, there in zip(heads, present, strict=True)
    )
    count = len(images) if indices is None else len(indices)
    mask_mean = distributed.sum_(lit).item() / count if present[0] else None
    return Predictions(logits, multilabel_logits, mask_mean)


def labels_for(
    network: AttributeNetwork, data: AttributeDataset
) -> Float[Tensor, "image attribute"]:
    """Return the dataset's labels in the order of the network's attributes, matched by name.

    An attribute that the dataset does not label is unknown (NaN).

    Raises:
        DataError: The two have no attribute in common.
    """
    if not set(network.attributes) & set(data.attributes):
        raise DataError(
            f"{data.path or data.source}: none of its attributes ({', '.join(data.attributes)}) is "
            f"one of the network's ({', '.join(network.attributes)}); rename its columns"
        )
    labels = torch.full((len(data), len(network.attributes)), torch.nan)
    for place, name in enumerate(network.attributes):
        if name in data.attributes:
            labels[:, place] = data.labels[:, data.attributes.index(name)]
    return labels
