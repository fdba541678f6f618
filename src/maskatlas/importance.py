"""How important a channel is for an attribute, read in three ways, and where they disagree.

- ``mask``: the mean of its mask, the paper's reading;
- ``contribution``: the mean absolute contribution to the logit, exact;
- ``drop``: the drop in AUROC when the channel is set to its mean, what the network does with it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Literal

import numpy as np
from jaxtyping import Float

from maskatlas.statistics import OUT

Reading = Literal["mask", "contribution", "drop"]
Readings = Mapping[Reading, Float[np.ndarray, "attribute channel"]]

DISAGREE = 0.3
"""Two readings disagree on an attribute where their rank correlation is below this."""


def top(values: Float[np.ndarray, " channel"], n: int) -> tuple[int, ...]:
    """Return the ids of the largest values, largest first; the lower id of equals, none of NaN."""
    order = np.argsort(-values, kind="stable")
    return tuple(int(channel) for channel in order[:n] if not np.isnan(values[channel]))


def ranks(values: Float[np.ndarray, "row item"]) -> Float[np.ndarray, "row item"]:
    """Return the rank of each item in its row, from 1; equals share the mean of theirs."""
    result = np.empty(values.shape)
    for row, ranked in zip(values, result, strict=True):
        ordered = np.sort(row)
        low, high = (np.searchsorted(ordered, row, side=side) for side in ("left", "right"))
        ranked[:] = (low + high + 1) / 2
    return result


def spearman(
    a: Float[np.ndarray, "attribute channel"], b: Float[np.ndarray, "attribute channel"]
) -> Float[np.ndarray, " attribute"]:
    """Return the rank correlation of each row; NaN where a row is constant or has a NaN."""
    damaged = np.isnan(a).any(1) | np.isnan(b).any(1)
    x, y = (ranks(values) - (values.shape[1] + 1) / 2 for values in (a, b))
    product = (x * x).sum(1) * (y * y).sum(1)
    result = np.full(len(a), np.nan)
    np.divide((x * y).sum(1), np.sqrt(product), out=result, where=(product > 0) & ~damaged)
    return result.clip(-1, 1)


def agreement(readings: Readings) -> dict[str, Float[np.ndarray, " attribute"]]:
    """Return Spearman's correlation of every two readings, by names such as ``mask-drop``."""
    pairs = combinations(readings, 2)
    return {f"{a}-{b}": spearman(readings[a], readings[b]) for a, b in pairs}


@dataclass(frozen=True, slots=True)
class RankedChannel:
    """A channel, how important it is for an attribute, and how sure that is; NaN: not measured."""

    channel: int
    value: float
    low: float
    """Lower bound; 95 % of the bootstrap replicates lie between the two."""
    high: float
    best: float
    """The best place, from 1, that it takes among the attribute's channels in those 95 %."""
    worst: float


@dataclass(frozen=True)
class Finding:
    """Something about an attribute that a reader of its masks must know."""

    attribute: str
    kind: Literal["out", "against", "apart"]
    """`out`: its masks are near 0. `against`: two readings rank its channels differently.
    `apart`: they agree on the whole, but not on one of the most important channels."""
    readings: tuple[Reading, ...]
    value: float
    """Mean of the masks (`out`), rank correlation (`against`, `apart`)."""
    text: str
    """A sentence; it begins with the attribute's name."""


_MEANING: Mapping[Reading, str] = {
    "mask": "how wide its masks are open",
    "contribution": "what they add to the logit",
    "drop": "what is lost without them",
}


def findings(attributes: Sequence[str], readings: Readings, *, n: int = 3) -> tuple[Finding, ...]:
    """Return where the masks are out, and where the mask disagrees with another reading.

    Args:
        attributes: Names.
        readings: The three, or those that were measured.
        n: Number of most important channels that are compared.
    """
    found = [
        Finding(
            name,
            "out",
            ("mask",),
            float(level),
            f"{name}: its masks are out, their mean is {level:.4f}; they explain nothing.",
        )
        for name, level in zip(attributes, readings["mask"].mean(1), strict=True)
        if level < OUT
    ]
    for other in [reading for reading in readings if reading != "mask"]:
        correlations = spearman(readings["mask"], readings[other])
        for index, name in enumerate(attributes):
            common = len({*top(readings["mask"][index], n)} & {*top(readings[other][index], n)})
            finding = _compared(name, other, float(correlations[index]), common=common, n=n)
            found += [finding] if finding else []
    return tuple(found)


def _compared(
    name: str, other: Reading, correlation: float, *, common: int, n: int
) -> Finding | None:
    ending = f"of the {n} channels that each puts first, {common or 'none'} are the same."
    if correlation < DISAGREE:
        return Finding(
            name,
            "against",
            ("mask", other),
            correlation,
            f"{name}: {_MEANING['mask']} does not say {_MEANING[other]} "
            f"(rank correlation {correlation:.2f}); {ending}",
        )
    if common == 0 and correlation >= DISAGREE:  # not where it is undefined
        return Finding(
            name,
            "apart",
            ("mask", other),
            correlation,
            f"{name}: {_MEANING['mask']} and {_MEANING[other]} agree on the whole "
            f"(rank correlation {correlation:.2f}), but {ending}",
        )
    return None


@dataclass(frozen=True)
class SharedChannels:
    """Of two attributes' most important channels, those of both, and those of one alone."""

    common: tuple[int, ...]
    only_a: tuple[int, ...]
    only_b: tuple[int, ...]


def shared(a: Sequence[int], b: Sequence[int]) -> SharedChannels:
    """Return what two rankings share, each in its own order, the common ones in that of a."""
    return SharedChannels(
        common=tuple(channel for channel in a if channel in b),
        only_a=tuple(channel for channel in a if channel not in b),
        only_b=tuple(channel for channel in b if channel not in a),
    )
