"""``maskatlas shortcuts``."""

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import tyro

from maskatlas.cli import Talk
from maskatlas.cli.runs import is_first_process, progress_wanted
from maskatlas.cli.settings import parse_with_settings, split_commas, with_split_commas
from maskatlas.config import PRESETS, Config
from maskatlas.errors import ConfigError

if TYPE_CHECKING:
    from maskatlas.evaluation.shortcuts import ShortcutCurve


@dataclass(frozen=True, kw_only=True)
class Shortcuts(Talk):
    """Plant a shortcut in rendered faces, train networks on them, and see who finds it.

    One attribute copies another with some probability. Does the atlas name the pair, does the map
    move to the other's region, and is the network wrong where the two differ? One training for
    each probability and seed; --data.faces.count and --train.epochs say how long it takes. Typed
    again, it goes on where it stopped.
    """

    out: Path = Path("runs/shortcuts")
    """Folder for the runs, shortcuts.json, its page, shortcuts.html, and curves, shortcuts.png."""
    attribute: str = ""
    """The attribute that copies; Smiling by default."""
    source: str = ""
    """The attribute that is copied; Wearing_Hat by default."""
    probabilities: tuple[str, ...] = ("0,0.5,0.8,0.95",)
    """As A,B or A B."""
    seeds: tuple[str, ...] = ("0",)
    """Of the trainings, as A,B or A B."""
    methods: tuple[str, ...] = ()
    """Only the maps of these methods, as A,B or A B; `all` for every one. By default all but those
    that take long."""
    json: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Print one JSON object."""
    config: Path | None = None
    """A TOML file with settings."""
    settings: Annotated[Config, tyro.conf.arg(name="")] = field(
        default_factory=lambda: PRESETS["demo"]
    )

    def run(self) -> int:
        """Train and judge, and print what came out."""
        from maskatlas.interruption import Interrupted
        from maskatlas.report.shortcuts import PAGE, write_shortcuts
        from maskatlas.shortcut_trial import PAIR, shortcut_trial

        try:
            curve = shortcut_trial(
                with_split_commas(self.settings),
                self.out,
                pair=(self.attribute or PAIR[0], self.source or PAIR[1]),
                probabilities=_numbers(self.probabilities, float, "--probabilities"),
                seeds=_numbers(self.seeds, int, "--seeds"),
                methods=split_commas(self.methods) or None,
                progress=progress_wanted(self),
            )
        except Interrupted as interrupted:
            print(f"maskatlas shortcuts: {interrupted}", file=sys.stderr)  # noqa: T201
            return interrupted.exit_code
        result = curve.to_json()
        if is_first_process():
            write_shortcuts(self.out, result, curve.sights)
        text = json.dumps(result, indent=2, allow_nan=False)
        print(text if self.json else summary(curve, self.out / PAGE))  # noqa: T201
        return 0


def summary(curve: "ShortcutCurve", page: Path) -> str:
    """Return a table: a line for each network, a column for each method, the areas; the page."""
    names = [*curve.shares]
    widths = [max(len(name), 6) for name in names]
    first = curve.points[0]
    lines = [
        f"{first.attribute} copies {first.source}; columns: share of the map at the source "
        "(0.5 is neither)",
        _line("planted", "counter-examples", "named", names, widths),
    ]
    for point in curve.points:
        pair = point.pair
        named = "-" if pair is None else f"{pair.place or 'not'} of {pair.suspected}"
        if pair is not None and not pair.suspected:
            named = "none"
        shares = [f"{moved.share.mean:.3f}" for moved in point.methods]
        accuracy = f"{point.counter_accuracy:.3f}"
        lines.append(_line(f"{point.probability:g}", accuracy, named, shares, widths))
    areas = [f"{curve.moved(name):+.3f}" for name in names]
    return "\n".join([*lines, _line("area", f"{-curve.lost:+.3f}", "", areas, widths), str(page)])


def _line(first: str, second: str, third: str, cells: Sequence[str], widths: Sequence[int]) -> str:
    columns = [f"{cell:>{width}}" for cell, width in zip(cells, widths, strict=True)]
    return "  ".join([f"{first:>7}", f"{second:>16}", f"{third:>7}", *columns])


_Number = TypeVar("_Number", int, float)


def _numbers(words: Sequence[str], kind: type[_Number], flag: str) -> tuple[_Number, ...]:
    try:
        return tuple(kind(word) for word in split_commas(words))
    except ValueError:
        raise ConfigError(f"{flag}: expected numbers, as 1,2, found {' '.join(words)!r}") from None


def parse(words: Sequence[str], prog: str) -> Shortcuts:
    """Parse the command line after the verb."""
    return parse_with_settings(Shortcuts, words, prog, "demo")
