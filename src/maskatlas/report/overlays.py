"""Figures 1 and 3 as pictures of single cells and tiles, which the page lays out."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image

from maskatlas.analysis import Atlas, Examples
from maskatlas.figures import (
    aligned,
    best_example,
    grid_shape,
    mask_colours,
    mask_limit,
    overlay,
)
from maskatlas.figures.colours import grid_cells
from maskatlas.report.pictures import Picture, cells_picture, photo_picture

TILE = 128
"""Side of a tile in pixels; smaller images are enlarged to it."""


@dataclass(frozen=True, slots=True)
class Grid:
    """Figure 1 for one attribute."""

    name: str
    mean: float
    picture: Picture


@dataclass(frozen=True, slots=True)
class Grids:
    """Figure 1."""

    all: tuple[Grid, ...]
    rows: int
    columns: int
    scale: Picture
    """The colours from the lowest to the highest value."""
    high: float
    """Value of the last colour; the first stands for 0."""


@dataclass(frozen=True, slots=True)
class Tile:
    """One mask over one image."""

    channel: int
    picture: Picture


@dataclass(frozen=True, slots=True)
class OverlayRow:
    """One attribute of figure 3."""

    name: str
    score: float
    label: float
    image: Picture
    contribution: Picture
    tiles: tuple[Tile | None, ...]
    """One for each column of the group; None where the column holds another's channel."""


@dataclass(frozen=True, slots=True)
class OverlayGroup:
    """Attributes that belong together, their common channels aligned in columns."""

    columns: int
    shared: frozenset[int]
    """Channels that several of the attributes have among theirs."""
    rows: tuple[OverlayRow, ...]


def grids(atlas: Atlas) -> Grids:
    """Return figure 1, all attributes on one scale from 0 up to the highest mean, rounded up."""
    high = mask_limit(atlas)
    shown = []
    for index, name in enumerate(atlas.attributes):
        top = ", ".join(map(str, atlas.top_channels(name, 3, by="mask")))
        alt = f"Mean masks of {name}, one cell a channel; widest open: channels {top}"
        pixels = mask_colours(grid_cells(atlas.mask_mean[index] / high))
        picture = cells_picture(pixels, alt, scale=10)
        shown.append(Grid(name, float(atlas.mask_mean[index].mean()), picture))
    ramp = mask_colours(np.linspace(0, 1, 64)[None])
    alt = f"Colour scale of the mean mask, from 0 to {high:.1f}"
    return Grids(tuple(shown), *grid_shape(atlas.channels), cells_picture(ramp, alt), high)


@dataclass(frozen=True, slots=True)
class Overlays:
    """Figure 3."""

    groups: tuple[OverlayGroup, ...]
    examples: int
    """Images that were there to choose from."""
    top: int
    """Channels of each attribute."""
    cells: int
    """Positions of a mask along a side."""
    scale: Picture
    """The colours of a mask from 0 to 1."""
    signed_scale: Picture
    """The colours of a contribution from against to for."""


def overlays(atlas: Atlas, examples: Examples, groups: Sequence[Sequence[str]]) -> Overlays:
    """Return figure 3, a table for each group of attributes."""
    index = {name: k for k, name in enumerate(atlas.attributes)}
    shown = []
    for group in groups:
        tops = [examples.channels[index[name]].tolist() for name in group]
        uses = Counter(channel for top in tops for channel in top)
        shared = frozenset(channel for channel, times in uses.items() if times > 1)
        rows = tuple(
            _row(examples, name, index[name], slots)
            for name, slots in zip(group, aligned(tops), strict=True)
        )
        shown.append(OverlayGroup(len(rows[0].tiles), shared, rows))
    return Overlays(
        groups=tuple(shown),
        examples=len(examples.names),
        top=examples.channels.shape[1],
        cells=examples.masks.shape[-1],
        scale=_scale(0.0, "Colours of a mask, from 0 to 1"),
        signed_scale=_scale(-1.0, "Colours of a contribution, from against to for"),
    )


def _scale(low: float, alt: str) -> Picture:
    """Return the colours of a mask (from 0) or of a contribution (from -1) over a grey image."""
    grey = np.full((TILE, TILE, 3), 150, np.uint8)
    ramp = np.tile(np.linspace(low, 1, TILE), (TILE, 1))
    return cells_picture(overlay(grey, ramp, limit=1.0 if low < 0 else None)[:8], alt)


def _row(examples: Examples, name: str, attribute: int, slots: Sequence[int | None]) -> OverlayRow:
    chosen = best_example(examples, attribute)
    image = enlarged(examples.images[chosen])
    contribution = examples.contributions[chosen, attribute].astype(float)
    top = examples.channels[attribute].tolist()
    tiles: list[Tile | None] = []
    for channel in slots:
        if channel is None:
            tiles.append(None)
            continue
        mask = examples.masks[chosen, attribute, top.index(channel)].astype(float)
        alt = (
            f"Mask of channel {channel} for {name}: mean {mask.mean():.2f}, {where_in_words(mask)}"
        )
        tiles.append(Tile(channel, photo_picture(overlay(image, mask), alt)))
    limit = float(np.abs(contribution).max())
    alt = f"Contribution to {name}: speaks for it most {where_in_words(contribution)}"
    return OverlayRow(
        name=name,
        score=float(examples.scores[chosen, attribute]),
        label=float(examples.labels[chosen, attribute]),
        image=photo_picture(image, f"Example image for {name}"),
        contribution=photo_picture(overlay(image, contribution, limit=limit), alt),
        tiles=tuple(tiles),
    )


def where_in_words(values: Float[np.ndarray, "height width"]) -> str:
    """Say in words where the highest value lies."""
    height, width = values.shape
    row, column = np.unravel_index(int(np.argmax(values)), values.shape)
    vertical = ("at the top", "in the middle", "at the bottom")[3 * int(row) // height]
    horizontal = ("left", "centre", "right")[3 * int(column) // width]
    return f"{vertical} {horizontal}"


def enlarged(image: UInt8[np.ndarray, "size size 3"]) -> UInt8[np.ndarray, "side side 3"]:
    """Return an image as large as a tile, if it is smaller."""
    side = max(TILE, image.shape[0])
    return np.asarray(Image.fromarray(image).resize((side, side), Image.Resampling.BICUBIC))
