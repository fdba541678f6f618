"""How right a recogniser is, attribute by attribute, and how sure a difference between two is.

A label may be unknown (NaN): it counts nowhere. A figure that needs a positive and a negative is
undefined (NaN) where one of them is missing, never 0, and is left out of the means.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int, Shaped

from maskatlas.errors import MaskatlasError

METRICS = ("accuracy", "balanced_accuracy", "f1", "average_precision", "auroc")
"""The figures of :class:`Metrics`, in the order in which they are shown."""


@dataclass(frozen=True, eq=False)
class Metrics:
    """Figures of each attribute, all from 0 to 1, NaN where undefined."""

    accuracy: Float[np.ndarray, " attribute"]
    """Share of the known labels that are answered rightly; NaN where none is known."""
    balanced_accuracy: Float[np.ndarray, " attribute"]
    """Mean of the shares among positives and among negatives."""
    f1: Float[np.ndarray, " attribute"]
    """Harmonic mean of precision and recall."""
    average_precision: Float[np.ndarray, " attribute"]
    """Precision at each step of recall, weighted by the step; equal scores are one step."""
    auroc: Float[np.ndarray, " attribute"]
    """Chance that a positive scores above a negative, an equal score counting half."""
    positives: Int[np.ndarray, " attribute"]
    """Number of images that have the attribute."""
    negatives: Int[np.ndarray, " attribute"]
    """Number of images that are known not to have it."""

    def mean(self) -> dict[str, float]:
        """Return the mean of each figure over the attributes where it is defined, else NaN."""
        return {name: mean_defined(getattr(self, name)) for name in METRICS}

    def undefined(self) -> np.ndarray:
        """Return the indices of the attributes that lack positives or negatives."""
        return np.flatnonzero((self.positives == 0) | (self.negatives == 0))

    def rows(self, attributes: Sequence[str]) -> dict[str, dict[str, float | int | None]]:
        """Return the figures by attribute name, fit for JSON: None where undefined."""
        assert len(attributes) == len(self.accuracy)
        return {
            name: {metric: or_none(getattr(self, metric)[index]) for metric in METRICS}
            | {"positives": int(self.positives[index]), "negatives": int(self.negatives[index])}
            for index, name in enumerate(attributes)
        }


def mean_defined(values: Float[np.ndarray, "..."]) -> float:
    """Return the mean of what is not NaN; NaN, without a warning, where nothing is left."""
    defined = values[~np.isnan(values)]
    return float(defined.mean()) if defined.size else math.nan


def or_none(value: float) -> float | None:
    """Return None for NaN, which JSON does not have."""
    return None if math.isnan(value) else float(value)


def attribute_metrics(
    scores: Float[np.ndarray, "image attribute"], labels: Float[np.ndarray, "image attribute"]
) -> Metrics:
    """Compare scores with labels.

    Args:
        scores: Logits; an attribute is answered with yes where its score is above 0.
        labels: 0, 1, or NaN where unknown.

    Raises:
        MaskatlasError: A score is NaN, or a label is none of the three.
    """
    known, positive = _checked(scores, labels)
    answer = scores > 0
    positives, negatives = positive.sum(0), (known & ~positive).sum(0)
    hits = (answer & positive).sum(0)
    rejections = (~answer & known & ~positive).sum(0)
    false_alarms = negatives - rejections
    both = (positives > 0) & (negatives > 0)
    ranked = np.full((2, scores.shape[1]), math.nan)
    for k in np.flatnonzero(both):
        ranked[:, k] = _ranked(scores[known[:, k], k], positive[known[:, k], k])
    return Metrics(
        accuracy=_share(hits + rejections, positives + negatives),
        balanced_accuracy=(_share(hits, positives) + _share(rejections, negatives)) / 2,
        f1=np.where(both, _share(2 * hits, positives + hits + false_alarms), math.nan),
        average_precision=ranked[0],
        auroc=ranked[1],
        positives=positives,
        negatives=negatives,
    )


def auroc(
    scores: Float[np.ndarray, "image attribute"], labels: Float[np.ndarray, "image attribute"]
) -> Float[np.ndarray, " attribute"]:
    """Return the AUROC of each attribute alone; as :func:`attribute_metrics` has it."""
    return attribute_metrics(scores, labels).auroc


def _checked(
    scores: Float[np.ndarray, "image attribute"], labels: Float[np.ndarray, "image attribute"]
) -> tuple[np.ndarray, np.ndarray]:
    known, positive = ~np.isnan(labels), labels == 1
    if (known & ~positive & (labels != 0)).any():
        raise MaskatlasError(
            "labels: expected 0, 1 or NaN, found "
            f"{labels[known & ~positive & (labels != 0)][0]:g}; convert them first"
        )
    if np.isnan(scores).any():
        image, attribute = np.argwhere(np.isnan(scores))[0]
        raise MaskatlasError(
            f"scores: expected numbers, found NaN for image {image}, attribute {attribute}; "
            "the network's weights or that image are damaged"
        )
    return known, positive


def _share(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    share = np.full(np.shape(whole), math.nan)
    np.divide(part, whole, out=share, where=whole > 0)
    return share


def _ranked(
    scores: Float[np.ndarray, " image"], positive: Shaped[np.ndarray, " image"]
) -> tuple[float, float]:
    """Return average precision and AUROC from one sort; both classes are there.

    With TP_i and FP_i the counts above the i-th of the distinct scores, best first:
    AP = sum (TP_i - TP_i-1) / P * TP_i / (TP_i + FP_i), and AUROC is the area under (FP, TP) by
    trapezoids. Both count whole images until the last division.
    """
    order = np.argsort(-scores, kind="stable")
    ranked = scores[order]
    last = np.append(np.flatnonzero(ranked[1:] != ranked[:-1]), len(ranked) - 1)
    hits = np.cumsum(positive[order])[last]
    alarms = last + 1 - hits
    new_hits, new_alarms = np.diff(hits, prepend=0), np.diff(alarms, prepend=0)
    precision = float(np.sum(new_hits * (hits / (last + 1))) / hits[-1])
    area = np.sum(new_alarms * (2 * hits - new_hits)) / 2
    return precision, float(area / (hits[-1] * alarms[-1]))


@dataclass(frozen=True)
class Interval:
    """A difference, a minus b, and between which bounds it lies."""

    difference: float
    """Mean over attributes of the accuracy of a less that of b, on all images."""
    low: float
    """Lower bound."""
    high: float
    """Upper bound."""
    level: float
    """Share of the resamples between the bounds."""
    groups: int
    """Number of people (or images, where they are unknown) that were drawn from."""
    resamples: int
    """Number of draws."""


def paired_interval(
    correct_a: Float[np.ndarray, "image attribute"],
    correct_b: Float[np.ndarray, "image attribute"],
    groups: Int[np.ndarray, " image"] | None = None,
    *,
    resamples: int = 10_000,
    seed: int = 0,
    level: float = 0.95,
) -> Interval:
    """Return how much more often a is right than b, with a percentile interval by bootstrap.

    Whole people are drawn, with replacement, because images of one person resemble each other; both
    systems see the same draw. A draw is a multinomial count for each person, and its statistic the
    mean over attributes of the difference in accuracy over the drawn images.

    Args:
        correct_a: 1 where a is right, 0 where it is wrong, NaN where the label is unknown.
        correct_b: The same for b, unknown at the same places.
        groups: Person of each image; -1, or None for all, means unknown: the image stands alone.
        resamples: Number of draws.
        seed: Of the draws.
        level: Share of the draws between the bounds.

    Raises:
        MaskatlasError: There is no image with a known label, or a and b know different labels.
    """
    known = ~np.isnan(correct_a)
    if not np.array_equal(known, ~np.isnan(correct_b)):
        raise MaskatlasError(
            "paired_interval: a and b know different labels; score both on the same images"
        )
    if not known.any():
        raise MaskatlasError("paired_interval: expected at least one known label, found none")
    people = _people(len(known) if groups is None else groups)
    count = int(people.max()) + 1
    gains = np.zeros((count, known.shape[1]))
    sizes = np.zeros((count, known.shape[1]))
    np.add.at(gains, people, np.where(known, correct_a - correct_b, 0.0))
    np.add.at(sizes, people, known)
    draws = _draws(gains, sizes, resamples=resamples, seed=seed)
    tail = (1 - level) / 2
    low, high = np.nanquantile(draws, [tail, 1 - tail])
    return Interval(
        difference=mean_defined(_share(gains.sum(0), sizes.sum(0))),
        low=float(low),
        high=float(high),
        level=level,
        groups=count,
        resamples=resamples,
    )


def _people(groups: Int[np.ndarray, " image"] | int) -> Int[np.ndarray, " image"]:
    """Number the people from 0; an image without a person is one by itself."""
    if isinstance(groups, int):
        return np.arange(groups)
    alone = np.flatnonzero(groups < 0)
    distinct = groups.astype(np.int64)
    distinct[alone] = distinct.max(initial=0) + 1 + np.arange(len(alone))
    return np.unique(distinct, return_inverse=True)[1]


def _draws(
    gains: Float[np.ndarray, "person attribute"],
    sizes: Float[np.ndarray, "person attribute"],
    *,
    resamples: int,
    seed: int,
) -> Float[np.ndarray, " resample"]:
    """Return the statistic of each draw; a block of draws at a time, to bound the memory."""
    random = np.random.default_rng(seed)
    count = len(gains)
    block = max(1, 4_000_000 // count)
    draws = []
    for start in range(0, resamples, block):
        drawn = min(block, resamples - start)
        weights = random.multinomial(count, np.full(count, 1 / count), size=drawn).astype(float)
        accuracy = _share(weights @ gains, weights @ sizes)
        defined = ~np.isnan(accuracy)
        draws.append(_share(np.where(defined, accuracy, 0.0).sum(1), defined.sum(1)))
    return np.concatenate(draws)
