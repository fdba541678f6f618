"""Bootstrap draws of what is no mean over images: areas under curves, ranks of channels.

The statistic is computed again for every draw of the images, in which an image counts as often as
its unit is drawn (:func:`maskatlas.resampling.poisson_weights`).
"""

from typing import Final

import numpy as np
from jaxtyping import Float, Int
from scipy.special import ndtri

from maskatlas.evaluation.intervals import Bounds
from maskatlas.metrics import mean_defined
from maskatlas.resampling import LEVEL, poisson_weights

DRAWS: Final = 200
_NORMAL: Final = float(ndtri((1 + LEVEL) / 2))

Weights = Float[np.ndarray, "draw image"]


def draw_weights(units: Int[np.ndarray, " image"], seed: int) -> Weights:
    """Return how often each image counts in each draw; of a single unit, there are no draws.

    Args:
        units: What is drawn as one, as :func:`maskatlas.resampling.resampling_units` has it.
        seed: Of the draws.
    """
    draws = DRAWS if len(np.unique(units)) > 1 else 0
    return poisson_weights(units, draws, seed).T.astype(np.float64)


def drawn_mean(
    values: Float[np.ndarray, "image ..."], weights: Weights
) -> Float[np.ndarray, "draw ..."]:
    """Return the mean over images in each draw; NaN where no image counts."""
    total = np.tensordot(weights, values, 1)
    count = weights.sum(1).reshape(-1, *(1,) * (total.ndim - 1))
    mean: np.ndarray = np.full(total.shape, np.nan)
    np.divide(total, count, out=mean, where=count > 0)
    return mean


def drawn_auroc(
    scores: Float[np.ndarray, "image score"],
    labels: Float[np.ndarray, " image"],
    weights: Weights,
) -> Float[np.ndarray, "draw score"]:
    """Return the area under the ROC curve of each column of scores, in each draw.

    The share of pairs of a positive and a negative in which the positive has the higher score, ties
    count half; a pair counts as often as both are drawn. NaN where a draw leaves none.

    Args:
        scores: Higher where the attribute is more likely.
        labels: 0, 1, or NaN where unknown.
        weights: As :func:`draw_weights` gives them.
    """
    here, there = labels == 1, labels == 0
    positives, negatives = weights[:, here], weights[:, there]
    pairs = positives.sum(1) * negatives.sum(1)
    won = np.empty((len(weights), scores.shape[1]))
    for column, values in zip(won.T, scores.T, strict=True):
        above = np.sign(values[here, None] - values[there]) / 2 + 0.5
        column[:] = ((positives @ above) * negatives).sum(1)
    area: np.ndarray = np.full(won.shape, np.nan)
    np.divide(won, pairs[:, None], out=area, where=pairs[:, None] > 0)
    return area


def bounds_of_mean(
    values: Float[np.ndarray, " item"], drawn: Float[np.ndarray, "draw item"]
) -> Bounds:
    """Return the mean over items, of those that are defined, and 1.96 deviations to either side.

    The deviation is that of the draws' means. Their percentiles will not do: a draw holds fewer
    different images than there are, and a rank correlation is the lower for it, in every draw.
    NaN for bounds where fewer than two draws are defined.
    """
    mean, means = mean_defined(values), np.array([mean_defined(row) for row in drawn])
    defined = means[~np.isnan(means)]
    away = _NORMAL * defined.std(ddof=1) if len(defined) > 1 else np.nan
    return Bounds(mean, float(mean - away), float(mean + away))
