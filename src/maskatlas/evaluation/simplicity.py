"""Is an explanation short: few places, few channels, none of them idle or there twice."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from maskatlas.evaluation.channels import (
    channel_correlation,
    channel_readings,
)
from maskatlas.evaluation.examination import Examination
from maskatlas.evaluation.positives import (
    MapMeasures,
    Positives,
    Tally,
    maps_of,
    to_json,
)
from maskatlas.inference import passes
from maskatlas.interventions import evenly_spread
from maskatlas.metrics import mean_defined, or_none

IMAGES = 100
"""Maps are looked at on at most so many images, unless told otherwise."""
CHANNEL_IMAGES = 1000
"""Channels on at most so many."""
IDLE = 0.01
"""A channel is dead if it adds less than this share of the average channel, to every attribute."""
SAME = 0.99
"""Two channels are duplicates if their features correlate by at least this."""

Rows = Float[np.ndarray, " attribute"]


@dataclass(frozen=True, eq=False)
class MapSimplicity:
    """How concentrated the maps of several methods are; of positives, by absolute values."""

    images: int
    methods: MapMeasures
    """``gini``: 0 for a constant map, nearly 1 for a single point. ``entropy``, as a share of the
    largest possible: 1 for a constant map, 0 for a single point."""

    def to_json(self) -> dict[str, Any]:
        """Return it as ``evaluation.json`` has it."""
        return {"images": self.images, "methods": to_json(self.methods)}


@dataclass(frozen=True, eq=False)
class ChannelSimplicity:
    """How few channels serve an attribute, and which serve nobody or do the same."""

    attributes: tuple[str, ...]
    images: int
    channels: int
    gini: Mapping[str, Rows]
    """Of each attribute's importance over channels, by reading."""
    entropy: Mapping[str, Rows]
    dead: tuple[int, ...]
    """Ids of the channels that no attribute uses."""
    duplicates: tuple[tuple[int, int, float], ...]
    """Pairs of ids, the lower first, and their correlation."""

    def to_json(self) -> dict[str, Any]:
        """Return it as ``evaluation.json`` has it."""
        spread = {"gini": self.gini, "entropy": self.entropy}
        return {
            "images": self.images,
            "channels": self.channels,
            "dead": list(self.dead),
            "duplicates": [
                {"channels": [a, b], "correlation": value} for a, b, value in self.duplicates
            ],
        } | {
            name: {
                reading: {
                    "mean": or_none(mean_defined(values)),
                    "attributes": {
                        attribute: or_none(value)
                        for attribute, value in zip(self.attributes, values, strict=True)
                    },
                }
                for reading, values in readings.items()
            }
            for name, readings in spread.items()
        }


def map_simplicity(given: Examination, *, limit: int = IMAGES) -> MapSimplicity:
    """Measure how concentrated the maps of positives are.

    Args:
        given: The network, the images, and the methods.
        limit: Most images, spread evenly over those with an attribute.

    Raises:
        ConfigError: A method that the network does not have.
    """
    chosen = Positives(given, limit=limit)
    tally = Tally(chosen, given.methods, ("gini", "entropy"))
    for positive in chosen.passing("simplicity"):
        for method in given.methods:
            maps = maps_of(given, positive, method).flatten(1).double().cpu().numpy()
            tally.add(method, "gini", gini(maps))
            tally.add(method, "entropy", entropy(maps))
    return MapSimplicity(len(chosen), tally.measured())


def channel_simplicity(given: Examination, *, limit: int = CHANNEL_IMAGES) -> ChannelSimplicity:
    """Measure how importance is spread over channels, and name those that are dead or duplicates.

    Args:
        given: The network, with sub-networks, and the images; methods play no part.
        limit: Most images, spread evenly.
    """
    network, images = given.network, given.images
    sample = evenly_spread(len(images), limit)
    judged = given.judged()
    readings = channel_readings(network, images, sample)
    added = readings["contribution"]
    dead = (added <= IDLE * added.mean(1, keepdims=True)).all(0)
    batches = passes(network, images, indices=sample)
    pairs = ((output.features, output.features) for _, output in batches)
    correlation = channel_correlation(pairs, network.channels, network.channels)
    same = np.argwhere(np.triu(np.nan_to_num(correlation) >= SAME, 1)).tolist()
    return ChannelSimplicity(
        attributes=network.attributes,
        images=len(sample),
        channels=network.channels,
        gini={name: np.where(judged, gini(values), np.nan) for name, values in readings.items()},
        entropy={
            name: np.where(judged, entropy(values), np.nan) for name, values in readings.items()
        },
        dead=tuple(np.flatnonzero(dead).tolist()),
        duplicates=tuple((a, b, float(correlation[a, b])) for a, b in same),
    )


def gini(values: Float[np.ndarray, "row value"]) -> Float[np.ndarray, " row"]:
    """Return the Gini index of each row's absolute values (Hurley and Rickard 2009).

    1 - 2 sum over i of x_i / |x|_1 (n - i + 1/2) / n, with x_1 <= ... <= x_n: 0 where all are
    equal, 1 - 1 / n where one alone is not 0, NaN where all are.
    """
    ordered = np.sort(np.abs(values), axis=1)
    count = ordered.shape[1]
    places = (count - np.arange(1, count + 1) + 0.5) / count
    return np.asarray(1 - 2 * _shares(ordered) @ places)


def entropy(values: Float[np.ndarray, "row value"]) -> Float[np.ndarray, " row"]:
    """Return the entropy of each row's absolute values over that of equal ones: 0 to 1.

    NaN where all are 0, and for a single value.
    """
    shares = _shares(np.abs(values))
    logarithms = np.log(shares, out=np.zeros_like(shares), where=shares > 0)
    most = np.log(shares.shape[1]) or np.nan
    return np.asarray(-(shares * logarithms).sum(1) / most) + 0.0  # not -0


def _shares(values: Float[np.ndarray, "row value"]) -> Float[np.ndarray, "row value"]:
    total = values.sum(1, keepdims=True)
    shares = np.full_like(values, np.nan)
    np.divide(values, total, out=shares, where=total > 0)
    return shares
