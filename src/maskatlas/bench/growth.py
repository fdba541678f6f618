"""How the time of masked pooling grows with attributes, images and positions."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch

from maskatlas.bench.heads import Truth, draw, own_forms, precisions
from maskatlas.bench.measuring import Timing, interleaved, processor_clock
from maskatlas.bench.settings import Heads
from maskatlas.devices import choose_device

FORMS = ("masked_pool", "masked_loss")


class Place(NamedTuple):
    """A problem's sizes; positions as the side of a square."""

    attributes: int
    images: int
    side: int


@dataclass(frozen=True, slots=True)
class Growth:
    """Times along one axis, the other two held."""

    axis: str
    """`attributes`, `images` or `positions`."""
    precision: str
    places: tuple[Place, ...]
    timings: Mapping[str, tuple[Timing, ...]]
    """Of each form, one for each place."""

    @property
    def values(self) -> list[int]:
        """What grows: K, B, or h w."""
        if self.axis == "positions":
            return [place.side**2 for place in self.places]
        return [getattr(place, self.axis) for place in self.places]

    def exponent(self, form: str) -> float | None:
        """Return the slope of log time over log value by least squares: 1 where it is linear.

        Below 1 where a part does not grow; None for a single value.
        """
        if len(self.places) < 2:
            return None
        seconds = [timing.median for timing in self.timings[form]]
        return float(np.polyfit(np.log(self.values), np.log(seconds), 1)[0])

    def points(self) -> dict[str, list[tuple[int, float]]]:
        """Return value and median of seconds, for each form."""
        return {
            form: [(value, one.median) for value, one in zip(self.values, row, strict=True)]
            for form, row in self.timings.items()
        }

    def to_json(self) -> dict[str, Any]:
        """Return names and numbers."""
        return {
            "axis": self.axis,
            "precision": self.precision,
            "places": [place._asdict() for place in self.places],
            "values": self.values,
            "median_seconds": {
                form: [timing.median for timing in row] for form, row in self.timings.items()
            },
            "exponent": {form: self.exponent(form) for form in self.timings},
        }

    def text(self) -> str:
        """Return the exponents in a line."""
        exponents = {form: self.exponent(form) for form in self.timings}
        told = ", ".join(
            f"{form} {'-' if found is None else f'{found:.2f}'}"
            for form, found in exponents.items()
        )
        values = ", ".join(map(str, self.values))
        return f"time over {self.axis} ({values}), exponent in {self.precision}: {told}"


def growth(settings: Heads) -> Iterator[Growth]:
    """Measure along each axis, around the middle K and the largest side, in the first precision."""
    device = choose_device(settings.device)
    precision = precisions(settings, device)[0]
    for axis, places in axes(settings).items():
        calls = {
            (form, place): call
            for place in places
            for form, call in _calls(settings, place, precision, device).items()
        }
        for call in calls.values():
            call()
        timings = interleaved(calls, settings.repeats, processor_clock(device))
        by_form = {form: tuple(timings[form, place] for place in places) for form in FORMS}
        yield Growth(axis, precision, places, by_form)


def axes(settings: Heads) -> dict[str, tuple[Place, ...]]:
    """Return the places along each axis, those asked for and some around them."""
    counts = sorted(settings.attributes)
    middle = Place(counts[(len(counts) - 1) // 2], settings.batch, max(settings.sizes))
    batches = {max(1, settings.batch * quarters // 4) for quarters in (1, 2, 4, 8)}
    sides = {max(1, min(settings.sizes) // 2), *settings.sizes, 2 * middle.side}
    return {
        "attributes": tuple(middle._replace(attributes=count) for count in counts),
        "images": tuple(middle._replace(images=count) for count in sorted(batches)),
        "positions": tuple(middle._replace(side=side) for side in sorted(sides)),
    }


def _calls(
    settings: Heads, place: Place, precision: str, device: torch.device
) -> dict[str, Callable[[], object]]:
    inputs = draw(settings, *place, device)
    generator = torch.Generator().manual_seed(settings.seed)
    shape = place.images, *inputs.bias.shape
    arriving = [torch.randn(shape, generator=generator).to(device) for _ in range(2)]
    ours = own_forms(inputs.with_maps_for(precision), Truth((), *arriving), precision)
    return {form: ours[form] for form in FORMS}
