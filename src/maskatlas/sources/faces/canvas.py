"""Shapes with anti-aliased edges, and the canvas that layers of them are painted on.

A shape is a signed distance in a frame (negative inside); its coverage is the share of each pixel
that lies inside, taken along the normal of the edge. A frame is the pixel grid seen in the
coordinates of a part (body, head, front of the face), so that pose moves the grid and never a
shape. Everything is a function of the frame, hence the same picture at every size.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, UInt8

from maskatlas.sources.faces.colours import Colour

Mask = Float[np.ndarray, "height width"]
"""Coverage or distance of each pixel."""


class Frame(NamedTuple):
    """The pixel centres in the coordinates of a part; x to the right, y down."""

    x: Mask
    y: Mask
    pixel: float
    """Side of a pixel in the units of x and y."""

    def mirrored(self) -> "Frame":
        """The frame in which one shape at positive x is drawn on both sides."""
        return Frame(np.abs(self.x), self.y, self.pixel)

    def turned(self, angle: float, x: float = 0.0, y: float = 0.0) -> "Frame":
        """The frame turned clockwise by `angle` radians about (x, y)."""
        cosine, sine = np.float32(np.cos(angle)), np.float32(np.sin(angle))
        dx, dy = self.x - np.float32(x), self.y - np.float32(y)
        return Frame(cosine * dx + sine * dy + x, cosine * dy - sine * dx + y, self.pixel)

    def cover(self, distance: Mask) -> Mask:
        """Share of each pixel inside the shape, 0 to 1."""
        covered: Mask = np.clip(0.5 - distance / self.pixel, 0.0, 1.0)
        return covered

    def line(self, distance: Mask, half_width: float) -> Mask:
        """Coverage of a line along `distance` = 0; right also where it is thinner than a pixel."""
        covered: Mask = self.cover(distance - half_width) - self.cover(distance + half_width)
        return covered

    def oval(
        self,
        x: float | Mask,
        y: float,
        width: float,
        height: float,
    ) -> Mask:
        """Distance to the ellipse about (x, y) with the given half axes (to first order)."""
        dx, dy = (self.x - x) / width, (self.y - y) / height
        norm = np.sqrt(dx * dx + dy * dy) + np.float32(1e-6)
        slope = np.sqrt((dx / width) ** 2 + (dy / height) ** 2) + np.float32(1e-6)
        return (norm - 1.0) * norm / slope

    def box(self, x: float, y: float, width: float, height: float, corner: float) -> Mask:
        """Distance to the box about (x, y) with the given half sides and corner radius."""
        dx = np.abs(self.x - x) - (width - corner)
        dy = np.abs(self.y - y) - (height - corner)
        outside = np.hypot(np.maximum(dx, 0.0), np.maximum(dy, 0.0))
        return outside + np.minimum(np.maximum(dx, dy), 0.0) - corner

    def segment(self, start: tuple[float, float], end: tuple[float, float]) -> Mask:
        """Distance to the segment from `start` to `end`; never negative."""
        dx, dy = end[0] - start[0], end[1] - start[1]
        px, py = self.x - start[0], self.y - start[1]
        along = np.clip((px * dx + py * dy) / (dx * dx + dy * dy), 0.0, 1.0)
        return np.hypot(px - along * dx, py - along * dy)


class Canvas:
    """A picture under the brush, and the visible part of each attribute's region.

    Args:
        size: side of the square, in pixels.
        attributes: whose regions are kept; empty for a picture alone.
    """

    def __init__(self, size: int, attributes: Sequence[str] = ()) -> None:
        self.image: Float[np.ndarray, "3 height width"] = np.zeros((3, size, size), np.float32)
        self._row = {name: row for row, name in enumerate(attributes)}
        self._regions = np.zeros((len(self._row), size, size), np.float32)

    def tint(
        self,
        mask: Mask,
        colour: Colour | Float[np.ndarray, "3 height width"],
    ) -> None:
        """Blend a colour in where the mask says, hiding no region."""
        paint = np.asarray(colour, np.float32)
        if paint.ndim == 1:
            paint = paint[:, None, None]
        self.image += mask * (paint - self.image)

    def paint(
        self,
        mask: Mask,
        colour: Colour | Float[np.ndarray, "3 height width"],
    ) -> None:
        """Lay an opaque shape over everything so far: what it covers is no longer visible."""
        self.tint(mask, colour)
        if self._row:
            self._regions *= 1.0 - mask

    def mark(self, attribute: str, mask: Mask) -> None:
        """Add a shape, just painted or nowhere painted, to the region of an attribute.

        What is painted later may cover it.
        """
        if self._row:
            region = self._regions[self._row[attribute]]
            np.minimum(region + mask, 1.0, out=region)

    def regions(self) -> UInt8[np.ndarray, "attribute height width"]:
        """1 where at least half of the pixel shows the attribute's region, else 0."""
        return (self._regions >= 0.5).astype(np.uint8)
