"""Where a map points, against regions that are known: every method, every measure, in one pass."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from tqdm import tqdm

from maskatlas.cases import Case
from maskatlas.errors import DataError
from maskatlas.evaluation.energy import energy_ratios
from maskatlas.evaluation.examination import Examination
from maskatlas.evaluation.intervals import Measured, Pairs, measure
from maskatlas.evaluation.overlap import attention_iou, iou_at_others_level, iou_by_level
from maskatlas.evaluation.pointing import TOLERANCE, distances, pointing_hits, points_into
from maskatlas.explanations import explain
from maskatlas.metrics import or_none
from maskatlas.resampling import resampling_units

__all__ = ["MEASURES", "TOLERANCE", "Localization", "localize", "points_into"]

MEASURES = ("pointing", "energy_ratio", "iou", "attention_iou")
"""In the order in which they are shown."""
GEOMETRIC = ("energy_ratio",)
"""Measures whose mean over attributes is the geometric one."""


@dataclass(frozen=True, eq=False)
class Localization:
    """Where the maps of several methods point."""

    images: int
    """Images that have an attribute with a known region."""
    units: int
    """People among them, or images where people are unknown: what intervals draw from."""
    people: bool
    """Whether people are known."""
    tolerance_pixels: float
    """A point so far from the region, at the network's resolution, still hits."""
    methods: Mapping[str, Mapping[str, Measured]]
    """By method, then by measure; the first method is the one of reference."""
    levels: Mapping[str, tuple[float, float]]
    """Thresholds that the two halves of the people were judged at, chosen on the other half."""
    cases: tuple[Case, ...]
    """Of the method of reference: for each attribute the hit with the highest energy ratio, and the
    miss with the lowest."""

    @property
    def reference(self) -> str:
        """The method that the others are compared with."""
        return next(iter(self.methods))

    def pointing(self) -> dict[str, Any]:
        """Return the pointing game of the method of reference: hits among images."""
        game = self.methods[self.reference]["pointing"]
        rows = {name: (bounds.mean, game.images[name]) for name, bounds in game.attributes.items()}
        return {
            "method": self.reference,
            "tolerance_pixels": self.tolerance_pixels,
            "mean": or_none(game.overall.mean),
            "attributes": {
                name: {"hits": round(mean * images), "images": images, "accuracy": mean}
                for name, (mean, images) in rows.items()
            },
        }

    def to_json(self) -> dict[str, Any]:
        """Return all but the cases' arrays."""
        return {
            "images": self.images,
            "units": self.units,
            "people": self.people,
            "tolerance_pixels": self.tolerance_pixels,
            "methods": {
                method: {name: measured.to_json() for name, measured in measures.items()}
                for method, measures in self.methods.items()
            },
            "iou_levels": {
                method: [or_none(level) for level in levels]
                for method, levels in self.levels.items()
            },
            "cases": [case.to_json() for case in self.cases],
        }


def localize(given: Examination) -> Localization:
    """Judge where maps point, on all images that have an attribute and a known region for it.

    An image whose region is unknown or empty does not count.

    Raises:
        DataError: No image has an attribute whose region is known.
    """
    tolerance = TOLERANCE * given.network.preprocessing.size
    asked: list[np.ndarray] = []
    scores: list[np.ndarray] = []
    cases: dict[tuple[int, bool], Case] = {}
    for asking, maps in _passes(given):
        away = distances(asking.regions)
        found = [_scores(of_method, asking.regions, away, tolerance) for of_method in maps]
        asked.append(np.stack([asking.images, asking.attributes]))
        scores.append(np.stack(found, axis=1))
        _keep_cases(cases, given, asking, maps[0], found[0])
    if not asked:
        raise DataError(
            f"{given.images.data.path or given.images.data.source}: no image has an attribute of "
            "the network and a known region for it; see docs/data.md for which attribute looks at "
            "which part"
        )
    return _summary(given, np.concatenate(asked, axis=1), np.concatenate(scores), cases, tolerance)


class _Asking(NamedTuple):
    """Pairs of an image and an attribute that it has, where the right place is known."""

    images: Int[np.ndarray, " pair"]
    attributes: Int[np.ndarray, " pair"]
    """Places among the network's."""
    regions: UInt8[np.ndarray, "pair size size"]


_Maps = list[Float[np.ndarray, "pair size size"]]


