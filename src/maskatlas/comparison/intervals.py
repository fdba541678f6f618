"""How sure the figures of a system are: the same metrics on bootstrap draws of the same people.

All systems of a comparison see the same draws, so that the draws of a difference are the
differences of the draws.
"""

import numpy as np
from jaxtyping import Bool, Float, UInt8

from maskatlas.metrics import METRICS

_BLOCK = 4_000_000
"""Weights that are ranked at once."""


def drawn_metrics(
    scores: Float[np.ndarray, "image attribute"],
    labels: Float[np.ndarray, "image attribute"],
    weights: UInt8[np.ndarray, "image replicate"],
) -> dict[str, Float[np.ndarray, "replicate attribute"]]:
    """Return each of :data:`maskatlas.metrics.METRICS` where image i counts `weights` times.

    Args:
        scores: An attribute is answered with yes where its score is above 0.
        labels: 0, 1, or NaN where unknown.
        weights: How often each image is drawn; :func:`maskatlas.resampling.poisson_weights`.

    Returns:
        NaN where a draw leaves a metric undefined.
    """
    found = {name: np.full((weights.shape[1], labels.shape[1]), np.nan) for name in METRICS}
    size = max(1, _BLOCK // max(len(weights), 1))
    for k in range(labels.shape[1]):
        known = ~np.isnan(labels[:, k])
        order = np.flatnonzero(known)[np.argsort(-scores[known, k], kind="stable")]
        if not len(order):
            continue
        for first in range(0, weights.shape[1], size):
            block = slice(first, first + size)
            drawn = weights[order, block].astype(np.float64)
            for name, values in _ranked(scores[order, k], labels[order, k] == 1, drawn).items():
                found[name][block, k] = values
    return found


def _ranked(
    scores: Float[np.ndarray, " image"],
    positive: Bool[np.ndarray, " image"],
    weights: Float[np.ndarray, "image replicate"],
) -> dict[str, Float[np.ndarray, " replicate"]]:
    """Return the metrics of one attribute; scores are in order, the highest first.

    As :func:`maskatlas.metrics.attribute_metrics` has them, with sums of weights for counts.
    """
    last = np.append(np.flatnonzero(scores[1:] != scores[:-1]), len(scores) - 1)
    hits = np.cumsum(weights * positive[:, None], axis=0)
    both = np.cumsum(weights, axis=0)
    yes = int((scores > 0).sum())
    said = (both[yes - 1], hits[yes - 1]) if yes else (np.zeros_like(both[-1]),) * 2
    positives, total = hits[-1], both[-1]
    negatives = total - positives
    rejections = negatives - (said[0] - said[1])
    hits, both = hits[last], both[last]
    new_hits = np.diff(hits, axis=0, prepend=0)
    new_alarms = np.diff(both - hits, axis=0, prepend=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        precision = np.where(both > 0, hits / both, 0.0)
        defined = np.where((positives > 0) & (negatives > 0), 1.0, np.nan)
        return {
            "accuracy": (said[1] + rejections) / total,
            "balanced_accuracy": defined * (said[1] / positives + rejections / negatives) / 2,
            "f1": defined * 2 * said[1] / (positives + said[0]),
            "average_precision": defined * (new_hits * precision).sum(0) / positives,
            "auroc": defined
            * (new_alarms * (hits - new_hits / 2)).sum(0)
            / (positives * negatives),
        }
