"""How far a map and a region cover each other: with a threshold, and without."""

import numpy as np
from jaxtyping import Bool, Float, UInt8

from maskatlas.data import UNKNOWN

LEVELS = np.arange(1, 20) / 20
"""Thresholds to choose from, as shares of a map's highest value."""


def attention_iou(
    maps: Float[np.ndarray, "pair height width"],
    regions: UInt8[np.ndarray, "pair height width"],
) -> Float[np.ndarray, " pair"]:
    """Return sum(p q) / sum(((p + q) / 2)^2) of the map p and the region q, both of sum 1.

    Attention-IoU, mask score (Serianni, Zhu, Russakovsky and Ramaswamy 2025): 1 for equal maps, 0
    for maps that do not meet. Of the map we take the positive part, where they stretch Grad-CAM to
    0..1; a map that is nowhere positive has 0. Pixels of which nothing is known are left out.

    Args:
        maps: One for each pair of an image and an attribute.
        regions: 1 inside, 0 outside, 255 unknown; each with a pixel inside.
    """
    positive = np.where(regions == UNKNOWN, 0.0, np.maximum(maps, 0.0)).astype(np.float64)
    total = positive.sum((1, 2), keepdims=True)
    p = np.divide(positive, total, out=np.zeros_like(positive), where=total > 0)
    q = (regions == 1) / (regions == 1).sum((1, 2), keepdims=True)
    together: Float[np.ndarray, " pair"] = (p * q).sum((1, 2)) / np.square((p + q) / 2).sum((1, 2))
    return together


def iou_by_level(
    maps: Float[np.ndarray, "pair height width"],
    regions: UInt8[np.ndarray, "pair height width"],
) -> Float[np.ndarray, "pair level"]:
    """Return intersection over union of the region and what a map marks, for each threshold.

    Marked is what reaches a share of the map's highest value (:data:`LEVELS`), as by Choe et al.
    2020. A map that is nowhere positive marks nothing and has 0. Pixels of which nothing is known
    are left out.

    Args:
        maps: One for each pair of an image and an attribute.
        regions: 1 inside, 0 outside, 255 unknown; each with a pixel inside.
    """
    maps = maps.astype(np.float64)
    count, highest = len(maps), np.maximum(maps.max((1, 2), keepdims=True), 0)
    share = np.divide(maps, highest, out=np.zeros(maps.shape), where=highest > 0)
    reached = np.searchsorted(LEVELS, share, side="right")
    place = reached + np.arange(count)[:, None, None] * (len(LEVELS) + 1)
    marked, within = (
        _at_least(place[chosen], count) for chosen in (regions != UNKNOWN, regions == 1)
    )
    union = marked + (regions == 1).sum((1, 2))[:, None] - within
    overlaps: Float[np.ndarray, "pair level"] = within / union
    return overlaps


def _at_least(place: np.ndarray, pairs: int) -> np.ndarray:
    """Return how many pixels of each pair reach each level; `place` counts pairs and levels."""
    size = len(LEVELS) + 1
    reached = np.bincount(place, minlength=pairs * size).reshape(pairs, size)
    return reached[:, ::-1].cumsum(1)[:, ::-1][:, 1:]


def best_level(overlaps: Float[np.ndarray, "pair level"], attributes: np.ndarray) -> int:
    """Return the level with the highest mean over attributes of their means; the lowest of several.

    Args:
        overlaps: Of :func:`iou_by_level`; at least one pair.
        attributes: Of each pair, as any integers.
    """
    means = [overlaps[attributes == k].mean(0) for k in np.unique(attributes)]
    return int(np.mean(means, axis=0).argmax())


def iou_at_others_level(
    overlaps: Float[np.ndarray, "pair level"],
    attributes: np.ndarray,
    second_half: Bool[np.ndarray, " pair"],
) -> tuple[Float[np.ndarray, " pair"], tuple[float, float]]:
    """Judge each half of the pairs at the level that is best on the other half.

    Args:
        overlaps: Of :func:`iou_by_level`.
        attributes: Of each pair.
        second_half: Which half each pair belongs to.

    Returns:
        IoU of each pair, NaN where the other half is empty; and the levels that the first and the
        second half were judged at, NaN where there is none.
    """
    judged, levels = np.full(len(overlaps), np.nan), []
    for half in (~second_half, second_half):
        if half.all() or not half.any():
            levels.append(float("nan"))
            continue
        level = best_level(overlaps[~half], attributes[~half])
        judged[half] = overlaps[half, level]
        levels.append(float(LEVELS[level]))
    return judged, (levels[0], levels[1])
