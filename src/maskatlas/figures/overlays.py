"""Figure 3: each attribute's most important channels, their masks laid over an image."""

from collections import Counter
from collections.abc import Sequence

import numpy as np
from jaxtyping import UInt8
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from maskatlas.analysis import Atlas, Examples
from maskatlas.errors import MaskatlasError
from maskatlas.figures.colours import overlay
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

_TILE = 0.95
_GAP = 0.06
_NOTE = 0.17


def aligned(tops: Sequence[Sequence[int]]) -> tuple[tuple[int | None, ...], ...]:
    """Return for each row the channel in each column, so that a common one keeps its column.

    Channels of several rows are placed first, those of most rows before the others, each in the
    first column that is free in all its rows; then each row's own channels fill its gaps.

    Example:
        >>> aligned([(3, 8), (8, 5)])
        ((8, 3), (8, 5))
    """
    uses = Counter(channel for top in tops for channel in set(top))
    places: list[dict[int, int]] = [{} for _ in tops]
    for channel in sorted(uses, key=lambda channel: (-uses[channel], channel)):
        rows = [place for place, top in zip(places, tops, strict=True) if channel in top]
        taken = set().union(*rows)
        column = next(column for column in range(len(uses)) if column not in taken)
        for place in rows:
            place[column] = channel
    width = max((max(place, default=-1) for place in places), default=-1) + 1
    return tuple(tuple(place.get(column) for column in range(width)) for place in places)


def best_example(examples: Examples, attribute: int) -> int:
    """Return the image with the highest score, among those that have the attribute if any has."""
    scores = examples.scores[:, attribute]
    has = examples.labels[:, attribute] == 1
    return int(np.argmax(np.where(has, scores, -np.inf) if has.any() else scores))


def top_channel_overlays(
    atlas: Atlas,
    attributes: Sequence[str] | None = None,
    *,
    n: int = 3,
    example: int | None = None,
    theme: Theme = LIGHT,
    width: float = WIDE,
) -> Figure:
    """Draw figure 3: a row an attribute, ids below the masks, a common channel in one column.

    Args:
        atlas: With examples.
        attributes: Names; None means all. A dozen that belong together make the clearest figure.
        n: Number of top channels; at most what the examples hold.
        example: Index of the image for all rows; None takes the best one of each attribute.
        theme: Colours of the page.
        width: The most, in inches; few columns make it narrower.

    Raises:
        MaskatlasError: The atlas holds no examples.
    """
    examples = atlas.examples
    if examples is None or not examples.names:
        raise MaskatlasError("overlays: the atlas holds no example images; run `maskatlas analyze`")
    names = atlas.attributes if attributes is None else tuple(attributes)
    rows = [atlas.index(name) for name in names]
    slots = aligned([examples.channels[row, :n].tolist() for row in rows])
    columns = len(slots[0]) + 1 if slots else 1
    side = min(_TILE, (width + _GAP) / columns - _GAP)
    high = side + _NOTE + _GAP
    with style(theme):
        figure = sheet(columns * (side + _GAP) - _GAP, max(1, len(names)) * high)
        for line, (name, row, slot) in enumerate(zip(names, rows, slots, strict=True)):
            chosen = best_example(examples, row) if example is None else example
            image, held = examples.images[chosen], examples.channels[row].tolist()
            axes = panel(figure, 0.0, line * high, side, side)
            tile(axes, image, shown(name, int(side / (SMALL * 0.56 / 72))))
            for column, channel in enumerate(slot, 1):
                if channel is None:
                    continue
                mask = examples.masks[chosen, row, held.index(channel)]
                axes = panel(figure, column * (side + _GAP), line * high, side, side)
                tile(axes, overlay(image, mask), str(channel))
        return finish(figure)


def tile(axes: Axes, image: UInt8[np.ndarray, "size size 3"], note: str) -> None:
    """Draw an image and a line of text below it."""
    axes.imshow(image, interpolation="bilinear")
    axes.text(
        0.5,
        -0.03,
        note,
        ha="center",
        va="top",
        fontsize=SMALL,
        transform=axes.transAxes,
        parse_math=False,
    )
    bare(axes)
