"""Figure 4 and table 2 as heat maps, and the dendrogram that orders them."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure

from maskatlas import clustering
from maskatlas.analysis import Atlas
from maskatlas.figures.colours import SIGNED_MAP, diverging_colours
from maskatlas.figures.grids import colour_scale
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

_SCALE = 0.5
_LINE = 0.115


def channel_correlation(
    atlas: Atlas,
    *,
    clustered: bool = True,
    centred: bool = False,
    theme: Theme = LIGHT,
    width: float = WIDE / 2,
) -> Figure:
    """Draw figure 4, the correlation of the channels.

    Args:
        atlas: What is drawn.
        clustered: In the order of the dendrogram, else in that of the ids.
        centred: Take the centred correlation.
        theme: Colours of the page.
        width: In inches.
    """
    table = atlas.channel_correlation_centred if centred else atlas.channel_correlation
    ids = list(range(atlas.channels))
    if clustered:
        ids = list(clustering.leaf_order(clustering.linkage(table)))
    margin = 0.3
    side = width - margin - 0.1
    step = max(1, -(-len(ids) // int(side / 0.12)))
    places = range(0, len(ids), 1 if step == 1 else _round_step(step))
    with style(theme):
        figure = sheet(width, side + 0.25 + _SCALE)
        axes = panel(figure, margin, 0.05, side, side)
        _heat(axes, table[np.ix_(ids, ids)], 1.0)
        if clustered and step > 1:
            axes.set(xticks=[], yticks=[])
            axes.set_xlabel("channels, the most alike side by side", fontsize=SMALL, labelpad=3)
        else:
            labels = [str(ids[place]) for place in places]
            axes.set_xticks(list(places), labels, rotation=90)
            axes.set_yticks(list(places), labels)
        scale = panel(figure, margin, side + 0.33, min(side, 2.0), 0.09)
        colour_scale(figure, scale, SIGNED_MAP, (-1.0, 1.0), "correlation")
        return finish(figure)


def _round_step(step: int) -> int:
    """Return the next step that ids are usually counted in."""
    return next(size for size in (2, 4, 8, 16, 32, 64, 128, step) if size >= step)


def attribute_correlation(
    atlas: Atlas,
    attributes: Sequence[str] | None = None,
    *,
    clustered: bool = True,
    centred: bool = False,
    theme: Theme = LIGHT,
    width: float = WIDE,
) -> Figure:
    """Draw the correlation of the attributes, estimated from their masks.

    Names stand on the left, with numbers; below, the numbers alone where names would not fit.

    Args:
        atlas: What is drawn.
        attributes: Names, and their order; None means all.
        clustered: In the order of the dendrogram, where no names are given.
        centred: Take the centred correlation.
        theme: Colours of the page.
        width: In inches.
    """
    table = atlas.attribute_correlation_centred if centred else atlas.attribute_correlation
    if attributes is not None:
        order = [atlas.index(name) for name in attributes]
    elif clustered:
        order = list(clustering.leaf_order(clustering.linkage(table)))
    else:
        order = list(range(len(atlas.attributes)))
    names = [atlas.attributes[row] for row in order]
    return named_heat(names, table[np.ix_(order, order)], 1.0, "correlation", theme, width)


def named_heat(
    attributes: Sequence[str],
    table: Float[np.ndarray, "attribute attribute"],
    limit: float,
    title: str,
    theme: Theme,
    width: float,
) -> Figure:
    """Draw a table of attributes by attributes in colours.

    Args:
        attributes: Names, shown beside the rows, with numbers that stand for the columns.
        table: Signed values; NaN is grey.
        limit: Of the scale, on both sides of 0.
        title: Of the scale.
        theme: Colours of the page.
        width: In inches.
    """
    count = len(attributes)
    names = [shown(name, 22) for name in attributes]
    left = min(text_width(names) + 0.3, width / 2)
    side = min(width - left - 0.1, max(1.0, count * 0.3))
    high = max(side, count * _LINE)
    step = next(step for step in (1, 2, 5, 10, 20, 50, 100) if side * step / count >= 0.13)
    numbers = [str(number) for number in range(1, count + 1)]
    with style(theme):
        figure = sheet(left + side + 0.1, high + 0.3 + _SCALE)
        axes = panel(figure, left, 0.05, side, high)
        _heat(axes, table, limit)
        axes.set_xticks(range(step - 1, count, step), numbers[step - 1 :: step])
        labels = [f"{name}  {number}" for name, number in zip(names, numbers, strict=True)]
        axes.set_yticks(range(count), labels, parse_math=False)
        axes.tick_params(length=0)
        scale = panel(figure, left, high + 0.32, min(side, 2.0), 0.09)
        colour_scale(figure, scale, SIGNED_MAP, (-limit, limit), title)
        return finish(figure)


def _heat(axes: Axes, table: Float[np.ndarray, "row column"], limit: float) -> None:
    axes.imshow(diverging_colours(table, limit), interpolation="nearest", aspect="auto")
    axes.spines[:].set_visible(False)
    axes.tick_params(length=1.5, pad=1.5)


def dendrogram(
    atlas: Atlas,
    *,
    count: int | None = None,
    threshold: float | None = None,
    centred: bool = False,
    theme: Theme = LIGHT,
    width: float = WIDE,
) -> Figure:
    """Draw how attributes merge into groups, the groups of the chosen cut in colours.

    Args:
        atlas: With at least two attributes.
        count: Number of groups, as in :meth:`maskatlas.analysis.Atlas.groups`.
        threshold: Or the correlation at which merging ends.
        centred: Take the centred correlation.
        theme: Colours of the page.
        width: In inches.
    """
    merges = atlas.linkage(centred=centred)
    groups = atlas.groups(count, threshold, centred=centred)
    group_of = {name: number for number, group in enumerate(groups) for name in group}
    names = [atlas.attributes[item] for item in clustering.leaf_order(merges)]
    left = min(text_width([shown(name) for name in names], SMALL) + 0.15, width * 0.45)
    high = max(0.6, 0.155 * len(names))
    with style(theme):
        figure = sheet(width, high + 0.5)
        axes = panel(figure, left, 0.05, width - left - 0.1, high)
        places = np.arange(len(names))
        axes.set_yticks(places, [shown(name) for name in names], parse_math=False)
        for label, name in zip(axes.get_yticklabels(), names, strict=True):
            label.set_color(_colour(theme, group_of[name]))
        axes.add_collection(_tree(merges, [group_of[name] for name in names], theme))
        axes.set_ylim(len(names) - 0.4, -0.6)
        farthest = float(merges[:, 2].max(initial=0.01))
        axes.set_xlim(1 - farthest * 1.04, 1)
        axes.invert_xaxis()
        axes.set_xlabel("mean correlation at which groups merge", fontsize=SMALL)
        axes.spines["left"].set_visible(False)
        axes.tick_params(axis="y", length=0)
        return finish(figure)


def _colour(theme: Theme, group: int) -> str:
    return theme.accents[group % len(theme.accents)]


def _tree(merges: clustering.Linkage, groups: Sequence[int], theme: Theme) -> LineCollection:
    """Return the lines: along x the correlation, along y the leaves, coloured within a group.

    Args:
        merges: Nearest first, so that those within a group come before those between groups.
        groups: Group of each leaf, from the top.
        theme: Colours of the page.
    """
    order = clustering.leaf_order(merges)
    ends = {item: (1.0, float(place), groups[place]) for place, item in enumerate(order)}
    lines, colours = [], []
    within = len(order) - len(set(groups))
    for step, (first, second, distance, _) in enumerate(merges):
        (x, y, group), (other_x, other_y, _) = ends[int(first)], ends[int(second)]
        at = 1 - float(distance)
        lines.append([(x, y), (at, y), (at, other_y), (other_x, other_y)])
        colours.append(_colour(theme, group) if step < within else theme.faint)
        ends[len(order) + step] = at, (y + other_y) / 2, group
    return LineCollection(lines, colors=colours, linewidths=1.1)
