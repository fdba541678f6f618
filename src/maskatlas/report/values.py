"""Values of JSON files that somebody else may have written, checked while they are read.

Each raises RunError, naming the place, where the value is of another kind.
"""

import math
from collections.abc import Mapping
from typing import Any

from maskatlas.errors import RunError


def table_of(value: object, where: str) -> Mapping[str, Any]:
    """Return a JSON object."""
    if not isinstance(value, dict):
        raise RunError(f"{where}: expected a JSON object, found {value!r:.60}")
    return value


def number_of(table: Mapping[str, Any], key: str, where: str) -> float:
    """Return a number; NaN where it is null or absent, as an undefined measure is written."""
    return _number(table.get(key), key, where)


def numbers_of(table: Mapping[str, Any], key: str, where: str) -> tuple[float, ...]:
    """Return a list of numbers; NaN where one is null."""
    return tuple(_number(value, key, where) for value in list_of(table, key, where))


def list_of(table: Mapping[str, Any], key: str, where: str) -> list[Any]:
    """Return a JSON list."""
    value = table.get(key)
    if not isinstance(value, list):
        raise RunError(f"{where}: expected a list for `{key}`, found {value!r:.60}")
    return value


def names_of(table: Mapping[str, Any], key: str, where: str) -> tuple[str, ...]:
    """Return a list of names."""
    values = list_of(table, key, where)
    if not all(isinstance(value, str) for value in values):
        raise RunError(f"{where}: expected `{key}`, a list of names, found {values!r:.60}")
    return tuple(values)


def count_of(table: Mapping[str, Any], key: str, where: str) -> int:
    """Return a whole number of 0 or more."""
    value = table.get(key)
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise RunError(f"{where}: expected a count for `{key}`, found {value!r:.60}")
    return value


def _number(value: object, key: str, where: str) -> float:
    if value is None:
        return math.nan
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise RunError(f"{where}: expected a number for `{key}`, found {value!r:.60}")
    return float(value)
