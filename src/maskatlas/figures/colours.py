"""Numbers as colours: grids of masks, and maps laid over an image."""

import math

import matplotlib
import numpy as np
from jaxtyping import Bool, Float, UInt8
from matplotlib.colors import Colormap, ListedColormap
from PIL import Image

MASK_MAP = "viridis"
"""Colours from 0 to 1: even steps, and told apart without seeing all colours."""
SIGNED_MAP = "RdBu_r"
"""Colours of signed values: red speaks for it, blue against."""
UNDEFINED = 128
"""Grey level of what is undefined."""
_OVERLAY_MAP = "inferno"
_STRENGTH = 0.8
_SHADE = 0.5


def mask_colours(values: Float[np.ndarray, "*shape"]) -> UInt8[np.ndarray, "*shape 3"]:
    """Return the colours of values from 0 to 1, larger and smaller ones cut off; NaN is grey."""
    return _mapped(MASK_MAP, values)


def diverging_colours(
    values: Float[np.ndarray, "*shape"], limit: float
) -> UInt8[np.ndarray, "*shape 3"]:
    """Return the colours of signed values from -limit to limit, 0 in the middle; NaN is grey."""
    return _mapped(SIGNED_MAP, 0.5 + values / (2 * limit) if limit else 0.5 + 0 * values)


def _mapped(name: str, values: Float[np.ndarray, "*shape"]) -> UInt8[np.ndarray, "*shape 3"]:
    undefined = np.isnan(values)
    colours: np.ndarray = matplotlib.colormaps[name](np.where(undefined, 0, values), bytes=True)
    colours = colours[..., :3].copy()
    colours[undefined] = UNDEFINED
    return colours


def grid_shape(channels: int) -> tuple[int, int]:
    """Return rows and columns for one cell a channel, about twice as wide as high.

    Without an empty cell where that can be had at no more than three times as wide: the paper's 128
    channels are 8 by 16.
    """
    even = [
        rows
        for rows in range(1, math.isqrt(channels) + 1)
        if channels % rows == 0 and channels <= 3 * rows**2
    ]
    wanted = math.sqrt(channels / 2)
    if even:
        rows = min(even, key=lambda rows: abs(math.log(rows / wanted)))
        return rows, channels // rows
    rows = max(1, round(wanted))
    return rows, math.ceil(channels / rows)


def grid_cells(values: Float[np.ndarray, " channel"]) -> Float[np.ndarray, "row column"]:
    """Return values laid out as :func:`grid_shape` says, NaN where a cell is left over."""
    rows, columns = grid_shape(len(values))
    cells = np.full(rows * columns, np.nan)
    cells[: len(values)] = values
    return cells.reshape(rows, columns)


def enlarge(values: Float[np.ndarray, "height width"], size: int) -> Float[np.ndarray, "size size"]:
    """Return a map at another size, bilinear."""
    picture = Image.fromarray(np.ascontiguousarray(values, dtype=np.float32))
    return np.asarray(picture.resize((size, size), Image.Resampling.BILINEAR))


def overlay_colours() -> Colormap:
    """Return the colours that :func:`overlay` mixes in for what has no sign, from 0 to 1."""
    return ListedColormap(matplotlib.colormaps[_OVERLAY_MAP](_in_overlay(np.linspace(0, 1, 256))))


def _in_overlay(strength: np.ndarray) -> np.ndarray:
    """Return which part of the map a strength is shown by: neither black nor white."""
    return 0.2 + 0.7 * strength


def overlay(
    image: UInt8[np.ndarray, "size size 3"],
    values: Float[np.ndarray, "height width"],
    *,
    limit: float | None = None,
) -> UInt8[np.ndarray, "size size 3"]:
    """Lay a map over an image, whose own colours are drained.

    Args:
        image: RGB.
        values: A mask from 0 to 1; or, with a limit, signed values.
        limit: Where a signed value has its full colour. Colours follow the root of a signed value,
            so that weak ones are seen beside strong ones on one scale.
    """
    large = np.nan_to_num(enlarge(values, len(image)))
    grey = (image @ np.array([0.299, 0.587, 0.114]))[..., None]
    if limit is None:
        strength = np.clip(large, 0, 1)
        colours = _mapped(_OVERLAY_MAP, _in_overlay(strength))
    else:
        strength = np.sqrt(np.clip(np.abs(large) / limit, 0, 1)) if limit else 0 * large
        colours = diverging_colours(np.sign(large) * strength, 1.0)
    share = (_STRENGTH * strength)[..., None]
    lit = colours * (_SHADE + (1 - _SHADE) * grey / 255)  # the image stays readable below
    mixed: np.ndarray = (1 - share) * grey + share * lit
    return mixed.clip(0, 255).round().astype(np.uint8)


def outlined(
    image: UInt8[np.ndarray, "side side 3"], region: UInt8[np.ndarray, "size size"]
) -> UInt8[np.ndarray, "side side 3"]:
    """Draw the border of a region on an image: white along its inside, black along its outside.

    Args:
        image: RGB.
        region: 1 inside; anything else is outside.
    """
    places = ((2 * np.arange(len(image)) + 1) * len(region)) // (2 * len(image))
    inside = (region == 1)[np.ix_(places, places)]
    drawn = image.copy()
    drawn[inside & _beside(~inside)] = 255
    drawn[~inside & _beside(inside)] = 0
    return drawn


def _beside(marked: Bool[np.ndarray, "side side"]) -> Bool[np.ndarray, "side side"]:
    """Return which pixels have a marked one above, below, left or right of them."""
    wide = np.pad(marked, 1)
    beside: np.ndarray = wide[2:, 1:-1] | wide[:-2, 1:-1] | wide[1:-1, 2:] | wide[1:-1, :-2]
    return beside
