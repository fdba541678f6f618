"""What the paper and others printed: the tables that one's own figures are set beside.

Kimura and Tanaka, "Interpretation of Feature Space using Multi-Channel Attentional Sub-Networks",
CVPR workshops 2019. The accuracies stand in ``table3.csv``, in per cent, as printed.
"""

import csv
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from types import MappingProxyType

import numpy as np
from jaxtyping import Float

from maskatlas.metrics import mean_defined

TABLE_2: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "Black Hair": ("Blond Hair", "Brown Hair", "Bald", "Wearing Hat", "Gray Hair"),
        "Heavy Makeup": ("Wearing Lipstick", "Male", "Rosy Cheeks", "Attractive", "Young"),
        "Bushy Eyebrows": (
            "Bags Under Eyes",
            "Eyeglasses",
            "Arched Eyebrows",
            "Heavy Makeup",
            "Attractive",
        ),
    }
)
"""The paper's table 2: for three attributes the five most correlated ones, best first."""

LINKED_PAIR = ("Mouth Slightly Open", "Smiling")
"""The two attributes whose channels the paper compares in figure 3."""

PRINTED_AVERAGE = 92.05
"""The average that the paper prints below its own column of table 3, in per cent."""


def plain_name(attribute: str) -> str:
    """Return a name as it is compared: without case, underscores as spaces.

    Example:
        >>> plain_name("Wearing_Hat")
        'wearing hat'
    """
    return " ".join(attribute.replace("_", " ").casefold().split())


@dataclass(frozen=True)
class Table2Row:
    """A row of the paper's table 2, and the same of this atlas."""

    attribute: str
    """As the atlas spells it."""
    paper: tuple[str, ...]
    """What the paper printed, best first."""
    known: int
    """How many of these the atlas has."""
    plain: tuple[tuple[str, float], ...]
    """Names and correlations by the plain reading, best first."""
    centred: tuple[tuple[str, float], ...]
    """The same by the centred reading."""

    def overlap(self, *, centred: bool = False) -> int:
        """Return how many of the paper's attributes stand in our row."""
        ours = self.centred if centred else self.plain
        return len(set(map(plain_name, self.paper)) & {plain_name(name) for name, _ in ours})


@dataclass(frozen=True, eq=False)
class PublishedAccuracies:
    """Accuracies in per cent by column: the paper's, those it compares with, and the majority's.

    The columns ``majority`` and ``positive_*`` are facts of the labels: what always giving the
    training majority's answer scores on test, and the share of positives in each split.
    """

    attributes: tuple[str, ...]
    columns: Mapping[str, Float[np.ndarray, " attribute"]]

    def column(self, name: str, attributes: Sequence[str]) -> Float[np.ndarray, " attribute"]:
        """Return a column for the given attributes, matched by name; NaN for one it lacks."""
        values = dict(zip(map(plain_name, self.attributes), self.columns[name], strict=True))
        return np.array([values.get(plain_name(a), math.nan) for a in attributes], dtype=float)

    def average(self, name: str) -> float:
        """Return the average of a column's rows, computed from them."""
        return mean_defined(self.columns[name])

    def note(self) -> str:
        """Say that the average the paper prints is not the average of its rows."""
        return (
            f"The paper prints an average of {PRINTED_AVERAGE:.2f} % for its own column, "
            f"but its {len(self.attributes)} rows average {self.average('paper'):.2f} %."
        )


@cache
def published_accuracies() -> PublishedAccuracies:
    """Read the table that comes with the package."""
    text = resources.files("maskatlas").joinpath("table3.csv").read_text(encoding="utf-8")
    rows = list(csv.DictReader(text.splitlines()))
    names = [name for name in rows[0] if name != "attribute"]
    columns = {name: np.array([float(row[name]) for row in rows]) for name in names}
    return PublishedAccuracies(
        attributes=tuple(row["attribute"] for row in rows), columns=MappingProxyType(columns)
    )
