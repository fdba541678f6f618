"""Slow twin of maskatlas.evaluation.intervals: one replicate, attribute and pair at a time."""

import math

import numpy as np

from reference.resampling import poisson_weight


def mean_over_attributes(
    values: list[float], attributes: list[int], weights: list[int], geometric: bool
) -> float:
    """The mean over attributes of weighted means; NaN where nothing is left."""
    means = []
    for attribute in sorted(set(attributes)):
        rows = [
            (value, weight)
            for value, k, weight in zip(values, attributes, weights, strict=True)
            if k == attribute and not math.isnan(value) and weight
        ]
        if rows:
            means.append(sum(v * w for v, w in rows) / sum(w for _, w in rows))
    if not means:
        return math.nan
    if geometric:
        return math.prod(means) ** (1 / len(means))
    return sum(means) / len(means)


def replicate_means(
    values: list[float],
    attributes: list[int],
    units: list[int],
    replicates: int,
    seed: int,
    geometric: bool = False,
) -> list[float]:
    return [
        mean_over_attributes(
            values, attributes, [poisson_weight(u, r, seed) for u in units], geometric
        )
        for r in range(replicates)
    ]


def bounds(replicates: list[float]) -> tuple[float, float]:
    defined = [value for value in replicates if not math.isnan(value)]
    low, high = np.quantile(defined, [0.025, 0.975])
    return float(low), float(high)
