"""Which images and attributes are judged, by which maps, and the logits that these speak of."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from tqdm import tqdm

from maskatlas.devices import autocast
from maskatlas.evaluation.examination import Examination
from maskatlas.evaluation.intervals import Measured, Pairs, measure
from maskatlas.explanations import explain
from maskatlas.inference import BATCH_SIZE
from maskatlas.interventions import evenly_spread
from maskatlas.model import AttributeNetwork
from maskatlas.resampling import resampling_units
from maskatlas.subnetworks import SubNetworks

MapMeasures = Mapping[str, Mapping[str, Measured]]
"""By method, then by measure."""

Scorer = Callable[[Tensor], Tensor]
"""Images [B 3 H W] -> logits [B A]."""


class Positive(NamedTuple):
    """One image, and the attributes that it has."""

    place: int
    """Of the image in the dataset."""
    image: Float[Tensor, "3 rows columns"]
    """RGB 0..1, on the network's device."""
    rows: list[int]
    """Places of the attributes among the network's."""
    names: list[str]


class Positives:
    """The images that are judged: at most so many, spread evenly over those with an attribute.

    A *pair* is one of them and an attribute that it has; pairs go image by image.
    """

    def __init__(self, given: Examination, *, limit: int) -> None:
        self.given = given
        some = torch.nonzero((given.labels == 1).any(1)).flatten()
        self.indices = some[evenly_spread(len(some), limit)]

    def __len__(self) -> int:
        return len(self.indices)

    def passing(self, title: str | None = None) -> Iterator[Positive]:
        """Go through the images one by one; a title is shown where progress is wanted."""
        parameter = next(self.given.network.parameters())
        hidden = None if title and self.given.progress else True
        for index in tqdm(self.indices.tolist(), desc=title, disable=hidden, leave=False):
            pixels = self.given.images.batch(torch.tensor([index])).images[0]
            rows = torch.nonzero(self.given.labels[index] == 1).flatten().tolist()
            yield Positive(
                place=index,
                image=pixels.to(parameter.device).to(parameter.dtype) / 255,
                rows=rows,
                names=[self.given.network.attributes[row] for row in rows],
            )

    def pairs(self) -> Pairs:
        """Return all pairs, in the order in which they pass."""
        images, attributes = torch.nonzero(self.given.labels[self.indices] == 1).T
        images = self.indices[images]
        return Pairs(
            images=images.numpy(),
            attributes=attributes.numpy(),
            units=units_of(self.given)[images.numpy()],
            names=tuple(self.given.network.attributes),
        )


def units_of(given: Examination) -> Int[np.ndarray, " image"]:
    """Return who is drawn with each image: its person, or itself where nobody is known."""
    people = given.images.data.identities
    return resampling_units(len(given.images), None if people is None else people.numpy())


class Tally:
    """What was measured of each pair, by method and measure, as the images pass."""

    def __init__(self, chosen: Positives, methods: Sequence[str], measures: Sequence[str]) -> None:
        self.chosen, self.methods, self.measures = chosen, tuple(methods), tuple(measures)
        self._parts: dict[tuple[str, str], list[np.ndarray]] = {
            (method, name): [] for method in self.methods for name in self.measures
        }

    def add(self, method: str, name: str, values: Float[np.ndarray, " attribute"]) -> None:
        """Add a measure of the pairs of one image; NaN where it is undefined."""
        self._parts[method, name].append(np.asarray(values, np.float64))

    def values(self, name: str) -> Float[np.ndarray, "pair method"]:
        """Return one measure of all pairs."""
        columns = [self._parts[method, name] for method in self.methods]
        return np.stack([np.concatenate([np.empty(0), *parts]) for parts in columns], axis=1)

    def measured(self) -> MapMeasures:
        """Return means and intervals."""
        pairs, seed = self.chosen.pairs(), self.chosen.given.seed
        found = {
            name: measure(self.values(name), self.methods, pairs, seed=seed)
            for name in self.measures
        }
        return {m: {name: found[name][m] for name in self.measures} for m in self.methods}


def to_json(methods: MapMeasures) -> dict[str, Any]:
    """Return measures as ``evaluation.json`` has them."""
    return {
        method: {name: measured.to_json() for name, measured in measures.items()}
        for method, measures in methods.items()
    }


def maps_of(
    given: Examination, positive: Positive, method: str
) -> Float[Tensor, "attribute rows columns"]:
    """Return the maps of the attributes that an image has."""
    return explain(given.network, positive.image[None], method, positive.names)[0]


def scorer(network: AttributeNetwork, rows: Sequence[int], *, precision: str = "float32") -> Scorer:
    """Return what computes the logits of some attributes, without gradients.

    Of a network of ours, only the sub-networks of these are run.

    Args:
        network: In eval mode.
        rows: Places of the attributes.
        precision: As in :class:`maskatlas.config.TrainConfig`.
    """
    rows = list(rows)
    if type(network) is not AttributeNetwork or type(network.subnetworks) is not SubNetworks:
        return partial(_scores, network, rows, precision)
    restricted = AttributeNetwork(
        network.config,
        [network.attributes[row] for row in rows],
        extractor=network.extractor,
        subnetworks=restricted_subnetworks(network.subnetworks, rows),
        classifier=None,
        reconstructor=None,
    )
    restricted.training = False  # its parts are shared, and stay in the mode that they are in
    return partial(_scores, restricted, list(range(len(rows))), precision)


def _scores(network: AttributeNetwork, rows: list[int], precision: str, images: Tensor) -> Tensor:
    with torch.no_grad(), autocast(images.device, precision):
        return torch.cat([network(part).scores[:, rows] for part in images.split(BATCH_SIZE)])


def restricted_subnetworks(subnetworks: SubNetworks, rows: Sequence[int]) -> SubNetworks:
    """Return the sub-networks of some attributes, detached; the guide is shared."""
    _, channels, guides = subnetworks.mask_weight.shape
    with torch.device("meta"):  # no weights are drawn
        restricted = SubNetworks(
            len(rows),
            channels,
            guide=subnetworks.guide,
            guides=guides,
            offset=subnetworks.offset,
        )
    for name, parameter in subnetworks.named_parameters(recurse=False):
        chosen = parameter.detach()[list(rows)]
        setattr(restricted, name, nn.Parameter(chosen, requires_grad=False))
    restricted.training = False
    return restricted
