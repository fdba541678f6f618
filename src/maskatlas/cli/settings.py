"""A preset, overridden by a file, overridden by flags."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import tyro

from maskatlas.config import PRESETS, Config, load_toml
from maskatlas.errors import ConfigError

_V = TypeVar("_V")


def parse_with_settings(verb: type[_V], words: Sequence[str], prog: str, preset: str) -> _V:
    """Parse a verb that has the fields ``config`` (a file) and ``settings`` (a Config).

    Args:
        verb: The dataclass of the verb.
        words: The command line after the verb.
        prog: What the help calls the command.
        preset: The preset to start from if neither a flag nor the file names one.

    Raises:
        ConfigError: No such preset, or a file that does not fit the schema.
    """
    named = _value_of("--preset", words)
    if named is not None and named not in PRESETS:
        raise ConfigError(f"--preset: expected one of {', '.join(PRESETS)}, found {named!r}")
    settings = PRESETS[named or preset]
    file = _value_of("--config", words)
    if file is not None:
        settings = load_toml(Path(file), settings)
    return tyro.cli(verb, args=words, prog=prog, default=verb(settings=settings))  # type: ignore[call-arg]


def split_commas(names: Sequence[str]) -> tuple[str, ...]:
    """Return ``a,b c`` as a, b, c: a list may be given either way."""
    return tuple(part for name in names for part in name.split(",") if part)


def with_split_commas(settings: Config) -> Config:
    """Return the settings with those lists taken apart."""
    return replace(
        settings,
        data=replace(settings.data, ignore=split_commas(settings.data.ignore)),
        train=replace(settings.train, splits=split_commas(settings.train.splits)),
    )


def _value_of(flag: str, words: Sequence[str]) -> str | None:
    """Return the last value of a flag, given as ``--flag value`` or ``--flag=value``."""
    value = None
    for word, following in zip(words, [*words, None][1:], strict=True):
        if word == flag:
            value = following
        elif word.startswith(f"{flag}="):
            value = word.removeprefix(f"{flag}=")
    return value
