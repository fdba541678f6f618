"""``shortcuts.html`` and ``shortcuts.png``: what a trial with a planted shortcut has found."""

import datetime
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from maskatlas._version import __version__
from maskatlas.cases import Sight
from maskatlas.figures import encoded, outlined, overlay, share_curves, shown
from maskatlas.files import write_atomically
from maskatlas.report.judged import FLOORS
from maskatlas.report.overlays import enlarged, where_in_words
from maskatlas.report.page import render_page
from maskatlas.report.pictures import Draw, Picture, figure_picture, photo_picture

PAGE = "shortcuts.html"
_WIDE = 7.0
"""Width in inches of the curves."""


@dataclass(frozen=True, slots=True)
class Faces:
    """Maps of one network, on the same images as those of the others."""

    probability: float
    counter_accuracy: float | None
    maps: tuple[Picture, ...]


def write_shortcuts(
    folder: Path, result: Mapping[str, Any], sights: Mapping[float, Sequence[Sight]]
) -> Path:
    """Write the page of a trial, and its curves as a picture, into its folder.

    Args:
        folder: Of the trial.
        result: What ``shortcuts.json`` holds.
        sights: Maps to show, of one network for each probability.

    Returns:
        Path of the page.
    """
    draw = _curves(result)
    write_atomically(folder / "shortcuts.png", encoded(draw(), "png"))
    page = render_page(_facts(result, sights, draw), f"report/{PAGE}")
    write_atomically(folder / PAGE, page.encode())
    return folder / PAGE


def _curves(result: Mapping[str, Any]) -> Draw:
    """Return what draws the shares of each method and the accuracy, by probability."""
    attribute, source = shown(result["attribute"]), shown(result["source"])
    panels = {
        f"share of the map at {source}": result["shares"],
        f"right where {attribute} and {source} differ": {
            "accuracy of the network": result["counter_accuracy"]
        },
    }
    return partial(
        share_curves,
        {
            title: {name: _finite(values) for name, values in series.items()}
            for title, series in panels.items()
        },
        along=f"probability that {attribute} copies {source}",
        at=result["probabilities"],
        faint=FLOORS,
    )


def _finite(values: Sequence[float | None]) -> list[float]:
    return [np.nan if value is None else value for value in values]


def _facts(
    result: Mapping[str, Any], sights: Mapping[float, Sequence[Sight]], draw: Draw
) -> dict[str, Any]:
    points = result["points"]
    first = next(iter(points[0]["methods"]))
    by_probability = dict(zip(result["probabilities"], result["counter_accuracy"], strict=True))
    return {
        "attribute": result["attribute"],
        "source": result["source"],
        "points": points,
        "methods": tuple(points[0]["methods"]),
        "first": first,
        "lost": result["lost"],
        "moved": result["moved"],
        "curves": figure_picture(
            draw, "Where maps are and how right the network is, by probability", width=_WIDE
        ),
        "images": tuple(_image(sight) for sight in next(iter(sights.values()), ())),
        "faces": tuple(
            Faces(
                probability,
                by_probability[probability],
                tuple(_map(sight, result["attribute"], first) for sight in row),
            )
            for probability, row in sights.items()
        ),
        "version": __version__,
        "written": f"{datetime.datetime.now().astimezone():%d %B %Y}",
    }


def _image(sight: Sight) -> Picture:
    return photo_picture(_both(sight, enlarged(sight.image)), f"{sight.image_name}, both outlined")


def _map(sight: Sight, attribute: str, method: str) -> Picture:
    values = np.nan_to_num(sight.map.astype(float))
    coloured = overlay(enlarged(sight.image), values, limit=float(np.abs(values).max()))
    alt = f"{method} map of {attribute} on {sight.image_name}: highest {where_in_words(values)}"
    return photo_picture(_both(sight, coloured), alt)


def _both(sight: Sight, pixels: np.ndarray) -> np.ndarray:
    """Return pixels with the borders of both regions."""
    return outlined(outlined(pixels, sight.own), sight.other)
