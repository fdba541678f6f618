"""How time grows: what ``maskatlas bench heads`` measured along each axis."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator

from maskatlas.figures.style import LIGHT, SMALL, WIDE, Theme, finish, panel, sheet, shown, style

Points = Sequence[tuple[int, float]]


def growth_chart(
    axes: Mapping[str, Mapping[str, Points]], *, theme: Theme = LIGHT, width: float = WIDE
) -> Figure:
    """Draw time over what grows, a panel for each axis, both logarithmic.

    A faint line through each curve's last point is what would be linear.

    Args:
        axes: For each axis, by name, the curves by name: value and seconds.
        theme: Colours of the page.
        width: In inches; below 5 the panels stand one below the other.
    """
    across = max(1, len(axes)) if width >= 5 else 1
    gap, left, high = 0.55, 0.5, 1.7
    side = (width - left - 0.05 - (across - 1) * gap) / across
    rows = -(-len(axes) // across)
    with style(theme):
        figure = sheet(width, (high + 0.7) * max(1, rows))
        for number, (title, curves) in enumerate(axes.items()):
            row, column = divmod(number, across)
            place = panel(
                figure, left + column * (side + gap), 0.22 + row * (high + 0.7), side, high
            )
            _curves(place, curves, theme)
            place.set_xlabel(shown(title), fontsize=SMALL, labelpad=1)
            if column == 0:
                place.set_ylabel("ms", fontsize=SMALL, labelpad=1)
        return finish(figure)


def _curves(axes: Axes, curves: Mapping[str, Points], theme: Theme) -> None:
    for number, (name, points) in enumerate(curves.items()):
        values, seconds = np.array(points, float).T
        colour = theme.accents[number % len(theme.accents)]
        linear = 1e3 * seconds[-1] * values / values[-1]
        axes.plot(values, linear, color=theme.grid, zorder=1)
        axes.plot(values, 1e3 * seconds, "o-", markersize=2.5, color=colour, label=shown(name))
    axes.set_xscale("log")
    axes.set_yscale("log")
    ticks = sorted({value for points in curves.values() for value, _ in points})
    axes.set_xticks(ticks, [str(tick) for tick in ticks])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.yaxis.set_minor_locator(NullLocator())
    if curves:
        axes.legend(loc="best", labelspacing=0.25, handlelength=1.2, borderpad=0.1)
