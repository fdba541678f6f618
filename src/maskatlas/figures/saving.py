"""All figures of an atlas as files, under names that no attribute can choose."""

import io
import re
import unicodedata
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Literal

import matplotlib
from matplotlib.figure import Figure

from maskatlas.analysis import Atlas
from maskatlas.figures.correlations import attribute_correlation, channel_correlation, dendrogram
from maskatlas.figures.grids import mask_grids
from maskatlas.figures.importance import importance_agreement, importance_readings
from maskatlas.figures.overlays import top_channel_overlays
from maskatlas.files import write_atomically

Kind = Literal["png", "svg"]
_DPI = 200
_ROWS = 8


def slug(name: str) -> str:
    """Return letters, digits and hyphens that remind of a name; never what a path could mean.

    Example:
        >>> slug("../Wearing_Hat")
        'wearing-hat'
    """
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9]+", "-", plain).strip("-")[:40].strip("-")


def indexed(index: int, name: str) -> str:
    """Return the part of a file name that stands for an attribute: its index, then its slug."""
    return f"{index:03d}-{slug(name)}".rstrip("-")


def save_figures(atlas: Atlas, directory: Path | str, kind: Kind = "png") -> list[Path]:
    """Write every figure of an atlas, on white, each in one move.

    Args:
        atlas: What is drawn.
        directory: Folder to write into; made if it is not there.
        kind: ``png`` or ``svg``.

    Returns:
        The files, in the order in which they are best looked at.
    """
    paths = []
    for name, draw in _figures(atlas):
        path = Path(directory) / f"{name}.{kind}"
        write_atomically(path, encoded(draw(), kind))
        paths.append(path)
    return paths


def encoded(figure: Figure, kind: Kind, *, paper: str = "white") -> bytes:
    """Return a figure as the bytes of a file, the same each time.

    Args:
        figure: Of this package.
        kind: ``png`` or ``svg``.
        paper: Colour behind it.
    """
    buffer = io.BytesIO()
    metadata = {"Date": None} if kind == "svg" else {"Software": None}
    with matplotlib.rc_context({"svg.hashsalt": "maskatlas", "svg.fonttype": "path"}):
        figure.savefig(
            buffer, format=kind, dpi=_DPI, facecolor=paper, metadata=metadata, bbox_inches=None
        )
    return buffer.getvalue()


def _figures(atlas: Atlas) -> Iterator[tuple[str, Callable[[], Figure]]]:
    yield "mask-grids", partial(mask_grids, atlas)
    if atlas.examples is not None and atlas.examples.names:
        for number, part in enumerate(_parts(atlas)):
            yield f"overlays-{number:03d}", partial(top_channel_overlays, atlas, part)
    for centred, suffix in ((False, ""), (True, "-centred")):
        channels = partial(channel_correlation, atlas, centred=centred)
        yield f"channel-correlation-ids{suffix}", partial(channels, clustered=False)
        yield f"channel-correlation-clustered{suffix}", partial(channels, clustered=True)
        attributes = partial(attribute_correlation, atlas, centred=centred)
        yield f"attribute-correlation{suffix}", attributes
        yield f"dendrogram{suffix}", partial(dendrogram, atlas, centred=centred)
    yield "importance-agreement", partial(importance_agreement, atlas)
    for index, name in enumerate(atlas.attributes):
        yield f"importance-{indexed(index, name)}", partial(importance_readings, atlas, name)


def _parts(atlas: Atlas) -> list[tuple[str, ...]]:
    """Return the groups of attributes, those too large for a figure in parts."""
    return [
        group[start : start + _ROWS]
        for group in atlas.groups()
        for start in range(0, len(group), _ROWS)
    ]
