"""Facts on whether explanations hold, beside where they point: a row for each method of maps."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from maskatlas.report.judgements import Judgements, Randomization, Stage
from maskatlas.report.measured import Bounds, Methods

FLOORS = ("random", "centre")
"""Maps that know nothing of the network: never called the best."""
MASKS_ALONE = "masks alone"
"""The stage at which no layer is random but what masks are computed from."""
EXACT = 1e-3
"""Contributions that miss the logit by more are wrong, and not only rounded."""


@dataclass(frozen=True, slots=True)
class Column:
    """A measure, as the table shows it."""

    title: str
    best: Callable[..., float]
    """Picks the best of some means: ``max`` or ``min``."""
    question: str
    """What it asks, in plain words."""


COLUMNS: Mapping[str, Column] = {
    "insertion": Column(
        "Insertion",
        max,
        "The image comes back out of a blur, the pixels that the map marks first. Does the network "
        "soon see the attribute? High is good.",
    ),
    "deletion": Column(
        "Deletion",
        min,
        "The same pixels go first. Does the network soon lose the attribute? Low is good.",
    ),
    "gain": Column(
        "Difference",
        max,
        "Insertion less deletion. It leaves out how confident the network is anyhow. High is good.",
    ),
    "relative_infidelity": Column(
        "Infidelity",
        min,
        "Squares of the image are covered. How much of what then happens did the map not foretell? "
        "0 is all foretold, 1 is no better than an empty map. Low is good.",
    ),
    "max_sensitivity": Column(
        "Sensitivity",
        min,
        "The image changes so little that nobody sees it. How much does the map change, as a share "
        "of itself? Low is good.",
    ),
    "similarity": Column(
        "Similarity",
        min,
        "Are the maps of two attributes of the same face alike? 1 is the same map for everything. "
        "Low is good, but for attributes that share a place.",
    ),
    "gini": Column(
        "Gini",
        max,
        "Is the map concentrated in few places? 0 is spread evenly, 1 a single point. High is easy "
        "to read, and says nothing about being true.",
    ),
}
"""By the name of the measure."""


@dataclass(frozen=True, slots=True)
class Cell:
    """One measure of one method."""

    bounds: Bounds
    best: bool


@dataclass(frozen=True, slots=True)
class Left:
    """What is left of a method's maps at one stage."""

    stage: Stage
    above: bool
    """More is left than chance, by more than the interval."""


@dataclass(frozen=True, slots=True)
class JudgedFacts:
    """Everything that the section shows."""

    judgements: Judgements
    columns: tuple[Column, ...]
    """Those that were measured."""
    rows: tuple[tuple[str, tuple[Cell | None, ...]], ...]
    """By method; None where a method was not measured so."""
    images: int
    """On which the table's measures were taken."""
    layers: tuple[tuple[str, tuple[Left | None, ...]], ...]
    """What is left as layer after layer is random, with a cell for each method."""
    masks_alone: str | None
    """The name of the row in which the masks alone are random, if there is one."""
    exact: bool
    """Contributions add up to the logit, but for rounding."""
    drops: tuple[str, ...]
    """What a channel's removal was seen to change."""
    readings: tuple[tuple[str, tuple[Bounds | None, ...]], ...]
    """Agreement of each reading of importance with each of these drops."""
    seed_columns: tuple[tuple[str, ...], tuple[str, ...]]
    """Readings of importance, and methods, by which it is compared with networks of other seeds."""


