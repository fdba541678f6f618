"""What ``evaluation.json`` says of maps and channels beside where maps point, checked while read.

Every section is read by a function of its own, which raises RunError where it is not what
``maskatlas evaluate`` writes.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, TypeVar

from maskatlas.errors import RunError
from maskatlas.report.measured import Bounds, Methods, bounds_of, measured_of, methods_of
from maskatlas.report.values import (
    count_of,
    list_of,
    names_of,
    number_of,
    numbers_of,
    table_of,
)

Table = Mapping[str, Any]
Curves = Mapping[str, tuple[float, ...]]
"""What is left after each step, by method or order; NaN where undefined."""

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Spread:
    """A number of every attribute, and their mean; NaN where undefined."""

    mean: float
    attributes: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Faithfulness:
    """What perturbed pixels say of maps."""

    images: int
    methods: Methods
    insertion: Curves
    deletion: Curves


@dataclass(frozen=True, slots=True)
class MapMeasures:
    """Sensitivity, or simplicity, of maps."""

    images: int
    methods: Methods


@dataclass(frozen=True, slots=True)
class Removal:
    """What is left as channels go in one order."""

    logit: tuple[float, ...]
    auroc: tuple[float, ...]
    area: Bounds | None
    """Between the random order's curve of logits and this one; None for the random order."""
    auroc_area: Bounds | None
    """The same of AUROC."""


@dataclass(frozen=True, slots=True)
class ChannelFaithfulness:
    """What removed channels say of how important they were called."""

    images: int
    completeness_error: float
    removal: Mapping[str, Removal]
    agreement: Mapping[str, Bounds]
    """Rank correlation with what removing a channel does, by names such as ``mask-logit``."""


@dataclass(frozen=True, slots=True)
class Specificity:
    """How alike the maps of two attributes are: the mean over all pairs, by method."""

    images: int
    similarity: Mapping[str, Bounds]


@dataclass(frozen=True, slots=True)
class MaskExchange:
    """What becomes of an attribute (row) that is given the mask of another (column)."""

    images: int
    attributes: tuple[str, ...]
    mean: Mapping[str, Bounds]
    """Change of ``logit``, ``accuracy`` and ``auroc``, over all pairs."""
    logit: tuple[tuple[float, ...], ...]


@dataclass(frozen=True, slots=True)
class Stage:
    """What is left of a method's maps when some weights are random."""

    layer: str
    magnitude: Bounds
    chance: float


@dataclass(frozen=True, slots=True)
class Randomization:
    """The stages of each method, in order."""

    images: int
    methods: Mapping[str, tuple[Stage, ...]]
    networks: int
    """Random networks over which correlations were averaged; 0 where that was not done."""
    expected: Mapping[str, tuple[Bounds, float]]
    """Absolute value of that average, and what it is by chance."""


@dataclass(frozen=True, slots=True)
class SeedAgreement:
    """What the network has in common with one of another seed, once channels are matched."""

    channels: Bounds
    """Mean correlation of the features of matched channels."""
    readings: Mapping[str, Bounds]
    """Mean rank correlation over channels of an attribute's importance, by reading."""
    methods: Methods


@dataclass(frozen=True, slots=True)
class ChannelSimplicity:
    """How few channels serve an attribute, and which serve none or do the same."""

    images: int
    channels: int
    dead: tuple[int, ...]
    duplicates: tuple[tuple[int, int, float], ...]
    """Two ids, and their correlation."""
    gini: Mapping[str, Spread]
    """Of importance over channels, by reading."""


@dataclass(frozen=True, slots=True)
class Judgements:
    """The sections that are there; None for the others."""

    faithfulness: Faithfulness | None
    channel_faithfulness: ChannelFaithfulness | None
    specificity: Specificity | None
    mask_exchange: MaskExchange | None
    randomization: Randomization | None
    sensitivity: MapMeasures | None
    seed_agreement: Mapping[str, SeedAgreement] | None
    """By the other network's name."""
    map_simplicity: MapMeasures | None
    channel_simplicity: ChannelSimplicity | None


def read_judgements(explanations: Table, place: str) -> Judgements | None:
    """Read the sections; None where there is none of them.

    Raises:
        RunError: A section is not what ``maskatlas evaluate`` writes.
    """

    def section(name: str, read: Callable[[Table, str], _T]) -> _T | None:
        found, inside = explanations.get(name), f"{place}.{name}"
        return None if found is None else read(table_of(found, inside), inside)

    if all(explanations.get(field.name) is None for field in fields(Judgements)):
        return None
    return Judgements(
        faithfulness=section("faithfulness", _faithfulness),
        channel_faithfulness=section("channel_faithfulness", _channel_faithfulness),
        specificity=section("specificity", _specificity),
        mask_exchange=section("mask_exchange", _mask_exchange),
        randomization=section("randomization", _randomization),
        sensitivity=section("sensitivity", _map_measures),
        seed_agreement=section("seed_agreement", _seed_agreements),
        map_simplicity=section("map_simplicity", _map_measures),
        channel_simplicity=section("channel_simplicity", _channel_simplicity),
    )


def _faithfulness(found: Table, place: str) -> Faithfulness:
    curves = {
        method: table_of(value, f"{place}.curves.{method}")
        for method, value in table_of(found.get("curves"), f"{place}.curves").items()
    }
    insertion, deletion = (
        {m: numbers_of(curve, kind, f"{place}.curves.{m}") for m, curve in curves.items()}
        for kind in ("insertion", "deletion")
    )
    return Faithfulness(
        count_of(found, "images", place), methods_of(found, place), insertion, deletion
    )


