"""What all figures have in common: colours of the page, fonts, and names made fit to be drawn.

Names are data. They are never parsed as formulas, characters that no font has are written as their
code, and what would steer the line (control and direction marks) is taken out.
"""

import unicodedata
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cache
from typing import Any

import matplotlib
from matplotlib import font_manager
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Text


@dataclass(frozen=True, slots=True)
class Theme:
    """Colours for one kind of paper; the figures themselves are transparent."""

    ink: str
    """Text and axes."""
    faint: str
    """Text of less weight."""
    grid: str
    """Lines behind the data."""
    panel: str
    """The paper, where something must be hidden."""
    accents: tuple[str, ...]
    """Series, told apart by people who do not see all colours, too."""


LIGHT = Theme(
    ink="#1c2126",
    faint="#67707a",
    grid="#dde1e6",
    panel="#ffffff",
    accents=("#0072b2", "#d55e00", "#009e73", "#b05a8c", "#4aa3d8", "#b07a00"),
)
DARK = Theme(
    ink="#e7eaed",
    faint="#9ca5af",
    grid="#3a414a",
    panel="#15181b",
    accents=("#5db7ee", "#f08a3c", "#35c497", "#df9cc3", "#9cc4ff", "#e5b93c"),
)

WIDE = 7.0
"""Width in inches of a figure over the whole page."""
SIZE = 8.0
"""Size of text in points."""
SMALL = 6.5
"""Size of the text of ticks and notes in points."""

_FALLBACKS = ("Noto Sans CJK JP", "Noto Sans CJK SC", "WenQuanYi Zen Hei", "Noto Sans Devanagari")
_STYLE: dict[Any, Any] = {
    "axes.axisbelow": True,
    "axes.facecolor": "none",
    "axes.formatter.use_mathtext": False,
    "axes.labelsize": SIZE,
    "axes.linewidth": 0.6,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlesize": SIZE,
    "figure.facecolor": "none",
    "font.size": SIZE,
    "grid.linewidth": 0.6,
    "legend.fontsize": SMALL,
    "legend.frameon": False,
    "lines.linewidth": 1.3,
    "savefig.facecolor": "none",
    "text.parse_math": False,
    "text.usetex": False,
    "xtick.labelsize": SMALL,
    "xtick.major.size": 2.5,
    "xtick.major.width": 0.6,
    "ytick.labelsize": SMALL,
    "ytick.major.size": 2.5,
    "ytick.major.width": 0.6,
}


def style(theme: Theme) -> AbstractContextManager[None]:
    """Return the context in which every figure is drawn."""
    inked: dict[Any, Any] = dict.fromkeys(
        ("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color"),
        theme.ink,
    )
    return matplotlib.rc_context(
        {**_STYLE, **inked, "grid.color": theme.grid, "font.family": list(_families())}
    )


@cache
def _families() -> tuple[str, ...]:
    installed = {font.name for font in font_manager.fontManager.ttflist}
    return ("DejaVu Sans", *(name for name in _FALLBACKS if name in installed))


@cache
def _glyphs() -> frozenset[int]:
    """Return the characters that the fonts have."""
    files = (
        font_manager.findfont(font_manager.FontProperties(family=family), fallback_to_default=False)
        for family in _families()
    )
    return frozenset().union(*(font_manager.get_font(file).get_charmap() for file in files))


def shown(name: str, length: int = 26) -> str:
    """Return a name as figures show it: one line, every character drawable, not too long.

    Example:
        >>> shown("Wearing_Hat")
        'Wearing Hat'
    """
    drawn = "".join(map(_drawable, name.replace("_", " ")[: 4 * length]))
    drawn = " ".join(drawn.split()) or "(no name)"
    return drawn if len(drawn) <= length else drawn[: length - 1].rstrip() + "…"


def _drawable(character: str) -> str:
    category = unicodedata.category(character)
    if category in ("Cf", "Mn", "Me"):  # direction marks, joiners, stacks of accents
        return ""
    if category in ("Cc", "Zl", "Zp"):
        return " "
    if category in ("Cs", "Co", "Cn") or ord(character) not in _glyphs():
        return f"<{ord(character):x}>"
    return character


def finish(figure: Figure) -> Figure:
    """Make sure that no text of a figure is read as a formula, whoever draws it and however set."""
    for text in figure.findobj(Text):
        assert isinstance(text, Text)
        text.set_parse_math(False)
        text.set_usetex(False)
    return figure


def sheet(width: float, height: float) -> Figure:
    """Return an empty figure of so many inches."""
    return Figure(figsize=(width, height))


def panel(figure: Figure, left: float, top: float, width: float, height: float) -> Axes:
    """Return axes at a place in inches, measured from the top left corner."""
    across, down = figure.get_size_inches()
    return figure.add_axes(
        (left / across, 1 - (top + height) / down, width / across, height / down)
    )


def text_width(names: Sequence[str], size: float = SMALL) -> float:
    """Return about how many inches the longest of some lines is wide."""
    return max((len(name) for name in names), default=0) * size * 0.58 / 72


def bare(axes: Axes) -> None:
    """Take frame and ticks away."""
    axes.set_axis_off()
