"""What becomes of the network as pixels or channels go, and as attributes exchange their masks."""

import math
from collections.abc import Collection, Mapping, Sequence

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from maskatlas.figures.correlations import named_heat
from maskatlas.figures.style import (
    LIGHT,
    SMALL,
    WIDE,
    Theme,
    finish,
    panel,
    sheet,
    shown,
    style,
    text_width,
)

_DASHES = ("-", "--", ":", "-.")
_LINE = 0.145
"""Height in inches of a line of the legend."""


def share_curves(
    panels: Mapping[str, Mapping[str, Sequence[float]]],
    *,
    along: str,
    at: Sequence[float] | None = None,
    faint: Collection[str] = (),
    theme: Theme = LIGHT,
    width: float = WIDE,
) -> Figure:
    """Draw what is left as something goes, or comes: one line for each series.

    Args:
        panels: By title, the values of each series, such as after every share, from none to all;
            what is not finite is left out.
        along: What goes or comes, and its unit.
        at: Where each value stands; None: at equal shares, from 0 to 100 %.
        faint: Series that only stand for what chance does.
        theme: Colours of the page.
        width: In inches; below 5 the panels stand one below the other.
    """
    names = list(dict.fromkeys(name for series in panels.values() for name in series))
    looks = _looks(names, faint, theme)
    across = min(len(panels), 2 if width >= 5 else 1)
    down = math.ceil(len(panels) / across)
    gap, left, high = 0.5, 0.42, 1.9
    side = (width - 0.05 - across * gap) / across
    columns = max(1, int(width / (text_width([shown(name) for name in names]) + 0.45)))
    legend = math.ceil(len(names) / columns) * _LINE + 0.1
    with style(theme):
        figure = sheet(width, (high + 0.62) * down + legend)
        for number, (title, series) in enumerate(panels.items()):
            row, column = divmod(number, across)
            place = left + column * (side + gap), 0.22 + row * (high + 0.62)
            axes = panel(figure, *place, side, high)
            axes.set_title(title, fontsize=SMALL, pad=4)
            axes.set_xlabel(along, fontsize=SMALL, labelpad=1)
            axes.grid(visible=True)
            for name, values in series.items():
                _line(axes, name, _shares(len(values)) if at is None else at, values, looks[name])
        handles = {name: _line(axes, name, (), (), looks[name]) for name in names}
        figure.legend(
            handles.values(), [shown(name) for name in handles], loc="lower left", ncols=columns,
            bbox_to_anchor=(0, 0), labelspacing=0.3, handlelength=1.8, handletextpad=0.5,
            columnspacing=1.2, borderpad=0.2,
        )  # fmt: skip
        return finish(figure)


def _looks(
    names: Sequence[str], faint: Collection[str], theme: Theme
) -> dict[str, tuple[str, str]]:
    """Return colour and dashes of each series; those that stand for chance are grey."""
    looks = {}
    for kind, colours in ((False, theme.accents), (True, (theme.faint,))):
        for number, name in enumerate(name for name in names if (name in faint) == kind):
            turn = number // len(colours) + kind
            looks[name] = colours[number % len(colours)], _DASHES[turn % len(_DASHES)]
    return looks


def _shares(count: int) -> Sequence[float]:
    """Return a number of percent for each of so many values."""
    found: list[float] = np.linspace(0, 100, count).tolist()
    return found


def _line(
    axes: Axes, name: str, at: Sequence[float], values: Sequence[float], look: tuple[str, str]
) -> Line2D:
    """Draw one series."""
    places, heights = np.array(at, dtype=float), np.array(values, dtype=float)
    there = np.isfinite(heights)
    colour, dashes = look
    (line,) = axes.plot(places[there], heights[there], color=colour, linestyle=dashes, label=name)
    return line


def mask_exchange(
    attributes: Sequence[str],
    change: Float[np.ndarray, "attribute attribute"],
    *,
    theme: Theme = LIGHT,
    width: float = WIDE,
) -> Figure:
    """Draw what becomes of the logits of each attribute (row) with the mask of another (column).

    Args:
        attributes: Names.
        change: Of the mean logit; NaN where undefined.
        theme: Colours of the page.
        width: In inches.
    """
    largest = float(np.nanmax(np.abs(change), initial=0))
    step = 10.0 ** math.floor(math.log10(largest)) if largest else 1.0
    limit = math.ceil(largest / step) * step or 1.0
    return named_heat(attributes, change, limit, "change of the logit", theme, width)
