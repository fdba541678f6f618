"""How sure a number is: bootstrap weights, percentile intervals, and false-discovery control.

**The bootstrap.** Images of one person resemble each other, so whole people are drawn, or images
where nobody knows whom they show: *units*. Instead of drawing n units with replacement, each unit
gets in each replicate a weight from a Poisson distribution of mean 1 (Oza and Russell 2001; Hanley
and MacGibbon 2006), independent of all others. The weight is a function of (seed, unit, replicate)
alone: it can be drawn when an image passes by, in any order, on any process, and again.

**False discoveries.** Of many pairs that are tested some look significant by chance. Those with
q <= 0.05 after Benjamini and Hochberg (1995) hold at most 5 % such, on average.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from jaxtyping import Float, Int, UInt8, UInt64

LEVEL = 0.95
"""Share of the replicates that lie between the bounds of an interval."""

_GOLDEN: Final = np.uint64(0x9E3779B97F4A7C15)
_OF_GROUPS: Final = 0x67726F757073
"""Sets the words that make groups apart from those of the draws."""
_BLOCK = 4_000_000
"""Weights that are held at once."""


@dataclass(frozen=True, slots=True)
class Draws:
    """What was drawn for a set of intervals, and how often."""

    replicates: int
    """Number of bootstrap replicates."""
    units: int
    """Number of people, or images, that were drawn from."""
    people: bool
    """Whether people were drawn; else images, as nobody's identity is known."""


def _poisson_thresholds() -> UInt64[np.ndarray, " weight"]:
    """Return 2^64 P(weight <= k) for k = 0, 1, ..., as far as 64 bits can tell it from 2^64."""
    shares, term, total = [], 1.0, 0.0
    for k in range(1, 17):
        total += term
        shares.append(total / np.e)
        term /= k
    return np.array([int(share * 2.0**64) for share in shares], np.uint64)


_THRESHOLDS = _poisson_thresholds()


def resampling_units(
    count: int, identities: Int[np.ndarray, " image"] | None
) -> Int[np.ndarray, " image"]:
    """Return what is drawn as one: the identity of each image, or the image where it is unknown.

    Args:
        count: Number of images.
        identities: Person of each image; -1, or None for all, means unknown.

    Returns:
        Identities as they are, and -1 - index for images that stand alone, so that no image is
        taken for a person.
    """
    alone = -1 - np.arange(count, dtype=np.int64)
    return alone if identities is None else np.where(identities < 0, alone, identities)


def random_groups(
    units: Int[np.ndarray, " image"], most: int, seed: int = 0
) -> tuple[Int[np.ndarray, " unit"], Int[np.ndarray, " unit"]]:
    """Share out units at random among groups that differ by one unit at most.

    Args:
        units: What stays together, any 64-bit integers, in any order and as often as they come.
        most: Number of groups; where there are fewer units, each is a group of its own.
        seed: Of the groups; the draws are others.

    Returns:
        The units, each once and sorted, and the group of each, from 0.
    """
    distinct = np.unique(units)
    order = np.argsort(_words(distinct, 1, seed ^ _OF_GROUPS)[:, 0], kind="stable")
    groups = np.empty(len(distinct), np.int64)
    groups[order] = np.arange(len(distinct)) * min(most, len(distinct)) // max(len(distinct), 1)
    return distinct, groups


def poisson_weights(
    units: Int[np.ndarray, " image"], replicates: int, seed: int = 0
) -> UInt8[np.ndarray, "image replicate"]:
    """Return how often each image is drawn in each replicate: Poisson of mean 1, by unit.

    Args:
        units: What is drawn as one, such as :func:`resampling_units` gives; images of the same unit
            have the same weights. Any 64-bit integers.
        replicates: R.
        seed: Of the draws.
    """
    # the number of thresholds that are not above it is the inverse of the distribution function
    words = _words(units, replicates, seed)
    return np.searchsorted(_THRESHOLDS, words, side="right").astype(np.uint8)


def half_weights(
    units: Int[np.ndarray, " image"], splits: int, seed: int = 0
) -> UInt8[np.ndarray, "image half"]:
    """Return 1 where an image is in a half, else 0; halves 2 s and 2 s + 1 are those of split s.

    Args:
        units: What stays together, as for :func:`poisson_weights`; where it goes is a function of
            seed, unit and split alone.
        splits: How often the images are split in two.
        seed: Of the draws; those of the weights are others.
    """
    first = (_words(units, splits, ~seed) >> np.uint64(63)).astype(np.uint8)
    return np.stack([first, 1 - first], axis=2).reshape(len(units), 2 * splits)


