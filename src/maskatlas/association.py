"""Permutation tests: are two rows of a table, or two labels, more alike than chance makes them?

**Rows of a table** (mean masks: attributes over channels, or channels over attributes). Null: which
columns are high in a row has nothing to do with which are high in another. The columns of each row
are shuffled, each row on its own, and all correlations computed again. For centred correlations the
column means are taken away before the rows are shuffled, so that what all share is no evidence, and
once more after, so that the null has the correlation of -1 / (rows - 1) that centring makes.

**Labels.** Null: who has one attribute has nothing to do with who has the other. Each person's
labels are averaged over the images of that person (where identities are unknown, an image is a
person). People are shuffled, and every attribute of the shuffled is set against every other of
those as they were: what is unknown of somebody goes with what is known. The statistic is Pearson's
correlation of the averages, where both are known; for images alone it is the phi coefficient.

**One null for all pairs.** Under such a shuffle r has mean 0 and variance 1 / (n - 1), whatever was
shuffled (Pitman 1937), so the shuffled values of all pairs are pooled once they are multiplied by
the square root of n - 1. A p-value can then be far below 1 / shuffles, which a correction for
hundreds of pairs needs.
"""

import math
from collections.abc import Callable
from typing import Final

import numpy as np
from jaxtyping import Float, Int
from scipy.special import ndtr

_NULL: Final = 100_000
"""About so many values make a null distribution."""
_SHUFFLES: Final = (50, 1000)
"""At least and at most so many shuffles."""
_TOGETHER: Final = 25
"""So many tables are shuffled at once."""
_ROUNDING: Final = 1e-10

Square = Float[np.ndarray, "row row"]
Rows = Float[np.ndarray, "row column"]
Values = Float[np.ndarray, " value"]
Order = Int[np.ndarray, " column"]
Statistic = Callable[[Order], Square]


def row_p(table: Rows, *, centred: bool, seed: int = 0) -> Square:
    """Return the p-value of the correlation of every two rows, two-sided; NaN where undefined.

    Args:
        table: Values, such as mean masks [attribute channel].
        centred: Take each column's mean over the rows away, as the centred correlations do.
        seed: Of the shuffles.
    """

    def correlation(rows: Float[np.ndarray, "*shuffle row column"]) -> np.ndarray:
        return _correlation(rows - rows.mean(-2, keepdims=True) if centred else rows)

    values = table - table.mean(0) if centred else table
    flat = values.std(1) <= _ROUNDING * np.abs(table).max(initial=0)
    observed = correlation(table)
    observed[flat] = observed[:, flat] = np.nan
    upper = np.triu_indices(len(table), 1)

    def shuffled(random: np.random.Generator, count: int) -> Values:
        rows = random.permuted(np.broadcast_to(values, (count, *values.shape)), axis=2)
        return correlation(rows)[:, *upper].ravel()

    return _pooled_p(observed, shuffled, len(upper[0]), seed)


def label_p(
    labels: Float[np.ndarray, "image attribute"], units: Int[np.ndarray, " image"], *, seed: int = 0
) -> Float[np.ndarray, "attribute attribute"]:
    """Return the p-value of the correlation of every two labels; NaN where undefined.

    Args:
        labels: 0, 1, or NaN where unknown.
        units: Who each image shows, as :func:`maskatlas.resampling.resampling_units` has it.
        seed: Of the shuffles.
    """
    shares = _shares(labels, units)
    people, others = shares.shape[1], ~np.eye(len(shares), dtype=bool)
    statistic = _where_known(shares) if np.isnan(shares).any() else _all_known(shares)

    def shuffled(random: np.random.Generator, count: int) -> Values:
        orders = (random.permutation(people) for _ in range(count))
        return np.concatenate([statistic(order)[others] for order in orders])

    return _pooled_p(statistic(np.arange(people)), shuffled, int(others.sum()), seed)


def interval_p(correlation: Square, replicates: Float[np.ndarray, "replicate row row"]) -> Square:
    """Return two-sided p-values of correlations from their bootstrap replicates.

    Fisher's z = artanh r over its standard deviation over replicates is taken as normal. Other than
    a shuffle of images it respects that images of one person are alike.

    Args:
        correlation: Of all images; NaN where undefined.
        replicates: The same in each replicate.
    """
    z = np.arctanh(np.clip(correlation, -1 + _ROUNDING, 1 - _ROUNDING))
    drawn = np.arctanh(np.clip(replicates, -1 + _ROUNDING, 1 - _ROUNDING))
    defined = ~np.isnan(drawn)
    count = defined.sum(0)
    mean = np.where(defined, drawn, 0).sum(0) / np.maximum(count, 1)
    spread = np.where(defined, (drawn - mean) ** 2, 0).sum(0)
    p = np.full(correlation.shape, np.nan)
    enough = (count > 1) & (spread > count * _ROUNDING**2) & ~np.isnan(correlation)
    deviation = np.sqrt(spread[enough] / (count[enough] - 1))
    p[enough] = 2 * ndtr(-np.abs(z[enough]) / deviation)
    return p