def _map_measures(found: Table, place: str) -> MapMeasures:
    return MapMeasures(count_of(found, "images", place), methods_of(found, place))


def _channel_faithfulness(found: Table, place: str) -> ChannelFaithfulness:
    orders = table_of(found.get("removal"), f"{place}.removal")
    return ChannelFaithfulness(
        images=count_of(found, "images", place),
        completeness_error=number_of(found, "completeness_error", place),
        removal={
            name: _removal(order, f"{place}.removal.{name}") for name, order in orders.items()
        },
        agreement={
            name: bounds_of(value, f"{place}.agreement.{name}")
            for name, value in table_of(found.get("agreement"), f"{place}.agreement").items()
        },
    )


def _removal(found: object, place: str) -> Removal:
    order = table_of(found, place)
    area = order.get("logit_area")
    return Removal(
        logit=numbers_of(order, "logit", place),
        auroc=numbers_of(order, "auroc", place),
        area=None if area is None else measured_of(area, f"{place}.logit_area").overall,
        auroc_area=None if area is None else _bounds(order, "auroc_area", place),
    )


def _bounds(found: Table, key: str, place: str) -> Bounds:
    """Read a mean and its interval, or a mean alone, as earlier versions wrote it."""
    if isinstance(found.get(key), dict):
        return bounds_of(found[key], f"{place}.{key}")
    return Bounds(number_of(found, key, place), math.nan, math.nan)


def _spreads(found: Table, key: str, place: str) -> dict[str, Spread]:
    spreads = {}
    for name, value in table_of(found.get(key), f"{place}.{key}").items():
        inside = f"{place}.{key}.{name}"
        spread = table_of(value, inside)
        rows = table_of(spread.get("attributes"), f"{inside}.attributes")
        attributes = {attribute: number_of(rows, attribute, inside) for attribute in rows}
        spreads[name] = Spread(number_of(spread, "mean", inside), attributes)
    return spreads


def _specificity(found: Table, place: str) -> Specificity:
    similarity = {}
    for method, value in table_of(found.get("methods"), f"{place}.methods").items():
        inside = f"{place}.methods.{method}"
        similarity[method] = bounds_of(
            {"low": None, "high": None, **table_of(value, inside)}, inside
        )
    return Specificity(count_of(found, "images", place), similarity)


def _mask_exchange(found: Table, place: str) -> MaskExchange:
    attributes = names_of(found, "attributes", place)
    mean = table_of(found.get("mean"), f"{place}.mean")
    rows = [numbers_of({"logit": row}, "logit", place) for row in list_of(found, "logit", place)]
    if [len(row) for row in rows] != len(attributes) * [len(attributes)]:
        raise RunError(
            f"{place}: expected `logit` with a row and a column for each of the "
            f"{len(attributes)} attributes, found {len(rows)} rows of other lengths"
        )
    return MaskExchange(
        images=count_of(found, "images", place),
        attributes=attributes,
        mean={k: _bounds(mean, k, f"{place}.mean") for k in ("logit", "accuracy", "auroc")},
        logit=tuple(rows),
    )


def _randomization(found: Table, place: str) -> Randomization:
    methods = table_of(found.get("methods"), f"{place}.methods")
    expected = table_of(found.get("expected", {}), f"{place}.expected")
    return Randomization(
        images=count_of(found, "images", place),
        methods={
            name: _stages(list_of(methods, name, f"{place}.methods"), f"{place}.methods.{name}")
            for name in methods
        },
        networks=count_of(found, "networks", place) if expected else 0,
        expected={
            name: _expected(value, f"{place}.expected.{name}") for name, value in expected.items()
        },
    )


def _expected(found: object, place: str) -> tuple[Bounds, float]:
    return bounds_of(found, place), number_of(table_of(found, place), "chance", place)


def _stages(found: Sequence[object], place: str) -> tuple[Stage, ...]:
    stages = [table_of(value, place) for value in found]
    return tuple(
        Stage(
            layer=str(stage.get("layer")),
            magnitude=bounds_of(stage.get("magnitude"), f"{place}.magnitude"),
            chance=number_of(stage, "chance", place),
        )
        for stage in stages
    )


def _seed_agreements(found: Table, place: str) -> dict[str, SeedAgreement]:
    agreements = {}
    for name in found:
        inside = f"{place}.{name}"
        other = table_of(found[name], inside)
        readings = table_of(other.get("readings"), f"{inside}.readings")
        agreements[name] = SeedAgreement(
            channels=_bounds(other, "channel_correlation", inside),
            readings={reading: _bounds(readings, reading, inside) for reading in readings},
            methods=methods_of({"methods": other.get("maps")}, inside),
        )
    return agreements


def _channel_simplicity(found: Table, place: str) -> ChannelSimplicity:
    return ChannelSimplicity(
        images=count_of(found, "images", place),
        channels=count_of(found, "channels", place),
        dead=_ids(found, "dead", place),
        duplicates=tuple(
            _duplicate(table_of(value, f"{place}.duplicates"), f"{place}.duplicates")
            for value in list_of(found, "duplicates", place)
        ),
        gini=_spreads(found, "gini", place),
    )


def _duplicate(found: Table, place: str) -> tuple[int, int, float]:
    ids = _ids(found, "channels", place)
    if len(ids) != 2:
        raise RunError(f"{place}: expected two ids for `channels`, found {len(ids)}")
    return ids[0], ids[1], number_of(found, "correlation", place)


def _ids(found: Table, key: str, place: str) -> tuple[int, ...]:
    return tuple(count_of({key: value}, key, place) for value in list_of(found, key, place))
