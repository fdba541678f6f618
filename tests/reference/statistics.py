"""Slow twins of maskatlas.statistics: everything in memory, one number at a time."""

import math

import numpy as np


def pearson(a: np.ndarray, b: np.ndarray) -> float:
    a, b = a.ravel() - a.mean(), b.ravel() - b.mean()
    if not a.any() or not b.any():
        return math.nan
    return float((a * b).sum() / math.sqrt((a * a).sum() * (b * b).sum()))


def table(rows: list[np.ndarray]) -> np.ndarray:
    return np.array([[pearson(a, b) for b in rows] for a in rows])


def label_correlation(labels: np.ndarray) -> np.ndarray:
    count = labels.shape[1]
    result = np.full((count, count), math.nan)
    for k in range(count):
        for other in range(count):
            known = ~np.isnan(labels[:, k]) & ~np.isnan(labels[:, other])
            if known.any():
                result[k, other] = pearson(labels[known, k], labels[known, other])
    return result


def summary(masks: np.ndarray, contributions: np.ndarray, labels: np.ndarray) -> dict:
    _, attributes, channels = masks.shape
    by_channel = masks - masks.mean(axis=2, keepdims=True)
    by_attribute = masks - masks.mean(axis=1, keepdims=True)
    return {
        "images": len(masks),
        "mask_mean": masks.mean(0),
        "mask_deviation": masks.std(0),
        "contribution_mean": contributions.mean(0),
        "contribution_magnitude": abs(contributions).mean(0),
        "contribution_deviation": contributions.std(0),
        "channel_correlation": table([masks[:, :, c] for c in range(channels)]),
        "channel_correlation_centred": table([by_channel[:, :, c] for c in range(channels)]),
        "attribute_correlation": table([masks[:, k] for k in range(attributes)]),
        "attribute_correlation_centred": table([by_attribute[:, k] for k in range(attributes)]),
        "label_correlation": label_correlation(labels),
    }
