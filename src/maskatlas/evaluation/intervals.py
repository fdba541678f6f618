"""A measure of pairs of an image and an attribute, as means with intervals, method by method."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from maskatlas.metrics import or_none
from maskatlas.resampling import percentile_interval, poisson_weights

REPLICATES = 1000
_BLOCK = 512  # units whose sums are held at once


@dataclass(frozen=True, eq=False)
class Pairs:
    """What was judged: an image, an attribute that it has, and who is drawn with it."""

    images: Int[np.ndarray, " pair"]
    attributes: Int[np.ndarray, " pair"]
    """Places among the names."""
    units: Int[np.ndarray, " pair"]
    """As :func:`maskatlas.resampling.resampling_units` gives them."""
    names: tuple[str, ...]

    @property
    def second_half(self) -> Bool[np.ndarray, " pair"]:
        """Whether a pair is in the second half; nobody is in both, the halves are alike in size."""
        place: np.ndarray = np.unique(self.units, return_inverse=True)[1]
        second: np.ndarray = place % 2 == 1
        return second


@dataclass(frozen=True)
class Bounds:
    """A mean, and between which bounds it lies; NaN where undefined."""

    mean: float
    low: float
    high: float

    def to_json(self) -> dict[str, float | None]:
        """Return mean and bounds, None where undefined."""
        return {"mean": or_none(self.mean), "low": or_none(self.low), "high": or_none(self.high)}


@dataclass(frozen=True)
class Measured:
    """One measure of one method's maps."""

    overall: Bounds
    """Mean over attributes of their means."""
    attributes: Mapping[str, Bounds]
    """Mean over images, of every attribute that was judged."""
    images: Mapping[str, int]
    """How many were judged, of the same attributes."""
    difference: Bounds | None
    """Overall, less that of the method of reference in the same draws; None for itself."""

    def to_json(self) -> dict[str, Any]:
        """Return the overall mean with its bounds, the difference, and a row for each attribute."""
        return {
            **self.overall.to_json(),
            "difference": None if self.difference is None else self.difference.to_json(),
            "attributes": {
                name: {**bounds.to_json(), "images": self.images[name]}
                for name, bounds in self.attributes.items()
            },
        }


def measure(
    values: Float[np.ndarray, "pair method"],
    methods: Sequence[str],
    pairs: Pairs,
    *,
    geometric: bool = False,
    seed: int = 0,
) -> dict[str, Measured]:
    """Return a measure of each method with bootstrap intervals, whole people drawn.

    All methods see the same draws, so that the interval of a difference is that of pairs.

    Args:
        values: NaN where undefined; such a pair counts nowhere.
        methods: Names; the first is the one of reference.
        pairs: What the values are of.
        geometric: Take the geometric mean over attributes, for what is a ratio. The mean over
            images is arithmetic always.
        seed: Of the draws.
    """
    means, counts, units, drawn = _means(values, pairs, seed)
    single = np.where(units > 1, drawn, np.nan)  # one unit says nothing about how much they differ
    low, high = percentile_interval(single)
    overall, replicates = (_over_attributes(part, geometric) for part in (means, drawn))
    several = len(np.unique(pairs.units)) > 1
    results = {}
    for m, method in enumerate(methods):
        judged = np.flatnonzero(counts[:, m]).tolist()
        lost = overall[m] - overall[0], replicates[:, m] - replicates[:, 0]
        results[method] = Measured(
            overall=_bounds(overall[m], replicates[:, m], several),
            attributes={
                pairs.names[k]: Bounds(float(means[k, m]), float(low[k, m]), float(high[k, m]))
                for k in judged
            },
            images={pairs.names[k]: int(counts[k, m]) for k in judged},
            difference=_bounds(*lost, several) if m else None,
        )
    return results


def _means(
    values: Float[np.ndarray, "pair method"], pairs: Pairs, seed: int
) -> tuple[
    Float[np.ndarray, "attribute method"],
    Float[np.ndarray, "attribute method"],
    Float[np.ndarray, "attribute method"],
    Float[np.ndarray, "replicate attribute method"],
]:
    """Return means over images, numbers of images and of units, and the means of each replicate."""
    distinct, place = np.unique(pairs.units, return_inverse=True)
    shape = len(pairs.names), values.shape[1]
    total, units, drawn = np.zeros((2, *shape)), np.zeros(shape), np.zeros((2, REPLICATES, *shape))
    for first in range(0, len(distinct), _BLOCK):
        block = distinct[first : first + _BLOCK]
        chosen = (place >= first) & (place < first + len(block))
        known = ~np.isnan(values[chosen])
        held = np.zeros((2, len(block), *shape))
        for target, part in zip(held, (np.where(known, values[chosen], 0.0), known), strict=True):
            np.add.at(target, (place[chosen] - first, pairs.attributes[chosen]), part)
        weights = poisson_weights(block, REPLICATES, seed).T.astype(np.float64)
        drawn += np.stack([np.tensordot(weights, part, 1) for part in held])
        total += held.sum(1)
        units += (held[1] > 0).sum(0)
    return _ratio(*total), total[1], units, _ratio(*drawn)


def _ratio(sums: np.ndarray, counts: np.ndarray) -> np.ndarray:
    ratio: np.ndarray = np.divide(sums, counts, out=np.full(sums.shape, np.nan), where=counts > 0)
    return ratio


def _over_attributes(means: np.ndarray, geometric: bool) -> np.ndarray:
    """Return the mean over the next to last axis of what is defined there."""
    defined = ~np.isnan(means)
    with np.errstate(divide="ignore"):  # a mean of 0 makes a geometric mean of 0
        terms = np.log(means) if geometric else means
    average = _ratio(np.where(defined, terms, 0.0).sum(-2), defined.sum(-2))
    return np.exp(average) if geometric else average


def _bounds(mean: float, replicates: Float[np.ndarray, " replicate"], several: bool) -> Bounds:
    low, high = percentile_interval(replicates) if several else (math.nan, math.nan)
    return Bounds(float(mean), float(low), float(high))
