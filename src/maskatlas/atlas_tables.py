"""The rows of the CSV files that lie beside an atlas."""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from jaxtyping import Float

from maskatlas.atlas_files import Cell, Table
from maskatlas.importance import RankedChannel, Reading, Readings
from maskatlas.pairs import AttributePair, ChannelPair, Estimate


def square(
    corner: str,
    rows: Sequence[Cell],
    columns: Sequence[Cell],
    values: Float[np.ndarray, "row column"],
) -> Table:
    """Return a matrix with the names of its rows and columns."""
    body = ([row, *map(float, line)] for row, line in zip(rows, values, strict=True))
    return [[corner, *columns], *body]


def top_channels(ranked: Mapping[str, Mapping[Reading, Sequence[RankedChannel]]]) -> Table:
    """Return the most important channels of each attribute in each reading."""
    head = ["attribute", "reading", "rank", "channel", "value", "low", "high", "best", "worst"]
    rows: list[list[Cell]] = [[*head]]
    for name, readings in ranked.items():
        for by, channels in readings.items():
            rows += [
                [name, by, rank, one.channel, one.value, one.low, one.high, one.best, one.worst]
                for rank, one in enumerate(channels, 1)
            ]
    return rows


def importance(attributes: Sequence[str], readings: Readings) -> Table:
    """Return every reading of every channel for every attribute."""
    rows: list[list[Cell]] = [["attribute", "channel", *readings]]
    for row, name in enumerate(attributes):
        rows += [
            [name, channel, *(float(reading[row, channel]) for reading in readings.values())]
            for channel in range(readings["mask"].shape[1])
        ]
    return rows


def groups(recurrences: Iterable[tuple[Sequence[str], float, float]]) -> Table:
    """Return a row for each attribute: its group, and how often that comes again."""
    rows: list[list[Cell]] = [["group", "attribute", "again", "overlap"]]
    for number, (names, again, overlap) in enumerate(recurrences, 1):
        rows += [[number, name, again, overlap] for name in names]
    return rows


def attribute_pairs(pairs: Mapping[str, Sequence[AttributePair]]) -> Table:
    """Return a row for each kind of correlation and pair of attributes."""
    estimates = ("masks", "labels", "following")
    head = [f"{what}_{part}" for what in estimates for part in ("r", "low", "high", "p", "q")]
    rows: list[list[Cell]] = [
        ["correlation", "first", "second", *head, "follower", "masks_apart", "images_apart", "why"]
    ]
    for kind, found in pairs.items():
        for pair in found:
            numbers = [*_row(pair.masks), *_row(pair.labels), *_row(pair.following)]
            names = [kind, pair.first, pair.second]
            rest: list[Cell] = [pair.follower, pair.apart, pair.apart_images, pair.why]
            rows.append([*names, *numbers, *rest])
    return rows


def channel_pairs(pairs: Mapping[str, Sequence[ChannelPair]]) -> Table:
    """Return a row for each kind of correlation and pair of channels."""
    rows: list[list[Cell]] = [["correlation", "first", "second", "r", "low", "high", "p", "q"]]
    for kind, found in pairs.items():
        rows += [[kind, pair.first, pair.second, *_row(pair.masks)] for pair in found]
    return rows


def _row(estimate: Estimate) -> list[Cell]:
    return [estimate.value, estimate.low, estimate.high, estimate.p, estimate.q]
