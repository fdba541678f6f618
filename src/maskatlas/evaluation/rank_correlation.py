"""Spearman's correlation of maps, fast enough for thousands of positions."""

import numpy as np
from jaxtyping import Float
from scipy.stats import rankdata


def rank_correlation(
    a: Float[np.ndarray, "row position"], b: Float[np.ndarray, "row position"]
) -> Float[np.ndarray, " row"]:
    """Return the rank correlation of each row, equals sharing their mean rank.

    NaN where a row is constant.
    """
    return np.asarray((unit_ranks(a) * unit_ranks(b)).sum(1).clip(-1, 1))


def unit_ranks(values: Float[np.ndarray, "row position"]) -> Float[np.ndarray, "row position"]:
    """Return each row's ranks, centred and of length 1; NaN for a constant row.

    The inner product of two such rows is their rank correlation.
    """
    ranks = rankdata(values, axis=1) - (values.shape[1] + 1) / 2
    length = np.sqrt(np.square(ranks).sum(1, keepdims=True))
    units: np.ndarray = np.full_like(ranks, np.nan)
    np.divide(ranks, length, out=units, where=length > 0)
    return units