def _words(
    units: Int[np.ndarray, " image"], draws: int, seed: int
) -> UInt64[np.ndarray, "image draw"]:
    """Return 64 random bits for each unit and draw."""
    with np.errstate(over="ignore"):  # all arithmetic is modulo 2^64
        key = _mixed(np.array([seed], np.int64).view(np.uint64))
        start = _mixed(key ^ units.astype(np.int64).view(np.uint64))
        steps = np.arange(1, draws + 1, dtype=np.uint64) * _GOLDEN
        return _mixed(start[:, None] + steps)


def _mixed(words: UInt64[np.ndarray, "..."]) -> UInt64[np.ndarray, "..."]:
    """Return well-mixed words: the finisher of SplitMix64 (Steele, Lea and Flood 2014)."""
    words = words + _GOLDEN
    words = (words ^ (words >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    words = (words ^ (words >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed: UInt64[np.ndarray, ...] = words ^ (words >> np.uint64(31))
    return mixed


def percentile_interval(
    replicate_values: Float[np.ndarray, "replicate ..."], level: float = LEVEL
) -> tuple[Float[np.ndarray, "..."], Float[np.ndarray, "..."]]:
    """Return the bounds between which the middle `level` of the replicates lies.

    Args:
        replicate_values: A value for each replicate, NaN where it is undefined; it then does not
            count. Between two order statistics the bound is interpolated linearly.
        level: Share between the bounds.

    Returns:
        Lower and upper bound; NaN where fewer than two replicates are defined.
    """
    # NaN last; sorted side by side, which is quicker
    ordered = np.moveaxis(np.sort(np.moveaxis(replicate_values, 0, -1).copy(), axis=-1), -1, 0)
    defined = (~np.isnan(ordered)).sum(0, keepdims=True)
    low, high = (_at(ordered, defined, share) for share in ((1 - level) / 2, (1 + level) / 2))
    return low, high


def _at(
    ordered: Float[np.ndarray, "replicate ..."],
    defined: Int[np.ndarray, "1 ..."],
    share: float,
) -> Float[np.ndarray, "..."]:
    place = share * np.maximum(defined - 1, 0)
    below = np.floor(place).astype(np.int64)
    above = np.minimum(below + 1, np.maximum(defined - 1, 0))
    left, right = (np.take_along_axis(ordered, index, axis=0)[0] for index in (below, above))
    return np.where(defined[0] < 2, np.nan, left + (place - below)[0] * (right - left))


def mean_interval(
    values: Float[np.ndarray, " image"],
    identities: Int[np.ndarray, " image"] | None = None,
    *,
    replicates: int = 1000,
    seed: int = 0,
    level: float = LEVEL,
) -> tuple[float, float, float]:
    """Return a mean over images and its bootstrap interval, whole people drawn.

    Args:
        values: NaN where undefined; such an image counts nowhere.
        identities: Person of each image; -1, or None for all, means unknown.
        replicates: Number of draws.
        seed: Of the draws.
        level: Share of the draws between the bounds.

    Returns:
        Mean, lower and upper bound. The bounds are NaN where there are fewer than two units, which
        say nothing about how much units differ; the mean too where nothing is defined.
    """
    known = ~np.isnan(values)
    units = resampling_units(len(values), identities)[known]
    distinct, place = np.unique(units, return_inverse=True)
    if not len(distinct):
        return (float("nan"),) * 3
    totals = np.zeros((len(distinct), 2))
    np.add.at(totals, place, np.stack([values[known], np.ones(len(units))], axis=1))
    mean = float(totals[:, 0].sum() / totals[:, 1].sum())
    if len(distinct) < 2:
        return mean, float("nan"), float("nan")
    drawn = np.zeros((replicates, 2))
    size = max(1, _BLOCK // max(replicates, 1))
    for first in range(0, len(distinct), size):
        weights = poisson_weights(distinct[first : first + size], replicates, seed)
        drawn += weights.T.astype(np.float64) @ totals[first : first + size]
    means = np.full(replicates, np.nan)
    np.divide(drawn[:, 0], drawn[:, 1], out=means, where=drawn[:, 1] > 0)
    low, high = percentile_interval(means, level)
    return mean, float(low), float(high)


def benjamini_hochberg(p_values: Float[np.ndarray, "..."]) -> Float[np.ndarray, "..."]:
    """Return q-values: the smallest false-discovery rate at which each would be named.

    q of the i-th smallest of n is the minimum over j >= i of p_j n / j (Benjamini and Hochberg
    1995).

    Args:
        p_values: Any shape; NaN is no test, is not counted and stays NaN.
    """
    q_values = np.full(p_values.shape, np.nan)
    tested = ~np.isnan(p_values)
    p = p_values[tested]
    order = np.argsort(p)[::-1]
    scaled = p[order] * len(p) / np.arange(len(p), 0, -1)
    adjusted = np.empty(len(p))
    adjusted[order] = np.minimum.accumulate(scaled)
    q_values[tested] = adjusted
    return q_values
