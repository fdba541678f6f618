"""Groups of what is correlated: hierarchical clustering of a correlation matrix.

Average linkage on the distance 1 - correlation, with the leaves in the order that puts the most
alike beside each other. A correlation that is undefined counts as none, distance 1.
"""

from collections.abc import Iterable

import numpy as np
from jaxtyping import Float, Int
from scipy.cluster import hierarchy
from scipy.spatial.distance import squareform

from maskatlas.errors import MaskatlasError

Linkage = Float[np.ndarray, "merge 4"]
"""As scipy has it: a row for each merge, the two clusters, their distance, the new one's size."""


def distances(correlation: Float[np.ndarray, "item item"]) -> Float[np.ndarray, "item item"]:
    """Return 1 - correlation, symmetric, 0 on the diagonal, 1 where it is undefined."""
    apart = 1 - np.nan_to_num(correlation.astype(np.float64), nan=0.0)
    apart = np.clip((apart + apart.T) / 2, 0, 2)
    np.fill_diagonal(apart, 0)
    return apart


def linkage(correlation: Float[np.ndarray, "item item"]) -> Linkage:
    """Return the merges, nearest first."""
    if len(correlation) < 2:
        return np.zeros((0, 4))
    condensed = squareform(distances(correlation), checks=False)
    merges: Linkage = hierarchy.linkage(condensed, method="average", optimal_ordering=True)
    return merges


def leaf_order(merges: Linkage) -> tuple[int, ...]:
    """Return the items as they stand along the dendrogram."""
    if not len(merges):
        return (0,)
    return tuple(int(item) for item in hierarchy.leaves_list(merges))


def cut(
    merges: Linkage,
    correlation: Float[np.ndarray, "item item"],
    *,
    count: int | None = None,
    threshold: float | None = None,
) -> tuple[tuple[int, ...], ...]:
    """Return groups of items, both in the order of the leaves.

    Args:
        merges: Of :func:`linkage`.
        correlation: What it was made from; the default cut is judged by it.
        count: Number of groups.
        threshold: Merge as long as two groups correlate by at least this on average.
            With neither, the count of :func:`natural_count`.

    Raises:
        MaskatlasError: Both are given, or there cannot be so many groups.
    """
    items = len(merges) + 1
    if count is not None and threshold is not None:
        raise MaskatlasError("groups: expected a count or a threshold, found both; give one")
    if count is not None and not 1 <= count <= items:
        raise MaskatlasError(f"groups: expected a count from 1 to {items}, found {count}")
    if threshold is not None:
        count = items - int((merges[:, 2] <= 1 - threshold).sum())
    elif count is None:
        count = natural_count(merges, correlation)
    member = membership(merges, count)
    order = leaf_order(merges)
    groups: dict[int, list[int]] = {}
    for item in order:
        groups.setdefault(int(member[item]), []).append(item)
    return tuple(tuple(group) for group in groups.values())


def best_match(group: Iterable[int], others: Iterable[Iterable[int]]) -> float:
    """Return how much of a group comes again among others: the largest Jaccard index.

    The items that two groups share over those of either: 1 where the group itself is there.
    """
    mine = set(group)
    return max((len(mine & {*other}) / len(mine | {*other}) for other in others), default=0.0)


def membership(merges: Linkage, count: int) -> Int[np.ndarray, " item"]:
    """Return the group of each item once all but the last count - 1 merges are done."""
    items = len(merges) + 1
    member = np.arange(items)
    for step, (left, right) in enumerate(merges[: items - count, :2].astype(int)):
        member[(member == left) | (member == right)] = items + step
    return member


def natural_count(merges: Linkage, correlation: Float[np.ndarray, "item item"]) -> int:
    """Return the number of groups that the correlations suggest: the best mean silhouette.

    Considered are two groups to half as many as there are items; of equals the fewest.
    """
    items = len(merges) + 1
    if items < 3:
        return items
    apart = distances(correlation)
    counts = range(2, max(3, items // 2 + 1))
    scores = [silhouette(apart, membership(merges, count)) for count in counts]
    return counts[int(np.argmax(scores))]


def silhouette(apart: Float[np.ndarray, "item item"], member: Int[np.ndarray, " item"]) -> float:
    """Return the mean silhouette (Rousseeuw 1987); an item alone in its group counts as 0.

    For an item at mean distance a from its own group and b from the nearest other one, it is
    (b - a) / max(a, b).
    """
    groups, group = np.unique(member, return_inverse=True)
    chosen = np.eye(len(groups))[group]
    sizes = chosen.sum(0)
    totals = apart @ chosen
    own = np.arange(len(member)), group
    inside = totals[own] / np.maximum(sizes[group] - 1, 1)
    outside = totals / sizes
    outside[own] = np.inf
    nearest = outside.min(1)
    larger = np.maximum(inside, nearest)
    score = np.zeros(len(member))
    np.divide(nearest - inside, larger, out=score, where=(larger > 0) & (sizes[group] > 1))
    return float(score.mean())
