"""Slow twins of maskatlas.replicates: images repeated as often as they are drawn."""

import math

import numpy as np

from reference import statistics as slow
from reference.resampling import poisson_weight


def drawn(units: np.ndarray, replicate: int, seed: int) -> list[int]:
    """Which images a replicate holds, each as often as its unit is drawn."""
    return [
        image
        for image, unit in enumerate(units.tolist())
        for _ in range(poisson_weight(unit, replicate, seed))
    ]


def residual(values: np.ndarray, label: np.ndarray) -> np.ndarray:
    """What a linear regression on a label leaves: within each answer, the mean goes."""
    left = values.astype(float).copy()
    for answer in (0, 1):
        left[label == answer] -= values[label == answer].mean()
    return left


def following(scores: np.ndarray, labels: np.ndarray) -> np.ndarray:
    count = labels.shape[1]
    result = np.full((count, count), math.nan)
    for k in range(count):
        known = ~np.isnan(labels[:, k])
        label = labels[known, k]
        if len(set(label.tolist())) < 2:
            continue
        for other in range(count):
            own, others = (residual(scores[known, j], label) for j in (k, other))
            product = math.sqrt((own @ own) * (others @ others))
            if product > 1e-12:
                result[k, other] = own @ others / product
    return result


def summary(masks: np.ndarray, contributions: np.ndarray, labels: np.ndarray) -> dict:
    found = slow.summary(masks, contributions, labels)
    names = ("mask_mean", "contribution_magnitude", "label_correlation")
    return {
        **{name: found[name] for name in names},
        "attribute_correlation": tuple(
            found[f"attribute_correlation{kind}"] for kind in ("", "_centred")
        ),
        "channel_correlation": tuple(
            found[f"channel_correlation{kind}"] for kind in ("", "_centred")
        ),
        "following": following(contributions.sum(2), labels),
    }
