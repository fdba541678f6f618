"""Figures drawn small, and what may be wrong with them."""

import io
import itertools
from collections.abc import Iterator
from unittest import mock

import numpy as np
from matplotlib.backend_bases import RendererBase
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text
from PIL import Image

HOSTILE = [
    "$\\frac{",
    "a$b$c",
    "<script>alert(1)</script>",
    "../../etc/passwd",
    "שלום عالم",
    "\u202eRTL\u202c override",
    "line\nbreak\ttab\x00\x1b[31m",
    "微笑",
    "😀 smile",
    "x" * 300,
    "",
    "%s {0} \\u0041 &amp;",
]
"""Names that have broken such programs before."""


def draw(figure: Figure, dpi: int = 40) -> np.ndarray:
    """The figure's pixels, RGBA; any warning fails the test."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi)
    return np.asarray(Image.open(buffer).convert("RGBA"))


def texts(figure: Figure) -> Iterator[Text]:
    """What can be read on a figure."""
    for text in figure.findobj(Text):
        if text.get_visible() and text.get_text() and text.get_window_extent().width > 0:
            yield text


def misplaced(figure: Figure, tolerance: float = 1.0) -> list[str]:
    """Texts that leave the figure, or lie on one another, by more than some pixels of 100 dpi."""
    figure.set_dpi(100)
    boxes = []
    plain = Text.draw

    def watched(self: Text, renderer: RendererBase) -> None:
        if self.get_visible() and self.get_text().strip():
            boxes.append((self.get_text(), self.get_window_extent(renderer)))
        plain(self, renderer)

    with mock.patch.object(Text, "draw", watched):
        FigureCanvasAgg(figure).draw()
    width, height = figure.bbox.width, figure.bbox.height
    found = []
    for name, box in boxes:
        out = max(-box.x0, -box.y0, box.x1 - width, box.y1 - height)
        if out > tolerance:
            found.append(f"{name!r} leaves by {out:.1f}")
    for (a, box), (b, other) in itertools.combinations(boxes, 2):
        across = min(box.x1, other.x1) - max(box.x0, other.x0)
        down = min(box.y1, other.y1) - max(box.y0, other.y0)
        if across > tolerance and down > tolerance:
            found.append(f"{a!r} on {b!r}")
    return found
