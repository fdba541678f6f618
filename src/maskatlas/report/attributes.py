"""Facts on attributes: table 2, the paper's rows beside it, and how far it follows the labels."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from maskatlas.analysis import Atlas
from maskatlas.pairs import Estimate
from maskatlas.published import Table2Row, plain_name

NEIGHBOURS = 5
"""Table 2 names so many."""
FEW_PAIRS = 3
"""From fewer pairs of attributes no correlation is told."""

Named = tuple[tuple[str, bool], ...]
"""Names, each with whether the other table has it too."""


@dataclass(frozen=True, slots=True)
class AttributeRow:
    """A row of table 2."""

    name: str
    correlated: tuple[tuple[str, Estimate, Estimate], ...]
    """Other attributes, with the correlation by masks and by labels."""


@dataclass(frozen=True, slots=True)
class PaperRow:
    """A row of the paper's table 2, and ours by both ways to compute it."""

    name: str
    paper: Named
    plain: Named
    centred: Named
    shared: tuple[int, int]
    """How many of the paper's names stand in our plain row, and in the centred one."""
    known: int
    """How many of the paper's names this run has."""


def attribute_rows(atlas: Atlas, *, centred: bool = False) -> tuple[AttributeRow, ...]:
    """Return table 2, a row for each attribute."""
    pairs = {
        frozenset((pair.first, pair.second)): pair
        for pair in atlas.attribute_pairs(centred=centred)
    }
    return tuple(
        AttributeRow(
            name=name,
            correlated=tuple(
                (other, pair.masks, pair.labels)
                for other, _ in atlas.correlated_attributes(name, NEIGHBOURS, centred=centred)
                for pair in (pairs[frozenset((name, other))],)
            ),
        )
        for name in atlas.attributes
    )


def paper_rows(atlas: Atlas) -> tuple[PaperRow, ...]:
    """Return the rows of the paper's table 2 whose attribute this run has, beside ours."""
    return tuple(_paper_row(row) for row in atlas.paper_table2(NEIGHBOURS))


def _paper_row(row: Table2Row) -> PaperRow:
    ours = [[name for name, _ in named] for named in (row.plain, row.centred)]
    paper = {plain_name(name) for name in row.paper}
    mine = {plain_name(name) for names in ours for name in names}
    plain, centred = (tuple((name, plain_name(name) in paper) for name in names) for names in ours)
    return PaperRow(
        name=row.attribute,
        paper=tuple((name, plain_name(name) in mine) for name in row.paper),
        plain=plain,
        centred=centred,
        shared=(row.overlap(), row.overlap(centred=True)),
        known=row.known,
    )


def absent(atlas: Atlas) -> tuple[str, ...]:
    """Return the attributes that the paper names in these rows and this run does not have."""
    here = {plain_name(name) for name in atlas.attributes}
    named = dict.fromkeys(other for row in atlas.paper_table2() for other in row.paper)
    return tuple(other for other in named if plain_name(other) not in here)


def agreement_with_labels(
    masks: Float[np.ndarray, "attribute attribute"],
    labels: Float[np.ndarray, "attribute attribute"],
) -> float | None:
    """Return the correlation of two correlations over pairs of attributes, where defined."""
    upper = np.triu_indices(len(masks), 1)
    pairs = np.stack([masks[upper], labels[upper]])
    pairs = pairs[:, ~np.isnan(pairs).any(0)]
    if pairs.shape[1] < FEW_PAIRS or not pairs.std(1).all():
        return None
    return float(np.corrcoef(pairs)[0, 1])
