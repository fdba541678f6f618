"""How the training went, from the lines of ``metrics.jsonl``."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from maskatlas.figures.style import LIGHT, SMALL, WIDE, Theme, finish, panel, sheet, style
from maskatlas.statistics import ACTIVE

Lines = Sequence[Mapping[str, Any]]
_LOSS = {
    "loss_total": "total",
    "loss_binary": "sub-networks",
    "loss_multilabel": "multi-label",
    "loss_reconstruction": "reconstruction",
}
_RIGHT = {
    "val_accuracy": "accuracy",
    "val_balanced_accuracy": "balanced accuracy",
    "val_auroc": "AUROC",
}
_MASKS = {"mask_mean": "mean", "mask_active": f"share above {ACTIVE:g}"}


def training_curves(
    steps: Lines, epochs: Lines, *, theme: Theme = LIGHT, width: float = WIDE
) -> Figure:
    """Draw loss, validation and masks, each against the epoch.

    Args:
        steps: The lines of steps; what is missing, None or not finite is left out.
        epochs: The lines of epochs.
        theme: Colours of the page.
        width: In inches; below 5 the panels stand one below the other.
    """
    parts: tuple[tuple[str, Lines, Mapping[str, str]], ...] = (
        ("loss", steps, _LOSS),
        ("validation", epochs, _RIGHT),
        ("masks", steps, _MASKS),
    )
    across = 3 if width >= 5 else 1
    gap, left, high = 0.5, 0.42, 1.7
    side = (width - 0.05 - across * gap) / across
    with style(theme):
        figure = sheet(width, (high + 0.62) * math.ceil(len(parts) / across))
        for number, (title, lines, series) in enumerate(parts):
            row, column = divmod(number, across)
            axes = panel(
                figure,
                left + column * (side + gap),
                0.22 + row * (high + 0.62),
                side,
                high,
            )
            axes.set_title(title, fontsize=SMALL, pad=4)
            _curves(axes, lines, series, theme)
            if title == "loss":
                _logarithmic(axes)
            elif title == "masks":
                axes.set_ylim(0, 1)
        return finish(figure)


def _curves(axes: Axes, lines: Lines, series: Mapping[str, str], theme: Theme) -> None:
    for number, (key, title) in enumerate(series.items()):
        points = [(_number(line, "epoch"), _number(line, key)) for line in lines]
        points = [point for point in points if not any(map(math.isnan, point))]
        if points:
            mark = "o" if len(points) < 30 else "none"
            axes.plot(
                *np.array(points).T, marker=mark, markersize=2.5,
                color=theme.accents[number], label=title,
            )  # fmt: skip
    axes.set_xlabel("epoch", fontsize=SMALL, labelpad=1)
    axes.grid(visible=True)
    if axes.get_lines():
        axes.legend(
            loc="best", labelspacing=0.25, handlelength=1.2, handletextpad=0.4, borderpad=0.1
        )
    else:
        note = axes.text(0.5, 0.5, "not recorded", transform=axes.transAxes, ha="center")
        note.set_color(theme.faint)


def _number(line: Mapping[str, Any], key: str) -> float:
    value = line.get(key)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return math.nan
    return float(value)


def _logarithmic(axes: Axes) -> None:
    """Take a logarithmic scale, with plain numbers, where all values allow it."""
    values = [float(value) for line in axes.get_lines() for value in np.asarray(line.get_ydata())]
    if values and min(values) > 0:
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axes.yaxis.set_minor_formatter(lambda _value, _place: "")