def judged_facts(judgements: Judgements | None) -> JudgedFacts | None:
    """Return the facts, or None where nothing was judged."""
    if judgements is None:
        return None
    measures = _measures(judgements)
    shown = [name for name in COLUMNS if name in measures]
    methods = tuple(dict.fromkeys(method for name in shown for method in measures[name]))
    best = {name: _best(COLUMNS[name], measures[name]) for name in shown}
    channels = judgements.channel_faithfulness
    drops, readings = _readings(judgements)
    layers = _layers(judgements.randomization)
    return JudgedFacts(
        judgements=judgements,
        columns=tuple(COLUMNS[name] for name in shown),
        rows=tuple(
            (method, tuple(_cell(measures[name].get(method), method, best[name]) for name in shown))
            for method in methods
        ),
        images=_images(judgements),
        layers=layers,
        masks_alone=MASKS_ALONE if MASKS_ALONE in dict(layers) else None,
        exact=channels is not None and channels.completeness_error <= EXACT,
        drops=drops,
        readings=readings,
        seed_columns=_seed_columns(judgements),
    )


def _measures(judgements: Judgements) -> dict[str, dict[str, Bounds]]:
    """Return the overall value of each measure by method, of those that were measured."""
    sections = (judgements.faithfulness, judgements.sensitivity, judgements.map_simplicity)
    found: dict[str, dict[str, Bounds]] = {}
    for section in sections:
        if section is not None:
            _add(found, section.methods)
    if judgements.specificity is not None:
        found["similarity"] = dict(judgements.specificity.similarity)
    return found


def _add(found: dict[str, dict[str, Bounds]], methods: Methods) -> None:
    for method, measures in methods.items():
        for name, measured in measures.items():
            found.setdefault(name, {})[method] = measured.overall


def _best(column: Column, values: Mapping[str, Bounds]) -> float:
    """Return the best mean of the methods that know the network; NaN if there is none."""
    means = [bounds.mean for method, bounds in values.items() if method not in FLOORS]
    return column.best((mean for mean in means if not math.isnan(mean)), default=math.nan)


def _cell(bounds: Bounds | None, method: str, best: float) -> Cell | None:
    if bounds is None:
        return None
    return Cell(bounds, best=method not in FLOORS and bounds.mean == best)


def _images(judgements: Judgements) -> int:
    """Return on how many images maps were judged; the most, where measures differ."""
    sections = (
        judgements.faithfulness,
        judgements.sensitivity,
        judgements.specificity,
        judgements.map_simplicity,
    )
    return max((section.images for section in sections if section is not None), default=0)


def _layers(found: Randomization | None) -> tuple[tuple[str, tuple[Left | None, ...]], ...]:
    """Return a row for each layer, in the order in which they became random."""
    if found is None:
        return ()
    by_layer: dict[str, dict[str, Left]] = {}
    for method, stages in found.methods.items():
        for stage in stages:
            above = stage.magnitude.low > stage.chance
            by_layer.setdefault(stage.layer, {})[method] = Left(stage, above)
    return tuple(
        (layer, tuple(row.get(method) for method in found.methods))
        for layer, row in by_layer.items()
    )


def _seed_columns(judgements: Judgements) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the readings and the methods that all other networks were compared by."""
    others = list((judgements.seed_agreement or {}).values())
    if not others:
        return (), ()
    readings = [r for r in others[0].readings if all(r in other.readings for other in others)]
    methods = [
        method
        for method in others[0].methods
        if all("agreement" in other.methods.get(method, {}) for other in others)
    ]
    return tuple(readings), tuple(methods)


def _readings(
    judgements: Judgements,
) -> tuple[tuple[str, ...], tuple[tuple[str, tuple[Bounds | None, ...]], ...]]:
    """Return the kinds of drops, and each reading's agreement with them."""
    if judgements.channel_faithfulness is None:
        return (), ()
    agreement = judgements.channel_faithfulness.agreement
    split = {name: name.rpartition("-") for name in agreement}
    drops = tuple(dict.fromkeys(drop for _, _, drop in split.values()))
    readings = dict.fromkeys(reading for reading, _, _ in split.values())
    table = {(r, drop): agreement[name] for name, (r, _, drop) in split.items()}
    return drops, tuple(
        (reading, tuple(table.get((reading, drop)) for drop in drops)) for reading in readings
    )
