"""Pairs of attributes and of channels, with confidence; and why two attributes go together.

Masks of two attributes can be alike because the two share images (their labels go together), or
because the network confuses them (its score for one follows its score for the other even where the
label of the one stays the same). The first is a fact of the data, the second one of the network.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float, Int

from maskatlas.confidence import Confidence
from maskatlas.resampling import benjamini_hochberg

RATE = 0.05
"""False-discovery rate at which a pair counts as going together."""
SMALL = 0.1
"""A correlation nearer to 0 is too small to matter, however sure it is (Cohen 1988)."""

Why = Literal["labels", "network", "both", "neither", "unknown"]
Square = Float[np.ndarray, "row row"]


@dataclass(frozen=True, slots=True)
class Estimate:
    """A correlation with its interval and p-value; NaN where undefined or not measured."""

    value: float
    low: float
    """Lower bound; 95 % of the bootstrap replicates lie between the two."""
    high: float
    p: float
    q: float
    """The false-discovery rate, among all pairs, at which this one is named."""

    @property
    def matters(self) -> bool:
        """Whether it is more than chance, and more than small."""
        return self.q <= RATE and abs(self.value) >= SMALL

    @property
    def known(self) -> bool:
        """Whether it was measured and is defined."""
        return not np.isnan(self.value + self.q)


@dataclass(frozen=True, slots=True)
class AttributePair:
    """Two attributes: how alike their masks are, their labels, their scores, and why."""

    first: str
    second: str
    masks: Estimate
    """Correlation of the masks (table 2)."""
    apart: float
    """The same over the images that have one of the two but not the other: labels taken out."""
    apart_images: int
    """How many those are."""
    labels: Estimate
    """Phi coefficient of the labels."""
    following: Estimate
    """Correlation of the two scores with the label of one taken out; the stronger direction."""
    follower: str
    """Whose score follows that of the other, though its own label stays the same."""
    why: Why
    """`labels`: the labels go together, the scores beyond them do not. `network`: the scores do,
    the labels do not. `both`, `neither`; `unknown` where one of them was not measured."""


@dataclass(frozen=True, slots=True)
class ChannelPair:
    """Two channels and the correlation of their masks (table 1)."""

    first: int
    second: int
    masks: Estimate


def attribute_pairs(
    attributes: Sequence[str],
    masks: Square,
    labels: Square,
    confidence: Confidence | None,
    *,
    centred: bool,
) -> tuple[AttributePair, ...]:
    """Return all pairs, the most alike by their masks first, those that are undefined last.

    Args:
        attributes: Names.
        masks: Correlation of the attributes by masks, plain or centred.
        labels: Correlation of the labels.
        confidence: None where it was not measured; only the two correlations are then known.
        centred: Which of the two the masks are.
    """
    rows, columns = np.triu_indices(len(attributes), 1)
    by_masks = _estimates(masks, confidence, _named("attribute_correlation", centred))
    by_labels = _estimates(labels, confidence, "label_correlation")
    follower, following = _following(len(attributes), confidence)
    apart = np.full(masks.shape, np.nan)
    images = np.zeros(masks.shape)
    if confidence is not None:
        apart = getattr(confidence, f"{_named('attribute_correlation', centred)}_apart")
        images = confidence.apart_images
    order = np.argsort(-masks[rows, columns], kind="stable")
    return tuple(
        AttributePair(
            first=attributes[rows[i]],
            second=attributes[columns[i]],
            masks=by_masks[i],
            apart=float(apart[rows[i], columns[i]]),
            apart_images=int(images[rows[i], columns[i]]),
            labels=by_labels[i],
            following=following[i],
            follower=attributes[follower[i]],
            why=_why(by_labels[i], following[i]),
        )
        for i in order
    )


def channel_pairs(
    masks: Square, confidence: Confidence | None, *, centred: bool
) -> tuple[ChannelPair, ...]:
    """Return all pairs of channels, the most alike first, those that are undefined last.

    Args:
        masks: Correlation of the channels, plain or centred.
        confidence: None where it was not measured.
        centred: Which of the two it is.
    """
    rows, columns = np.triu_indices(len(masks), 1)
    found = _estimates(masks, confidence, _named("channel_correlation", centred))
    order = np.argsort(-masks[rows, columns], kind="stable")
    return tuple(ChannelPair(int(rows[i]), int(columns[i]), found[i]) for i in order)


def _named(statistic: str, centred: bool) -> str:
    return f"{statistic}_centred" if centred else statistic


def _why(labels: Estimate, following: Estimate) -> Why:
    if not (labels.known and following.known):
        return "unknown"
    if labels.matters:
        return "both" if following.matters else "labels"
    return "network" if following.matters else "neither"


def _following(
    count: int, confidence: Confidence | None
) -> tuple[Int[np.ndarray, " pair"], list[Estimate]]:
    """Return, for each pair, who follows whom more, and how far; p is doubled for the choice."""
    rows, columns = np.triu_indices(count, 1)
    nothing = np.full(len(rows), np.nan)
    if confidence is None:
        return rows, _listed(nothing, nothing, nothing, nothing)
    strength = np.nan_to_num(np.abs(confidence.following), nan=-1)
    forward = strength[rows, columns] >= strength[columns, rows]
    place = np.where(forward, rows, columns), np.where(forward, columns, rows)
    low, high = confidence.following_interval[:, *place]
    p = np.minimum(2 * confidence.following_p[place], 1)
    return place[0], _listed(confidence.following[place], low, high, p)


def _estimates(value: Square, confidence: Confidence | None, name: str) -> list[Estimate]:
    """Return the estimates of the pairs in the upper triangle, row by row."""
    upper = np.triu_indices(len(value), 1)
    low = high = p = np.full(len(upper[0]), np.nan)
    if confidence is not None:
        low, high = getattr(confidence, f"{name}_interval")[:, *upper]
        p = getattr(confidence, f"{name}_p")[upper]
    return _listed(value[upper], low, high, p)


def _listed(*numbers: Float[np.ndarray, " pair"]) -> list[Estimate]:
    columns = [*numbers, benjamini_hochberg(numbers[-1])]
    return [Estimate(*row) for row in np.stack(columns, axis=1).tolist()]
