"""What channels see, in words: each is called after the concept whose region it covers best."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn.functional import interpolate
from tqdm import tqdm

from maskatlas.cache import PackedImages
from maskatlas.data import UNKNOWN, AttributeDataset
from maskatlas.errors import ConfigError, DataError
from maskatlas.explanations.words import ChannelWords
from maskatlas.inference import passes
from maskatlas.interventions import evenly_spread
from maskatlas.model import AttributeNetwork

QUANTILE = 0.995
"""A channel is active where its feature is above this quantile of all its values."""
LEAST_IOU = 0.04
"""A channel must cover a concept better than this to be called after it."""
MOST_IMAGES = 1000
"""Images of the sample."""


def dissect(
    network: AttributeNetwork,
    data: AttributeDataset,
    *,
    quantile: float = QUANTILE,
    least_iou: float = LEAST_IOU,
    limit: int = MOST_IMAGES,
    progress: bool = False,
) -> ChannelWords:
    """Find what each channel of a network is called.

    Network Dissection (Bau et al. 2017): a channel's features, resized bilinearly to the image, are
    active above one threshold for all images; of every concept, the intersection and the union of
    where the channel is active and where the concept is are summed over the images, and the
    channel is called after the concept with the highest ratio, if that is above ``least_iou``.
    Concepts are the parts that the dataset names, and its attributes that have a region: in images
    that have the attribute it is that region, in images without it is nowhere. Images of which a
    concept's label or region is unknown do not count for it.

    Args:
        network: In eval mode.
        data: Images with regions.
        quantile: Of a channel's values over images and positions of the sample, its threshold.
        least_iou: What a name asks for.
        limit: Most images, spread evenly over those whose regions are known.
        progress: Show a progress bar on a terminal.

    Raises:
        ConfigError: The quantile is not between 0 and 1.
        DataError: No image has a known region, or some cannot be read.
    """
    if not 0 < quantile < 1:
        raise ConfigError(f"quantile: expected a number between 0 and 1, found {quantile}")
    images = PackedImages(data, network.preprocessing, progress=progress)
    data = images.data
    known = [index for index in range(len(data)) if data.regions(index) is not None]
    if not known:
        raise DataError(
            f"{data.path or data.source}: channels are named after the regions that they cover, "
            "and no image has one; see docs/data.md for how to add masks/, or name other data"
        )
    sample = torch.tensor(known)[evenly_spread(len(known), limit)]
    features = _features(network, images, sample)
    thresholds = torch.stack([channel.flatten().quantile(quantile) for channel in features])
    named = list(data.parts(int(sample[0])))
    sums = _Sums(network.channels, len(named) + len(data.attributes))
    hidden = None if progress else True
    for place, index in enumerate(tqdm(sample.tolist(), desc="words", disable=hidden, leave=False)):
        concepts = _concepts(network, data, index, named)
        resized = interpolate(
            features[:, place][None], (network.preprocessing.size,) * 2, mode="bilinear"
        )[0]
        sums.update(resized > thresholds[:, None, None], concepts)
    there = torch.nonzero(sums.area > 0).flatten().tolist()
    names = (*named, *data.attributes)
    return ChannelWords(
        concepts=tuple(names[row] for row in there),
        kinds=tuple("part" if row < len(named) else "attribute" for row in there),
        iou=sums.iou()[:, there].numpy(),
        thresholds=thresholds.double().numpy(),
        shared=sums.shared()[there][:, there].numpy(),
        least_iou=least_iou,
        images=len(sample),
    )


def _features(
    network: AttributeNetwork, images: PackedImages, sample: Int64[Tensor, " chosen"]
) -> Float[Tensor, "channel chosen height width"]:
    """Return the features of a sample; as large as it is, and as nothing else here."""
    batches = [
        output.features.float().cpu() for _, output in passes(network, images, indices=sample)
    ]
    return torch.cat(batches).transpose(0, 1)


class _Concepts(NamedTuple):
    """Of one image, at the network's resolution; 0 or 1."""

    shown: Float[Tensor, "concept size size"]
    """Where a concept is seen."""
    known: Float[Tensor, "concept size size"]
    """Where it is known whether it is."""
    place: Float[Tensor, "concept size size"]
    """Where one would look for it: the region, whether the image has the attribute or not."""


def _concepts(
    network: AttributeNetwork, data: AttributeDataset, index: int, named: Sequence[str]
) -> _Concepts:
    """Return parts, then attributes, of one image."""
    parts, regions = data.parts(index), data.regions(index)
    assert regions is not None, "only images whose regions are known are looked at"
    cut = network.preprocessing.region
    found = [cut(part.numpy()) for part in (*(parts[name] for name in named), *regions)]
    values = torch.from_numpy(np.stack(found))
    labels = torch.cat([torch.ones(len(named)), data.labels[index]])[:, None, None]
    place = (values == 1).float()
    known = ((values != UNKNOWN) & ~labels.isnan()).float()
    return _Concepts(place * (labels == 1), known, place)


class _Sums:
    """Pixels that channels and concepts have in common, over images."""

    def __init__(self, channels: int, concepts: int) -> None:
        self.together = torch.zeros((channels, concepts), dtype=torch.float64)
        self.active = torch.zeros_like(self.together)
        self.area = torch.zeros(concepts, dtype=torch.float64)
        self.places = torch.zeros((concepts, concepts), dtype=torch.float64)

    def update(self, active: Tensor, concepts: _Concepts) -> None:
        """Add one image: where channels are active [C S S], and where concepts are."""
        shown, known, place = (part.flatten(1) for part in concepts)
        lit = active.flatten(1).float()
        self.together += lit @ shown.T
        self.active += lit @ known.T
        self.area += shown.sum(1)
        self.places += place @ place.T

    def iou(self) -> Float[Tensor, "channel concept"]:
        """Return intersection over union; 0 where there is no pixel of either."""
        union = self.active + self.area - self.together
        return self.together / union.clamp_min(1)

    def shared(self) -> Float[Tensor, "concept concept"]:
        """Return each pair's intersection over the smaller of the two."""
        sizes = self.places.diagonal()
        return self.places / torch.minimum(sizes[:, None], sizes).clamp_min(1)
