"""Facts on how sure the atlas is: why pairs go together, and what comes again."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from maskatlas.analysis import Atlas
from maskatlas.pairs import AttributePair
from maskatlas.report.channels import TOP, Pair

CONFUSED = 12
"""At most so many pairs are told of whose scores follow each other."""


@dataclass(frozen=True, slots=True)
class Causes:
    """Why pairs of attributes go together."""

    counts: tuple[tuple[str, int], ...]
    """Number of pairs for each answer, where there is any."""
    alike: tuple[AttributePair, ...]
    """The pairs that the report compares, as it orders them."""
    confused: tuple[AttributePair, ...]
    """Of the others those whose scores follow each other, most of all first."""


def causes(atlas: Atlas, shown: Sequence[Pair]) -> Causes | None:
    """Return why the pairs that are shown go together, and others that the network confuses.

    None where the atlas has no confidence.
    """
    if atlas.confidence is None:
        return None
    pairs = atlas.attribute_pairs()
    named = {(pair.first, pair.second): pair for pair in pairs}
    alike = tuple(named[pair.first, pair.second] for pair in shown)
    confused = [pair for pair in pairs if pair.why in ("network", "both") and pair not in alike]
    confused.sort(key=lambda pair: -abs(pair.following.value))
    counts = Counter(pair.why for pair in pairs)
    return Causes(
        counts=tuple((why, counts[why]) for why in ("labels", "network", "both", "neither")),
        alike=alike,
        confused=tuple(confused[:CONFUSED]),
    )


def steady_channels(atlas: Atlas) -> float | None:
    """Return how many of each attribute's first channels by mean mask surely are among the first.

    The mean over attributes of the number of the first :data:`maskatlas.report.channels.TOP` whose
    worst place in the bootstrap interval is among the first so many; None without confidence.
    """
    if atlas.confidence is None:
        return None
    return float(
        np.mean(
            [
                sum(channel.worst <= TOP for channel in atlas.ranked_channels(name, TOP))
                for name in atlas.attributes
            ]
        )
    )
