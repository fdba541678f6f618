"""Does an explanation stay: when the image changes unseen, when the network is trained anew."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int, Int64
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from maskatlas.errors import ConfigError
from maskatlas.evaluation.agreement import Agreement, rank_agreement
from maskatlas.evaluation.channels import (
    channel_correlation,
    drawn_channel_correlation,
    feature_pairs,
    readings_by_image,
)
from maskatlas.evaluation.draws import Weights, bounds_of_mean, draw_weights, drawn_mean
from maskatlas.evaluation.examination import Examination
from maskatlas.evaluation.intervals import Bounds
from maskatlas.evaluation.perturbations import image_seed
from maskatlas.evaluation.positives import (
    MapMeasures,
    Positives,
    Tally,
    maps_of,
    to_json,
    units_of,
)
from maskatlas.evaluation.rank_correlation import rank_correlation
from maskatlas.explanations import explain
from maskatlas.interventions import evenly_spread
from maskatlas.model import AttributeNetwork

IMAGES = 100
"""Maps are compared on at most so many images, unless told otherwise."""
CHANNEL_IMAGES = 1000
"""Channels on at most so many."""
SAMPLES = 10
"""Noisy copies of each image."""
RADIUS = 0.02
"""Largest change of a pixel's value, of 0 to 1: about 5 of 255."""


@dataclass(frozen=True)
class Sensitivity:
    """How much maps change when the image changes unseen; of positives."""

    images: int
    samples: int
    radius: float
    methods: MapMeasures
    """``max_sensitivity``: largest change over the noisy copies, as a share of the map, in
    Euclidean norm."""

    def to_json(self) -> dict[str, Any]:
        """Return it as ``evaluation.json`` has it."""
        return {
            "images": self.images,
            "samples": self.samples,
            "radius": self.radius,
            "methods": to_json(self.methods),
        }


@dataclass(frozen=True, eq=False)
class SeedAgreement:
    """What two networks of the same training, but another seed, have in common."""

    attributes: tuple[str, ...]
    channels: Int[np.ndarray, "pair 2"]
    """Ids of matched channels: of the first network, of the second."""
    correlation: Float[np.ndarray, " pair"]
    """Of their features over the positions of the same images; NaN for a constant channel."""
    overall: Bounds
    """Mean correlation of matched channels, those of all draws matched as the images' own are."""
    readings: Mapping[str, Agreement]
    """Over matched channels, of each attribute's importance."""
    maps: MapMeasures
    """``agreement``: Spearman's correlation over positions of the two networks' maps, of
    positives."""

    def to_json(self) -> dict[str, Any]:
        """Return it as ``evaluation.json`` has it."""
        return {
            "channels": self.channels.tolist(),
            "channel_correlation": self.overall.to_json(),
            "readings": {
                name: found.to_json(self.attributes) for name, found in self.readings.items()
            },
            "maps": to_json(self.maps),
        }


@dataclass(frozen=True, eq=False)
class SeedAgreements:
    """What a network has in common with each of several others."""

    others: Mapping[str, SeedAgreement]

    def to_json(self) -> dict[str, Any]:
        """Return it as ``evaluation.json`` has it, by the others' names."""
        return {name: found.to_json() for name, found in self.others.items()}


def max_sensitivity(
    given: Examination, *, limit: int = IMAGES, samples: int = SAMPLES, radius: float = RADIUS
) -> Sensitivity:
    """Measure maximum sensitivity (Yeh et al. 2019), sampled: a lower bound of the true maximum.

    max over y of |map(y) - map(x)| / |map(x)|, where y is x with uniform noise of at most the
    radius on every pixel and colour, cut to 0..1. A map of zeros is not judged.

    Args:
        given: The network, the images, and the methods.
        limit: Most images, spread evenly over those with an attribute.
        samples: Noisy copies of each, the same for all methods.
        radius: Of the noise.

    Raises:
        ConfigError: A method that the network does not have.
    """
    chosen = Positives(given, limit=limit)
    tally = Tally(chosen, given.methods, ("max_sensitivity",))
    for positive in chosen.passing("sensitivity"):
        seed = image_seed(given.seed, positive.place)
        copies = _noisy(positive.image, samples, radius, seed=seed)
        for method in given.methods:
            maps = explain(given.network, copies, method, positive.names).flatten(2).double()
            change = (maps[1:] - maps[0]).norm(dim=2).amax(0)
            size = maps[0].norm(dim=1)
            share = torch.where(size > 0, change / size, torch.nan)
            tally.add(method, "max_sensitivity", share.cpu().numpy())
    return Sensitivity(len(chosen), samples, radius, tally.measured())