def _shares(
    labels: Float[np.ndarray, "image attribute"], units: Int[np.ndarray, " image"]
) -> Float[np.ndarray, "attribute unit"]:
    """Return the mean of each unit's known labels; NaN where none is known."""
    distinct, place = np.unique(units, return_inverse=True)
    shares = np.full((labels.shape[1], len(distinct)), np.nan)
    for row, column in zip(shares, labels.T, strict=True):
        known = ~np.isnan(column)
        count = np.bincount(place[known], minlength=len(distinct))
        total = np.bincount(place[known], weights=column[known], minlength=len(distinct))
        np.divide(total, count, out=row, where=count > 0)
    return shares


def _correlation(
    rows: Float[np.ndarray, "*shuffle row column"],
) -> Float[np.ndarray, "*shuffle row row"]:
    """Return Pearson's r of every two rows; NaN where one is constant but for rounding."""
    unit = _standardised(rows)
    correlation: np.ndarray = unit @ unit.swapaxes(-2, -1)
    return correlation


def _standardised(
    rows: Float[np.ndarray, "*shuffle row column"],
) -> Float[np.ndarray, "*shuffle row column"]:
    """Return rows of mean 0 and length 1; NaN where one is constant but for rounding."""
    away = rows - rows.mean(-1, keepdims=True)
    spread, level = (away**2).sum(-1), (rows**2).sum(-1)
    unit: np.ndarray = (
        away / np.where(spread > _ROUNDING * level, np.sqrt(spread), np.nan)[..., None]
    )
    return unit


def _where_known(shares: Rows) -> Statistic:
    """Return what sets rows, their columns in another order, against the rows as they are.

    It is Pearson's r of every two over the n columns where both are known, times the square root of
    n - 1, which has variance 1 under every shuffle; NaN where one is constant there.
    """
    known = (~np.isnan(shares)).astype(np.float64)
    values = np.where(known > 0, shares, 0)

    def statistic(order: Order) -> Square:
        moved, moved_known = np.take(values, order, axis=1), np.take(known, order, axis=1)
        count = moved_known @ known.T
        several = np.maximum(count, 1)
        total, other_total = moved @ known.T, moved_known @ values.T
        level, other_level = moved**2 @ known.T, moved_known @ (values**2).T
        spread, other_spread = level - total**2 / several, other_level - other_total**2 / several
        covariance = moved @ values.T - total * other_total / several
        fit = (spread > _ROUNDING * level) & (other_spread > _ROUNDING * other_level)
        r: Square = np.full_like(covariance, np.nan)
        np.divide(covariance, np.sqrt(np.where(fit, spread * other_spread, 1)), out=r, where=fit)
        r *= np.sqrt(np.maximum(count - 1, 0))
        return r

    return statistic


def _all_known(shares: Rows) -> Statistic:
    """Return what :func:`_where_known` does, where nothing is unknown: one product for six."""
    unit, scale = _standardised(shares), math.sqrt(max(shares.shape[1] - 1, 0))

    def statistic(order: Order) -> Square:
        product: Square = np.take(unit, order, axis=1) @ unit.T
        return scale * product

    return statistic


def _pooled_p(
    observed: Square,
    shuffled: Callable[[np.random.Generator, int], Values],
    values: int,
    seed: int,
) -> Square:
    """Return the share of all pairs' shuffled values at least as far from their mean.

    Args:
        observed: The statistic of each pair.
        shuffled: Returns that of all pairs after each of so many shuffles; NaN where undefined.
        values: How many those are.
        seed: Of the shuffles.
    """
    if not values:
        return np.full_like(observed, np.nan)
    random = np.random.default_rng(seed)
    shuffles = int(np.clip(math.ceil(_NULL / values), *_SHUFFLES))
    blocks = [min(_TOGETHER, shuffles - done) for done in range(0, shuffles, _TOGETHER)]
    null = np.concatenate([shuffled(random, count) for count in blocks])
    null = null[~np.isnan(null)]
    mean = null.mean() if len(null) else 0.0
    away = np.sort(np.abs(null - mean))
    # what is equal but for rounding counts as equal
    reached = len(null) - np.searchsorted(away, np.abs(observed - mean) - _ROUNDING)
    p = np.where(np.isnan(observed), np.nan, (1 + reached) / (1 + len(null)))
    np.fill_diagonal(p, np.nan)
    return p
