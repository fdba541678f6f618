"""Sections of a configuration: frozen dataclasses whose annotations are all that is allowed.

The schema is closed. A key that is not a field is an error, a value of another type is an error,
and nothing is ever imported or called because a file names it.
"""

import dataclasses
import difflib
import reprlib
import sys
import types
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from maskatlas.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Check:
    """A condition that a type alone does not say; it stands in the annotation of a field."""

    expected: str
    """The condition in the words of an error."""
    holds: Callable[[Any], object]


@dataclass(frozen=True, slots=True)
class Section:
    """Base of the parts of a configuration; one that holds a wrong value cannot be made.

    Raises:
        ConfigError: A field has a value of the wrong type or out of its range.
    """

    def __post_init__(self) -> None:
        for name, hint in _hints(type(self)).items():
            _read(hint, getattr(self, name), f"{type(self).__name__}.{name}")


_Section = TypeVar("_Section", bound=Section)


def from_mapping(
    cls: type[_Section], mapping: object, where: str, base: _Section | None = None
) -> _Section:
    """Builds a section from plain values.

    Args:
        cls: The section to build.
        mapping: Keys and values as TOML or JSON give them; a list stands for a tuple.
        where: What errors call the mapping, such as the name of its file.
        base: Gives the values of the fields that are not in the mapping; the defaults otherwise.

    Raises:
        ConfigError: An unknown key, a value of the wrong type, or one out of its range.
    """
    if not isinstance(mapping, Mapping):
        raise _wrong(where, "a table of settings", mapping)
    hints = _hints(cls)
    values = {}
    for key, value in mapping.items():
        if key not in hints:
            raise ConfigError(f"{where}: unknown key {_show(key)}; {_valid_keys(cls, str(key))}")
        inside = f"{where}.{key}" if ": " in where else f"{where}: {key}"
        if _is_section(hints[key]):
            values[key] = from_mapping(hints[key], value, inside, base and getattr(base, key))
        else:
            values[key] = _read(hints[key], value, inside)
    try:
        return cls(**values) if base is None else dataclasses.replace(base, **values)
    except ConfigError as error:  # each value is right, but not beside the others
        raise ConfigError(f"{where}: {error}") from error


def to_mapping(section: Section) -> dict[str, Any]:
    """Every field of the section in plain values; what :func:`from_mapping` reads."""
    return {name: _plain(getattr(section, name)) for name in _hints(type(section))}


_SCALARS: dict[Any, tuple[str, tuple[type, ...]]] = {
    bool: ("true or false", (bool,)),
    int: ("a whole number", (int,)),
    float: ("a finite number", (float, int)),
    str: ("a text", (str,)),
}
"""The words for a type in errors, and the exact types that may stand for it."""


def _hints(cls: type[Section]) -> dict[str, Any]:
    return get_type_hints(cls, include_extras=True)


def _plain(value: Any) -> Any:
    if isinstance(value, Section):
        return to_mapping(value)
    return [_plain(item) for item in value] if isinstance(value, tuple) else value


def _valid_keys(cls: type[Section], key: str) -> str:
    # The key may belong to a section further down, such as `epochs` without `[train]`.
    paths = {path.rpartition(".")[2]: path for path in reversed([*_paths(cls)])}
    close = difflib.get_close_matches(key, paths, n=1)
    if close:
        return f"the nearest valid key is {paths[close[0]]}"
    return f"valid keys are {', '.join(_hints(cls))}"


def _paths(cls: type[Section], prefix: str = "") -> Iterator[str]:
    for name, hint in _hints(cls).items():
        yield prefix + name
        if _is_section(hint):
            yield from _paths(hint, f"{prefix}{name}.")


def _is_section(hint: Any) -> bool:
    return isinstance(hint, type) and issubclass(hint, Section)


def _read(hint: Any, value: Any, where: str) -> Any:
    """The value as the annotation `hint` wants it: checked, a list made a tuple, an int a float."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Annotated:
        value = _read(arguments[0], value, where)
        for check in arguments[1:]:
            if isinstance(check, Check) and not check.holds(value):
                raise _wrong(where, check.expected, value)
        return value
    if origin in (Union, types.UnionType):
        return None if value is None else _read(arguments[0], value, where)
    if origin is tuple:
        return _read_tuple(arguments, value, where)
    if origin is Literal:
        if isinstance(value, str) and value in arguments:
            return value
        close = difflib.get_close_matches(str(value), arguments, n=1)
        nearest = f"; the nearest is {close[0]}" if close else ""
        raise _wrong(where, f"one of {', '.join(arguments)}", value, nearest)
    if _is_section(hint):
        if isinstance(value, hint):
            return value
        raise _wrong(where, f"a {hint.__name__}", value)
    expected, accepted = _SCALARS[hint]
    if type(value) in accepted and (hint is not float or abs(value) <= sys.float_info.max):
        return hint(value)
    raise _wrong(where, expected, value)


def _read_tuple(items: tuple[Any, ...], value: Any, where: str) -> tuple[Any, ...]:
    if not isinstance(value, list | tuple):
        raise _wrong(where, "a list", value)
    if items[-1] is ...:
        items = items[:1] * len(value)
    if len(items) != len(value):
        raise _wrong(where, f"a list of {len(items)}", value)
    return tuple(
        _read(item, element, f"{where}[{position}]")
        for position, (item, element) in enumerate(zip(items, value, strict=True))
    )


def _wrong(where: str, expected: str, found: object, advice: str = "") -> ConfigError:
    return ConfigError(f"{where}: expected {expected}, found {_show(found)}{advice}")


def _show(value: object) -> str:
    try:
        return reprlib.repr(value)
    except ValueError:  # Python does not print whole numbers of more than 4,300 digits
        return f"a {type(value).__name__} too long to show"