def _noisy(
    image: Float[Tensor, "3 rows columns"], samples: int, radius: float, *, seed: int
) -> Float[Tensor, "copy 3 rows columns"]:
    """Return the image, and copies of it with noise."""
    generator = torch.Generator().manual_seed(seed)
    noise = torch.rand((samples, *image.shape), generator=generator, dtype=torch.float64)
    noise = ((2 * noise - 1) * radius).to(image)
    return torch.cat([image[None], (image + noise).clamp(0, 1)])


def seed_agreements(given: Examination) -> SeedAgreements:
    """Compare the network with each of the others by :func:`seed_agreement`."""
    return SeedAgreements(
        {name: seed_agreement(given, other) for name, other in given.others.items()}
    )


def seed_agreement(
    given: Examination,
    other: AttributeNetwork,
    *,
    limit: int = IMAGES,
    channel_limit: int = CHANNEL_IMAGES,
) -> SeedAgreement:
    """Compare two networks whose channels have nothing to do with each other but what they see.

    Args:
        given: The first network, with sub-networks, the images, and the methods.
        other: The second, in eval mode, of the same attributes and image size.
        limit: Most images for maps, spread evenly over those with an attribute.
        channel_limit: Most images for channels.

    Raises:
        ConfigError: The networks have other attributes, or take images of another size, or one has
            no sub-networks.
    """
    network = given.network
    check_comparable(network, other)
    sample = evenly_spread(len(given.images), channel_limit)
    pairs = feature_pairs(network, other, given.images, sample)
    table = channel_correlation(pairs, network.channels, other.channels)
    matched = match_channels(table)
    correlation = table[*matched.T]
    weights = draw_weights(units_of(given)[sample.numpy()], given.seed)
    drawn = drawn_channel_correlation(network, other, given.images, sample, matched, weights)
    return SeedAgreement(
        attributes=network.attributes,
        channels=matched,
        correlation=correlation,
        overall=bounds_of_mean(correlation, drawn),
        readings=_reading_agreement(given, other, sample, matched, weights),
        maps=_map_agreement(given, replace(given, network=other), limit),
    )


def _reading_agreement(
    given: Examination,
    other: AttributeNetwork,
    sample: Int64[Tensor, " chosen"],
    matched: Int[np.ndarray, "pair 2"],
    weights: Weights,
) -> dict[str, Agreement]:
    """Compare what each attribute uses, by each reading, of the sample and in each draw."""
    before, after = (
        {name: values[:, :, ids] for name, values in by_image.items()}
        for by_image, ids in zip(
            (readings_by_image(part, given.images, sample) for part in (given.network, other)),
            matched.T,
            strict=True,
        )
    )
    return {
        name: rank_agreement(
            (before[name].mean(0), after[name].mean(0)),
            (drawn_mean(before[name], weights), drawn_mean(after[name], weights)),
            given.judged(),
        )
        for name in before
    }


def match_channels(
    correlation: Float[np.ndarray, "first second"],
) -> Int[np.ndarray, "pair 2"]:
    """Return the pairs, each channel in at most one, whose correlations have the largest sum.

    By the Hungarian method. As many pairs as the smaller network has channels; NaN counts as 0.
    """
    return np.stack(linear_sum_assignment(np.nan_to_num(correlation), maximize=True), axis=1)


def _map_agreement(given: Examination, other: Examination, limit: int) -> MapMeasures:
    chosen = Positives(given, limit=limit)
    tally = Tally(chosen, given.methods, ("agreement",))
    for positive in chosen.passing("agreement"):
        for method in given.methods:
            maps, others = (
                maps_of(part, positive, method).flatten(1).cpu().numpy() for part in (given, other)
            )
            tally.add(method, "agreement", rank_correlation(maps, others))
    return tally.measured()


def check_comparable(first: AttributeNetwork, second: AttributeNetwork) -> None:
    """Raise ConfigError unless the channels of two networks can be matched on the same images."""
    if first.subnetworks is None or second.subnetworks is None:
        raise ConfigError(
            "seed agreement: expected two networks with sub-networks, as masks are compared; train "
            "both with model.subnetworks = true"
        )
    if first.attributes != second.attributes:
        raise ConfigError(
            f"seed agreement: expected two networks of the same attributes, found "
            f"{', '.join(first.attributes)} and {', '.join(second.attributes)}; "
            "train both on the same data"
        )
    if first.preprocessing != second.preprocessing:
        raise ConfigError(
            f"seed agreement: expected two networks that take the same images, found "
            f"{first.config.image_size} and {second.config.image_size} pixels; "
            "train both with the same model.image-size"
        )
