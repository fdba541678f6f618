"""Table 3 as a figure: how right each attribute is."""

import math
from collections.abc import Mapping

from matplotlib.figure import Figure

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

Scores = Mapping[str, float | int | None]
"""Figures of one attribute by name, as :meth:`maskatlas.metrics.Metrics.rows` gives them."""
_SERIES = (
    ("accuracy", "accuracy", "o"),
    ("balanced_accuracy", "balanced accuracy", "s"),
    ("auroc", "AUROC", "D"),
)


def accuracy_chart(
    scores: Mapping[str, Scores], *, theme: Theme = LIGHT, width: float = WIDE
) -> Figure:
    """Draw accuracy, balanced accuracy and AUROC beside what always the commoner answer scores.

    Args:
        scores: By attribute; what is None or missing is left out. The best balanced stand on top.
        theme: Colours of the page.
        width: In inches.
    """
    names = sorted(
        scores, key=lambda name: (-_number(scores[name], "balanced_accuracy", -1.0), name)
    )
    labels = [shown(name) for name in names]
    left = min(text_width(labels) + 0.1, width * 0.45)
    high = 0.15 * max(1, len(names)) + 0.1
    with style(theme):
        figure = sheet(width, high + 0.65)
        axes = panel(figure, left, 0.3, width - left - 0.15, high)
        common = [100 * _majority(scores[name]) for name in names]
        axes.plot(common, range(len(names)), "|", color=theme.faint, markersize=7, label="majority")
        for series, (key, title, mark) in enumerate(_SERIES):
            values = [100 * _number(scores[name], key, math.nan) for name in names]
            axes.plot(
                values,
                range(len(names)),
                mark,
                color=theme.accents[series],
                markersize=3.6,
                label=title,
            )
        axes.set_yticks(range(len(names)), labels, parse_math=False)
        axes.set_ylim(len(names) - 0.4, -0.6)
        axes.grid(axis="y")
        axes.tick_params(axis="y", length=0)
        axes.set_xlabel("per cent", fontsize=SMALL)
        axes.legend(
            loc="lower right", bbox_to_anchor=(1, 1), ncols=4, columnspacing=0.9,
            handletextpad=0.2, borderpad=0.1,
        )  # fmt: skip
        return finish(figure)


def _number(scores: Scores, key: str, otherwise: float) -> float:
    value = scores.get(key)
    return otherwise if value is None or math.isnan(value) else float(value)


def _majority(scores: Scores) -> float:
    counts = [_number(scores, key, 0.0) for key in ("positives", "negatives")]
    return max(counts) / sum(counts) if sum(counts) else math.nan
