"""Facts on channels: what correlates, what matters for which attribute, and who shares what."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from maskatlas.analysis import Atlas
from maskatlas.importance import Finding, Reading, top
from maskatlas.pairs import Estimate
from maskatlas.published import LINKED_PAIR, plain_name
from maskatlas.statistics import ACTIVE

READINGS: Mapping[Reading, str] = {
    "mask": "mean mask",
    "contribution": "mean absolute contribution",
    "drop": "drop in AUROC",
}
"""The readings of a channel's importance, and what the report calls them."""

KINDS = ("apart", "against", "out")
"""What can be wrong with the masks of an attribute, the least first."""
NEIGHBOURS = 5
"""Table 1 and table 2 name so many."""
TOP = 5
"""So many channels are named for each attribute and reading."""
PAIR_TOP = 10
"""The channels that a pair of attributes shares are looked for among so many of each."""
PAIRS = 12
"""At most so many pairs are written out."""
FIRST = 3
"""So many first channels of two readings are compared."""


@dataclass(frozen=True, slots=True)
class Channel:
    """A row of table 1."""

    id: int
    correlated: tuple[tuple[int, Estimate], ...]
    strongest: tuple[tuple[str, float], ...]
    """The attributes whose mask lets most of the channel through, and its mean."""


@dataclass(frozen=True, slots=True)
class Importance:
    """The channels that matter for one attribute, in each reading, best first."""

    name: str
    tops: Mapping[Reading, tuple[int, ...]]
    common: frozenset[int]
    """Those that are among the top of every reading."""
    agreement: Mapping[str, float]
    """Rank correlation over channels of two readings, by their names."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """One channel of one attribute, in numbers."""

    channel: int
    mask: float
    effect: float


@dataclass(frozen=True, slots=True)
class Disagreement:
    """An attribute whose masks point elsewhere than what the network uses."""

    name: str
    kind: str
    """`out`, `against` or `apart`, as :class:`maskatlas.importance.Finding` has it."""
    value: float
    """Mean of the masks (`out`), else the rank correlation."""
    bright: tuple[Evidence, ...]
    """The channels with the widest open masks."""
    strong: tuple[Evidence, ...]
    """The channels with the largest effect."""


@dataclass(frozen=True, slots=True)
class Pair:
    """Two attributes: the channels among the top of both, and of one of them only."""

    first: str
    second: str
    common: tuple[int, ...]
    only_first: tuple[int, ...]
    only_second: tuple[int, ...]
    masks: float
    """Their correlation by masks (table 2)."""
    labels: float
    """Their correlation by labels."""


def channel_rows(atlas: Atlas) -> tuple[Channel, ...]:
    """Return table 1, a row for each channel."""
    found = {frozenset((pair.first, pair.second)): pair.masks for pair in atlas.channel_pairs()}
    rows = []
    for channel in range(atlas.channels):
        masks = atlas.mask_mean[:, channel]
        order = np.argsort(-masks, kind="stable")[:3]
        rows.append(
            Channel(
                id=channel,
                correlated=tuple(
                    (other, found[frozenset((channel, other))])
                    for other, _ in atlas.correlated_channels(channel, NEIGHBOURS)
                ),
                strongest=tuple((atlas.attributes[k], float(masks[k])) for k in order),
            )
        )
    return tuple(rows)


def unused_channels(atlas: Atlas) -> tuple[int, ...]:
    """Return the channels whose mean mask is above :data:`ACTIVE` for no attribute."""
    return tuple(np.flatnonzero(~(atlas.mask_mean > ACTIVE).any(0)).tolist())


def importance_rows(atlas: Atlas) -> tuple[Importance, ...]:
    """Return the channels that matter, a row for each attribute."""
    agreement = atlas.importance_agreement()
    rows = []
    for index, name in enumerate(atlas.attributes):
        tops = {reading: _mattering(atlas, name, reading) for reading in atlas.readings}
        rows.append(
            Importance(
                name=name,
                tops=tops,
                common=frozenset.intersection(*map(frozenset, tops.values())),
                agreement={pair: float(values[index]) for pair, values in agreement.items()},
            )
        )
    return tuple(rows)


def _mattering(atlas: Atlas, name: str, reading: Reading) -> tuple[int, ...]:
    """Return the top channels of a reading, without those whose loss, say, costs nothing."""
    values = atlas.importance(reading)[atlas.index(name)]
    return tuple(id_ for id_ in atlas.top_channels(name, TOP, by=reading) if values[id_] > 0)


def causal(atlas: Atlas) -> Reading:
    """Return the reading that says most of what a channel does: the drop, where measured."""
    return "drop" if "drop" in atlas.readings else "contribution"


def disagreements(atlas: Atlas) -> tuple[Disagreement, ...]:
    """Return the attributes whose masks are out or disagree with what their channels do.

    The effect of a channel is its drop in AUROC, or where that was not measured its contribution.
    """
    by = causal(atlas)
    found = [f for f in atlas.findings(FIRST) if f.kind == "out" or by in f.readings]
    worst_first = sorted(found, key=lambda finding: (-KINDS.index(finding.kind), finding.value))
    return tuple(_disagreement(atlas, finding, by) for finding in worst_first)


def _disagreement(atlas: Atlas, finding: Finding, by: Reading) -> Disagreement:
    index = atlas.index(finding.attribute)
    masks, effects = atlas.mask_mean[index], atlas.importance(by)[index]
    bright, strong = (
        tuple(
            Evidence(channel, float(masks[channel]), float(effects[channel]))
            for channel in atlas.top_channels(finding.attribute, FIRST, by=reading)
        )
        for reading in ("mask", by)
    )
    return Disagreement(finding.attribute, finding.kind, finding.value, bright, strong)


def linked_pair(atlas: Atlas) -> tuple[int, ...]:
    """Return the two attributes that the paper compares, lower index first; () if one lacks."""
    plain = {plain_name(name): index for index, name in enumerate(atlas.attributes)}
    linked = sorted(plain[name] for name in map(plain_name, LINKED_PAIR) if name in plain)
    return tuple(linked) if len(linked) == len(LINKED_PAIR) else ()


def pairs(atlas: Atlas) -> tuple[Pair, ...]:
    """Return the pairs of attributes that correlate most by their masks, and the paper's pair."""
    linked = linked_pair(atlas)
    first, second = np.triu_indices(len(atlas.attributes), 1)
    strength = np.nan_to_num(atlas.attribute_correlation[first, second], nan=-np.inf)
    order = np.argsort(-strength, kind="stable")[:PAIRS]
    chosen: list[tuple[int, ...]] = [(int(first[i]), int(second[i])) for i in order]
    if linked and linked not in chosen:
        chosen = [linked, *chosen[: PAIRS - 1]]
    return tuple(_pair(atlas, *pair) for pair in chosen)


def pair_top(atlas: Atlas) -> int:
    """Return how many channels of each attribute a pair is compared by."""
    return min(PAIR_TOP, max(1, atlas.channels // 3))


def choices(atlas: Atlas) -> dict[str, object]:
    """Return what the page's script needs to compare any two attributes."""
    first = pairs(atlas)[:1]
    start = [atlas.index(name) for pair in first for name in (pair.first, pair.second)] or [0, 0]
    return {
        "attributes": list(atlas.attributes),
        "start": start,
        "top": {
            reading: [top(row, pair_top(atlas)) for row in values]
            for reading, values in atlas.readings.items()
        },
    }


def _pair(atlas: Atlas, first: int, second: int) -> Pair:
    names = atlas.attributes[first], atlas.attributes[second]
    shared = atlas.shared_channels(*names, pair_top(atlas))
    return Pair(
        *names,
        common=shared.common,
        only_first=shared.only_a,
        only_second=shared.only_b,
        masks=float(atlas.attribute_correlation[first, second]),
        labels=float(atlas.label_correlation[first, second]),
    )
