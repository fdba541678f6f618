"""Figures and pixels as pictures that stand inside the page: on light and dark, wide and narrow."""

import base64
import io
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import UInt8
from matplotlib.figure import Figure
from PIL import Image

from maskatlas.figures import DARK, LIGHT

CSS_DPI = 116
"""An inch of a figure in CSS pixels: its text of 6.5 points is then as high as a footnote's."""
DPI = 1.75 * CSS_DPI
NARROW = 3.3
"""Width in inches of a figure on a narrow screen."""
SCREENS = {LIGHT: "", DARK: "(prefers-color-scheme: dark)"}
NARROW_SCREEN = "(max-width: 38rem)"
PHOTO_QUALITY = 82


@dataclass(frozen=True, slots=True)
class Source:
    """One version of a picture."""

    address: str
    """`data:` address."""
    media: str
    """The screens that it is for, as a media query; empty for all others."""
    width: int
    height: int
    """Size on the page, in CSS pixels."""


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture as the page embeds it."""

    sources: tuple[Source, ...]
    """Its versions; the page takes the first that fits, and the last one fits everywhere."""
    alt: str
    """What it shows, for those who do not see it."""


Draw = Callable[..., Figure]
"""Makes a figure, given ``theme`` and ``width`` in inches by keyword."""


def figure_picture(draw: Draw, alt: str, *, width: float, narrow: bool = True) -> Picture:
    """Draw a figure for light and dark paper, and once more for narrow screens.

    Args:
        draw: Makes the figure.
        alt: What it shows, for those who do not see it.
        width: In inches.
        narrow: Whether narrow screens have a version of their own.
    """
    widths = {NARROW: NARROW_SCREEN} if narrow and width > NARROW else {}
    sources = []
    for inches, screen in {**widths, width: ""}.items():
        for theme in (DARK, LIGHT):
            media = " and ".join(filter(None, (screen, SCREENS[theme])))
            sources.append(_source(draw(theme=theme, width=inches), media))
    return Picture(tuple(sources), alt)


def _source(figure: Figure, media: str) -> Source:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=DPI)
    drawn = Image.open(buffer).convert("RGBA")
    width, height = (round(side * CSS_DPI / DPI) for side in drawn.size)
    return Source(_address(drawn, "WEBP", lossless=True), media, width, height)


def cells_picture(pixels: UInt8[np.ndarray, "height width 3"], alt: str, scale: int = 1) -> Picture:
    """Take exact pixels, such as the cells of a grid, which the page magnifies.

    Args:
        pixels: RGB.
        alt: What they show.
        scale: CSS pixels for each of them.
    """
    height, width, _ = pixels.shape
    address = _address(Image.fromarray(pixels), "PNG", optimize=True)
    return Picture((Source(address, "", scale * width, scale * height),), alt)


def photo_picture(pixels: UInt8[np.ndarray, "height width 3"], alt: str) -> Picture:
    """Take a photograph, or something laid over one; small losses are allowed."""
    height, width, _ = pixels.shape
    address = _address(Image.fromarray(pixels), "WEBP", quality=PHOTO_QUALITY, method=4)
    return Picture((Source(address, "", width, height),), alt)


def _address(image: Image.Image, kind: str, **options: int | bool) -> str:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    content = base64.b64encode(buffer.getvalue()).decode()
    return f"data:image/{kind.lower()};base64,{content}"
