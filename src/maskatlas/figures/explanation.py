"""One image explained: its attributes by score, what speaks for them and where, and the masks."""

import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int, UInt8
from matplotlib.figure import Figure

from maskatlas.figures.colours import SIGNED_MAP, overlay, overlay_colours
from maskatlas.figures.grids import INSET, colour_scale
from maskatlas.figures.overlays import tile
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
    text_width,
)

_BARS = 16
_GAP = 0.06
_NOTE = 0.18
_HEAD = 0.2


def explain_picture(
    image: UInt8[np.ndarray, "size size 3"],
    attributes: Sequence[str],
    scores: Float[np.ndarray, " attribute"],
    *,
    evidence: Float[np.ndarray, "attribute rows columns"],
    channels: Int[np.ndarray, "attribute top"],
    masks: Float[np.ndarray, "attribute top height width"],
    method: str = "contribution",
    signed: bool = True,
    words: Sequence[Sequence[str | None]] = (),
    details: int = 4,
    theme: Theme = LIGHT,
    width: float = WIDE,
) -> Figure:
    """Draw one image, its attributes by score, and for the first of them where they come from.

    The arrays are those of :class:`maskatlas.analysis.Examples` for one example. The evidence of
    all shares one scale, so that it can be compared.

    Args:
        image: RGB.
        attributes: Names.
        scores: Probability of each.
        evidence: Contributions summed over channels, or the map of another method.
        channels: Ids of each attribute's top channels.
        masks: Masks of those channels.
        method: By which the evidence was mapped.
        signed: Whether such a map may speak against an attribute.
        words: What those channels are called, where they have a name; drawn in place of "channel".
        details: Number of attributes, best first, whose maps are drawn.
        theme: Colours of the page.
        width: In inches; below 5 the attributes' maps stand one below the other.
    """
    order = np.argsort(-scores, kind="stable")
    detailed, tiles = order[:details], channels.shape[1] + 1
    most = 2 if tiles > 1 else 4  # a map alone is narrow
    across = max(1, min(len(detailed), most if width >= 5 else most // 2))
    block = (width - (across - 1) * 4 * _GAP) / across
    side = min(0.95, (block + _GAP) / tiles - _GAP)
    tall = side + _HEAD + _NOTE
    photo = min(2.0, 0.42 * width)
    head = max(photo, 0.145 * (min(len(order), _BARS) + (len(order) > _BARS))) + 0.15
    limit = float(np.abs(evidence[detailed]).max(initial=0)) or 1.0
    with style(theme):
        figure = sheet(width, head + math.ceil(len(detailed) / across) * tall + 0.45)
        axes = panel(figure, 0.0, 0.02, photo, photo)
        axes.imshow(image, interpolation="bilinear")
        bare(axes)
        _bars(figure, photo, attributes, scores, order=order, theme=theme)
        for number, row in enumerate(detailed):
            line, column = divmod(number, across)
            left, top = column * (block + 4 * _GAP), head + line * tall
            title = f"{shown(attributes[row])}  {scores[row]:.2f}"
            figure.text(
                left / width, 1 - (top + _HEAD - 0.06) / figure.get_figheight(), title,
                va="bottom", fontsize=SMALL + 0.5, fontweight="bold", parse_math=False,
            )  # fmt: skip
            values = evidence[row].astype(np.float64)
            drawn = (
                overlay(image, values, limit=limit) if signed else overlay(image, values / limit)
            )
            name = method if method == "contribution" else "evidence"
            tile(panel(figure, left, top + _HEAD, side, side), drawn, name)
            for place, (channel, mask) in enumerate(zip(channels[row], masks[row], strict=True), 1):
                axes = panel(figure, left + place * (side + _GAP), top + _HEAD, side, side)
                word = words[row][place - 1] if words else None
                tile(axes, overlay(image, mask), f"{shown(word or 'channel', 14)} {channel}")
        scale = panel(figure, INSET, figure.get_figheight() - 0.36, 2.0, 0.08)
        meaning = "contribution to the logit" if method == "contribution" else method
        if signed:
            colour_scale(figure, scale, SIGNED_MAP, (-limit, limit), f"{meaning}, root scale")
            scale.set_xticks([-limit, 0, limit], ["against", "0", "for"])
        else:
            colour_scale(figure, scale, overlay_colours(), (0.0, limit), meaning)
            scale.set_xticks([0.0, limit], ["0", f"{limit:.2g}"])
        return finish(figure)


def _bars(
    figure: Figure,
    photo: float,
    attributes: Sequence[str],
    scores: Float[np.ndarray, " attribute"],
    *,
    order: Int[np.ndarray, " attribute"],
    theme: Theme,
) -> None:
    """Draw the highest scores as bars beside the image, and say how many are left out."""
    width = figure.get_figwidth()
    first = order[:_BARS]
    names = [shown(attributes[row], 20) for row in first]
    left = photo + min(text_width(names) + 0.15, 0.5 * (width - photo))
    axes = panel(figure, left, 0.02, width - left - 0.35, 0.145 * max(1, len(first)))
    colours = [theme.accents[0] if scores[row] > 0.5 else theme.grid for row in first]
    axes.barh(range(len(first)), scores[first], color=colours, height=0.74)
    for place, row in enumerate(first):
        axes.text(scores[row] + 0.015, place, f"{scores[row]:.2f}", va="center", fontsize=SMALL)
    axes.axvline(0.5, color=theme.faint, linewidth=0.6, linestyle=":")
    axes.set(xlim=(0, 1), ylim=(len(first) - 0.4, -0.6), xticks=[])
    axes.set_yticks(range(len(first)), names, parse_math=False)
    axes.tick_params(axis="y", length=0)
    axes.spines[:].set_visible(False)
    if len(order) > len(first):
        note = f"{len(order) - len(first)} more, at most {scores[order[len(first)]]:.2f}"
        axes.text(
            1.0, len(first) + 0.1, note, ha="right", va="center", fontsize=SMALL, color=theme.faint
        )
