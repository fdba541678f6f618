"""Figure 1: the mean of each channel's mask, a grid an attribute, one cell a channel."""

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Colormap, Normalize
from matplotlib.figure import Figure

from maskatlas.analysis import Atlas
from maskatlas.figures.colours import MASK_MAP, grid_cells, grid_shape, mask_colours
from maskatlas.figures.style import (
    LIGHT,
    SMALL,
    WIDE,
    Theme,
    bare,
    finish,
    panel,
    sheet,
    shown,
    style,
)

_GRID = 1.28
_TITLE = 0.2
_GAP = 0.12
_SCALE = 0.52
INSET = 0.25
"""Left of a colour scale, so that the label of its first tick has room, in inches."""


def mask_grids(
    atlas: Atlas,
    attributes: Sequence[str] | None = None,
    *,
    theme: Theme = LIGHT,
    width: float = WIDE,
) -> Figure:
    """Draw figure 1, all attributes on one scale.

    Args:
        atlas: What is drawn.
        attributes: Names; None means all.
        theme: Colours of the page.
        width: In inches.
    """
    names = atlas.attributes if attributes is None else tuple(attributes)
    high = mask_limit(atlas)
    across = max(1, min(len(names), int((width + _GAP) / (_GRID + _GAP))))
    side = (width - (across - 1) * _GAP) / across
    rows, columns = grid_shape(atlas.channels)
    tall = side * rows / columns
    down = math.ceil(len(names) / across)
    with style(theme):
        figure = sheet(width, down * (tall + _TITLE + _GAP) + _SCALE)
        for number, name in enumerate(names):
            row, column = divmod(number, across)
            top = row * (tall + _TITLE + _GAP) + _TITLE
            axes = panel(figure, column * (side + _GAP), top, side, tall)
            cells = grid_cells(atlas.mask_mean[atlas.index(name)])
            axes.imshow(mask_colours(cells / high), interpolation="nearest", aspect="auto")
            length = int(side / (SMALL * 0.55 / 72))
            axes.set_title(shown(name, length), fontsize=SMALL, pad=2.5, parse_math=False)
            bare(axes)
        scale = panel(figure, INSET, down * (tall + _TITLE + _GAP) + 0.05, 2.0, 0.09)
        colour_scale(figure, scale, MASK_MAP, (0.0, high), "mean of the mask")
        return finish(figure)


def mask_limit(atlas: Atlas) -> float:
    """Return the end of the scale: the highest mean mask, rounded up to a tenth."""
    highest = float(np.nanmax(atlas.mask_mean, initial=0))
    return min(1.0, math.ceil(10 * highest - 1e-9) / 10) or 0.1


def colour_scale(
    figure: Figure, axes: Axes, colours: str | Colormap, limits: tuple[float, float], title: str
) -> None:
    """Draw what the colours mean into axes made for it."""
    scale = figure.colorbar(
        ScalarMappable(Normalize(*limits), colours), cax=axes, orientation="horizontal"
    )
    scale.outline.set_visible(False)
    scale.set_ticks(np.linspace(*limits, 3).tolist())
    scale.ax.tick_params(length=2, pad=1.5, labelsize=SMALL)
    scale.set_label(title, fontsize=SMALL, labelpad=1)
