"""Slow twins of maskatlas.metrics: one attribute at a time, in plain Python."""

import math

import numpy as np


def confusion(scores: list[float], labels: list[float]) -> tuple[int, int, int, int]:
    pairs = [(s > 0, y) for s, y in zip(scores, labels, strict=True) if not math.isnan(y)]
    return (
        sum(yes and y == 1 for yes, y in pairs),
        sum(yes and y == 0 for yes, y in pairs),
        sum(not yes and y == 1 for yes, y in pairs),
        sum(not yes and y == 0 for yes, y in pairs),
    )


def auroc(scores: list[float], labels: list[float]) -> float:
    positives = [s for s, y in zip(scores, labels, strict=True) if y == 1]
    negatives = [s for s, y in zip(scores, labels, strict=True) if y == 0]
    if not positives or not negatives:
        return math.nan
    wins = sum((p > n) + 0.5 * (p == n) for p in positives for n in negatives)
    return wins / (len(positives) * len(negatives))


def average_precision(scores: list[float], labels: list[float]) -> float:
    pairs = [(s, y) for s, y in zip(scores, labels, strict=True) if not math.isnan(y)]
    positives = sum(y == 1 for _, y in pairs)
    if not positives or positives == len(pairs):
        return math.nan
    total = recall_before = 0.0
    for threshold in sorted({s for s, _ in pairs}, reverse=True):
        chosen = [y for s, y in pairs if s >= threshold]
        recall = sum(chosen) / positives
        total += (recall - recall_before) * sum(chosen) / len(chosen)
        recall_before = recall
    return total


def attribute_metrics(scores: np.ndarray, labels: np.ndarray) -> dict[str, list[float]]:
    result: dict[str, list[float]] = {
        name: [] for name in ("accuracy", "balanced_accuracy", "f1", "average_precision", "auroc")
    }
    for k in range(scores.shape[1]):
        s, y = scores[:, k].tolist(), labels[:, k].tolist()
        tp, fp, fn, tn = confusion(s, y)
        both = tp + fn > 0 and fp + tn > 0
        known = tp + fp + fn + tn
        result["accuracy"].append((tp + tn) / known if known else math.nan)
        result["balanced_accuracy"].append(
            (tp / (tp + fn) + tn / (fp + tn)) / 2 if both else math.nan
        )
        result["f1"].append(2 * tp / (2 * tp + fp + fn) if both else math.nan)
        result["average_precision"].append(average_precision(s, y))
        result["auroc"].append(auroc(s, y))
    return result


def resampled_difference(
    correct_a: np.ndarray, correct_b: np.ndarray, people: np.ndarray, drawn: np.ndarray
) -> float:
    """The statistic of one draw: `drawn` names people, some of them twice."""
    images = [i for person in drawn for i in np.flatnonzero(people == person)]
    differences = []
    for k in range(correct_a.shape[1]):
        known = [i for i in images if not math.isnan(correct_a[i, k])]
        if known:
            gains = [correct_a[i, k] - correct_b[i, k] for i in known]
            differences.append(sum(gains) / len(known))
    return sum(differences) / len(differences)