def _passes(given: Examination) -> Iterator[tuple[_Asking, _Maps]]:
    """Yield what can be asked of an image, and the maps of each method for that alone.

    One image at a time: few images have the same attributes, and a map that nobody asks for costs
    more than a larger batch saves.
    """
    parameter = next(given.network.parameters())
    present = torch.nonzero((given.labels == 1).any(1)).flatten().tolist()
    hidden = None if given.progress else True
    for index in tqdm(present, desc="explanations", disable=hidden, leave=False):
        asking = _asking(given, index)
        if asking is None:
            continue
        names = [given.network.attributes[row] for row in asking.attributes]
        pixels = given.images.batch(torch.tensor([index])).images
        pixels = pixels.to(parameter.device).to(parameter.dtype) / 255
        yield (
            asking,
            [explain(given.network, pixels, m, names)[0].cpu().numpy() for m in given.methods],
        )


def _asking(given: Examination, index: int) -> _Asking | None:
    """Return the attributes that an image has and whose region is known, or None without any."""
    data, names = given.images.data, given.network.attributes
    regions = data.regions(index)
    if regions is None:
        return None
    found: list[tuple[int, np.ndarray]] = []
    for row in torch.nonzero(given.labels[index] == 1).flatten().tolist():
        own = regions[data.attributes.index(names[row])].numpy()
        region = given.network.preprocessing.region(own)
        if (region == 1).any():
            found.append((row, region))
    if not found:
        return None
    rows, regions_found = zip(*found, strict=True)
    return _Asking(np.full(len(rows), index), np.array(rows), np.stack(regions_found))


def _scores(
    maps: Float[np.ndarray, "pair size size"],
    regions: UInt8[np.ndarray, "pair size size"],
    away: Float[np.ndarray, "pair size size"],
    tolerance: float,
) -> Float[np.ndarray, "pair score"]:
    """Return pointing, energy ratio, Attention-IoU, and the IoU at every level."""
    alone = (
        pointing_hits(maps, regions, away, tolerance),
        energy_ratios(maps, regions),
        attention_iou(maps, regions),
    )
    return np.column_stack([*alone, iou_by_level(maps, regions)])


def _keep_cases(
    cases: dict[tuple[int, bool], Case],
    given: Examination,
    asking: _Asking,
    maps: Float[np.ndarray, "pair size size"],
    scores: Float[np.ndarray, "pair score"],
) -> None:
    """Keep the clearest hit and the clearest miss of each attribute so far."""
    for pair, (hit, energy) in enumerate(scores[:, :2].tolist()):
        if np.isnan(hit):
            continue
        index, row = int(asking.images[pair]), int(asking.attributes[pair])
        kept = cases.get((row, bool(hit)))
        if kept and (energy <= kept.energy_ratio if hit else energy >= kept.energy_ratio):
            continue
        pixels = given.images.batch(torch.tensor([index])).images[0]
        cases[row, bool(hit)] = Case(
            method=given.methods[0],
            attribute=given.network.attributes[row],
            image_name=given.images.data.names[index],
            hit=bool(hit),
            energy_ratio=energy,
            image=pixels.permute(1, 2, 0).numpy().copy(),
            region=asking.regions[pair],
            map=maps[pair].astype(np.float32),
        )


def _summary(
    given: Examination,
    asked: Int[np.ndarray, "2 pair"],
    scores: Float[np.ndarray, "pair method score"],
    cases: Mapping[tuple[int, bool], Case],
    tolerance: float,
) -> Localization:
    """Return means and intervals of everything that was judged."""
    data = given.images.data
    known = None if data.identities is None else data.identities.numpy()
    units = resampling_units(len(data), known)[asked[0]]
    pairs = Pairs(asked[0], asked[1], units, given.network.attributes)
    overlaps = [
        iou_at_others_level(scores[:, m, 3:], pairs.attributes, pairs.second_half)
        for m in range(len(given.methods))
    ]
    iou = np.stack([values for values, _ in overlaps], axis=1)
    values = (scores[:, :, 0], scores[:, :, 1], iou, scores[:, :, 2])
    measured = {
        name: measure(table, given.methods, pairs, geometric=name in GEOMETRIC, seed=given.seed)
        for name, table in zip(MEASURES, values, strict=True)
    }
    return Localization(
        images=len(np.unique(pairs.images)),
        units=len(np.unique(units)),
        people=bool((units >= 0).any()),
        tolerance_pixels=tolerance,
        methods={
            method: {name: by_method[method] for name, by_method in measured.items()}
            for method in given.methods
        },
        levels={
            method: levels for method, (_, levels) in zip(given.methods, overlaps, strict=True)
        },
        cases=tuple(cases[key] for key in sorted(cases, key=lambda key: (key[0], not key[1]))),
    )
