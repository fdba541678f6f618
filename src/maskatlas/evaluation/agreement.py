"""Do two readings of channels' importance rank them alike: for each attribute, and in each draw."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from maskatlas.evaluation.draws import bounds_of_mean
from maskatlas.evaluation.intervals import Bounds
from maskatlas.importance import spearman
from maskatlas.metrics import or_none

Reading = Float[np.ndarray, "attribute channel"]
DrawnReading = Float[np.ndarray, "draw attribute channel"]


@dataclass(frozen=True, eq=False)
class Agreement:
    """Spearman's correlation over channels of two readings of their importance."""

    attributes: Float[np.ndarray, " attribute"]
    """NaN where undefined, or not judged."""
    overall: Bounds
    """Mean over attributes."""

    def to_json(self, names: Sequence[str]) -> dict[str, Any]:
        """Return the mean with its bounds, and each attribute's by its name."""
        by_name = zip(names, map(or_none, self.attributes.tolist()), strict=True)
        return {**self.overall.to_json(), "attributes": dict(by_name)}


def rank_agreement(
    readings: tuple[Reading, Reading],
    drawn: tuple[DrawnReading, DrawnReading],
    judged: Bool[np.ndarray, " attribute"],
) -> Agreement:
    """Return how far two readings agree, with the bounds of :func:`bounds_of_mean`.

    Args:
        readings: Of the data as they are; higher is more important.
        drawn: The same in each draw of the images.
        judged: Which attributes count.
    """
    found = np.where(judged, spearman(*readings), np.nan)
    in_draws = [spearman(*pair)[judged] for pair in zip(*drawn, strict=True)]
    rows = np.array(in_draws).reshape(len(drawn[0]), judged.sum())
    return Agreement(found, bounds_of_mean(found[judged], rows))
