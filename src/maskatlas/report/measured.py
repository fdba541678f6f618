"""Means with intervals, of methods by measures, as ``evaluation.json`` has them."""

from collections.abc import Mapping
from dataclasses import dataclass

from maskatlas.report.values import number_of, table_of


@dataclass(frozen=True, slots=True)
class Bounds:
    """A mean and its interval; NaN where undefined."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Measured:
    """One measure of one method."""

    overall: Bounds
    difference: Bounds | None
    """From the method of reference; None for itself."""
    attributes: Mapping[str, Bounds]


Methods = Mapping[str, Mapping[str, Measured]]
"""By method, then by measure."""


def methods_of(section: Mapping[str, object], place: str) -> Methods:
    """Read every measure of every method from the ``methods`` of a section.

    Raises:
        RunError: It is not what ``maskatlas evaluate`` writes.
    """
    methods = {}
    for method, measures in table_of(section.get("methods"), f"{place}.methods").items():
        inside = f"{place}.methods.{method}"
        methods[method] = {
            name: measured_of(measured, f"{inside}.{name}")
            for name, measured in table_of(measures, inside).items()
        }
    return methods


def measured_of(found: object, place: str) -> Measured:
    """Read one measure."""
    table = table_of(found, place)
    difference = table.get("difference")
    rows = table_of(table.get("attributes"), f"{place}.attributes")
    return Measured(
        overall=bounds_of(table, place),
        difference=None if difference is None else bounds_of(difference, f"{place}.difference"),
        attributes={name: bounds_of(row, f"{place}.{name}") for name, row in rows.items()},
    )


def bounds_of(found: object, place: str) -> Bounds:
    """Read a mean and its interval."""
    table = table_of(found, place)
    return Bounds(*(number_of(table, key, place) for key in ("mean", "low", "high")))
