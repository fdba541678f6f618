"""Slow twins of maskatlas.clustering: sets of items, merged one pair at a time."""

import itertools
import math

import numpy as np


def average(apart: np.ndarray, a: frozenset[int], b: frozenset[int]) -> float:
    return sum(apart[i, j] for i in a for j in b) / (len(a) * len(b))


def groups(correlation: np.ndarray, count: int) -> set[frozenset[int]]:
    """Average linkage down to `count` groups; undefined correlations are distance 1."""
    apart = np.where(np.isnan(correlation), 1.0, 1 - correlation)
    clusters = {frozenset([item]) for item in range(len(correlation))}
    while len(clusters) > count:
        a, b = min(itertools.combinations(clusters, 2), key=lambda pair: average(apart, *pair))
        clusters = (clusters - {a, b}) | {a | b}
    return clusters


def groups_above(correlation: np.ndarray, threshold: float) -> set[frozenset[int]]:
    for count in range(1, len(correlation) + 1):
        clusters = groups(correlation, count)
        apart = np.where(np.isnan(correlation), 1.0, 1 - correlation)
        merged = [c for c in clusters if len(c) > 1]
        if all(last_merge(apart, cluster) <= 1 - threshold for cluster in merged):
            return clusters
    raise AssertionError("one item a group always fits")


def last_merge(apart: np.ndarray, cluster: frozenset[int]) -> float:
    items = sorted(cluster)
    inner = groups(1 - apart[np.ix_(items, items)], 2)
    return average(apart[np.ix_(items, items)], *inner)


def silhouette(apart: np.ndarray, member: np.ndarray) -> float:
    scores = []
    for item, group in enumerate(member):
        own = [j for j in range(len(member)) if member[j] == group and j != item]
        if not own:
            scores.append(0.0)
            continue
        inside = sum(apart[item, j] for j in own) / len(own)
        nearest = math.inf
        for other in set(member.tolist()) - {group}:
            members = [j for j in range(len(member)) if member[j] == other]
            nearest = min(nearest, sum(apart[item, j] for j in members) / len(members))
        larger = max(inside, nearest)
        scores.append((nearest - inside) / larger if larger else 0.0)
    return sum(scores) / len(scores)
