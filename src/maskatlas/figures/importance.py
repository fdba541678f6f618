"""The three readings of a channel's importance side by side, and how well they agree."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from maskatlas.analysis import Atlas
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
from maskatlas.importance import DISAGREE, Reading, top

TITLES: Mapping[Reading, str] = {
    "mask": "mean of the mask",
    "contribution": "mean |contribution|",
    "drop": "drop in AUROC",
}
_PAIRS = {
    "mask-contribution": "mask and contribution",
    "mask-drop": "mask and drop in AUROC",
    "contribution-drop": "contribution and drop in AUROC",
}
_MARKS = ("o", "s", "D")


def importance_readings(
    atlas: Atlas,
    attribute: str,
    *,
    n: int = 6,
    theme: Theme = LIGHT,
    width: float = WIDE / 2,
) -> Figure:
    """Draw the channels that any reading puts among its first n, by all readings.

    The last reading orders them: the causal one where it was measured. A reading's own first n are
    in its colour, the others faint.

    Args:
        atlas: What is drawn.
        attribute: Name.
        n: Number of channels from each reading.
        theme: Colours of the page.
        width: In inches.
    """
    row = atlas.index(attribute)
    readings = {by: values[row] for by, values in atlas.readings.items()}
    firsts = {by: top(values, n) for by, values in readings.items()}
    *_, judge = readings.values()
    chosen = sorted(set().union(*firsts.values()), key=lambda c: (-np.nan_to_num(judge[c]), c))
    left, gap = 0.4, 0.12
    side = (width - left - gap * (len(readings) - 1) - 0.05) / len(readings)
    high = 0.15 * max(1, len(chosen))
    with style(theme):
        figure = sheet(width, high + 0.62)
        for column, (by, values) in enumerate(readings.items()):
            axes = panel(figure, left + column * (side + gap), 0.24, side, high)
            colours = [
                theme.accents[column] if channel in firsts[by] else theme.grid for channel in chosen
            ]
            axes.barh(range(len(chosen)), values[chosen], color=colours, height=0.72)
            axes.set_title(TITLES[by], fontsize=SMALL, pad=4)
            _ids(axes, chosen if column == 0 else None, len(chosen))
            axes.locator_params(axis="x", nbins=2)
        return finish(figure)


def _ids(axes: Axes, channels: Sequence[int] | None, count: int) -> None:
    axes.set_ylim(count - 0.4, -0.6)
    axes.set_yticks(range(count), ["" if channels is None else str(c) for c in channels or ()]
                    or [""] * count)  # fmt: skip
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    axes.axvline(0, color=axes.spines["bottom"].get_edgecolor(), linewidth=0.6)
    if channels is not None:
        axes.set_ylabel("channel", fontsize=SMALL, labelpad=1)


def importance_agreement(
    atlas: Atlas,
    attributes: Sequence[str] | None = None,
    *,
    theme: Theme = LIGHT,
    width: float = WIDE,
) -> Figure:
    """Draw Spearman's correlation of every two readings, a row an attribute, the worst below.

    Args:
        atlas: What is drawn.
        attributes: Names; None means all.
        theme: Colours of the page.
        width: In inches.
    """
    names = atlas.attributes if attributes is None else tuple(attributes)
    rows = [atlas.index(name) for name in names]
    pairs = {pair: values[rows] for pair, values in atlas.importance_agreement().items()}
    judged = pairs.get("mask-drop", pairs["mask-contribution"])
    order = np.argsort(-np.nan_to_num(judged, nan=-2.0), kind="stable")
    labels = [shown(names[place]) for place in order]
    left = min(text_width(labels) + 0.1, width * 0.45)
    high = 0.15 * len(names) + 0.1
    with style(theme):
        figure = sheet(width, high + 0.4 + 0.16 * len(pairs))
        axes = panel(figure, left, 0.05 + 0.16 * len(pairs), width - left - 0.1, high)
        axes.axvspan(-1, DISAGREE, color=theme.grid, alpha=0.45, linewidth=0)
        axes.axvline(0, color=theme.faint, linewidth=0.6)
        for series, (pair, values) in enumerate(pairs.items()):
            axes.plot(
                values[order],
                range(len(names)),
                _MARKS[series],
                color=theme.accents[series],
                markersize=3.4,
                label=_PAIRS[pair],
            )
        axes.set_yticks(range(len(names)), labels, parse_math=False)
        axes.set(xlim=(-1, 1), ylim=(len(names) - 0.4, -0.6))
        axes.grid(axis="y")
        axes.tick_params(axis="y", length=0)
        axes.set_xlabel("rank correlation; shaded: they disagree", fontsize=SMALL)
        axes.legend(
            loc="lower left", bbox_to_anchor=(0, 1), borderpad=0.1, labelspacing=0.2,
            handletextpad=0.2, borderaxespad=0.1,
        )  # fmt: skip
        return finish(figure)
