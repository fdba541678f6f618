"""Does the explanation find a shortcut: an attribute that copies another in the training data.

Networks are trained on rendered faces in which one attribute copies another, the source, with some
probability, and judged on faces in which it does not. Does the atlas name the pair, does the map
move from the attribute's own region to the source's, and does the accuracy on the counter-examples
fall with it?
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8

from maskatlas.analysis import Atlas
from maskatlas.cache import PackedImages
from maskatlas.cases import Sight
from maskatlas.errors import DataError
from maskatlas.evaluation.examination import Examination
from maskatlas.evaluation.intervals import Bounds
from maskatlas.evaluation.pointing import TOLERANCE, distances, pointing_hits
from maskatlas.evaluation.positives import Positive, Positives, Tally, maps_of
from maskatlas.inference import predict
from maskatlas.metrics import mean_defined, or_none

IMAGES = 200
"""Maps are looked at on at most so many images, unless told otherwise."""
SIGHTS = 4
"""So many images are kept to be shown, the same of every network."""
MEASURES = ("share", "pointing_own", "pointing_source")


@dataclass(frozen=True)
class PlantedPair:
    """Whether the atlas names the planted pair among the suspected shortcuts."""

    q_value: float
    """The false-discovery rate at which it is named: the higher one of labels and scores."""
    place: int | None
    """From 1, the worst suspect first; None if it is not suspected."""
    suspected: int
    """Number of pairs that are, this one or others."""

    @property
    def first(self) -> bool:
        """Whether it is named before all others."""
        return self.place == 1

    def to_json(self) -> dict[str, Any]:
        """Return it as ``shortcuts.json`` has it."""
        return {
            "q_value": or_none(self.q_value),
            "place": self.place,
            "suspected": self.suspected,
        }


@dataclass(frozen=True)
class Moved:
    """Where one method's maps of the attribute are, on images that have it and the source."""

    method: str
    share: Bounds
    """Energy per pixel in the source's region, over that in both: 0 own, 1/2 neither, 1 source."""
    pointing_own: Bounds
    """How often the highest point is in the attribute's own region."""
    pointing_source: Bounds
    """How often it is in the source's."""

    def to_json(self) -> dict[str, Any]:
        """Return means and bounds."""
        return {name: getattr(self, name).to_json() for name in MEASURES}


@dataclass(frozen=True)
class ShortcutPoint:
    """One network: what it learned at one probability, and whether that can be seen."""

    attribute: str
    source: str
    probability: float
    accuracy: float
    """On images where attribute and source agree."""
    counter_accuracy: float
    """On the counter-examples, where they differ."""
    pair: PlantedPair | None
    """None without an atlas."""
    methods: tuple[Moved, ...]
    sights: tuple[Sight, ...] = ()
    """Maps by the first method, on images that have both."""

    def to_json(self) -> dict[str, Any]:
        """Return it as ``shortcuts.json`` has it."""
        return {
            "probability": self.probability,
            "accuracy": or_none(self.accuracy),
            "counter_accuracy": or_none(self.counter_accuracy),
            "pair": None if self.pair is None else self.pair.to_json(),
            "methods": {moved.method: moved.to_json() for moved in self.methods},
        }


@dataclass(frozen=True, eq=False)
class ShortcutCurve:
    """All networks, by rising probability; several of one probability are averaged."""

    points: tuple[ShortcutPoint, ...]
    probabilities: Float[np.ndarray, " probability"]
    counter_accuracy: Float[np.ndarray, " probability"]
    shares: dict[str, Float[np.ndarray, " probability"]]
    """How far each method's maps are at the source."""

    def moved(self, method: str) -> float:
        """Return the area between the curve of a method's shares and where it begins.

        0 if the maps stay where they are without a shortcut, over the range of probabilities.
        """
        shares = self.shares[method]
        return _mean_over(self.probabilities, shares - shares[0])

    @property
    def lost(self) -> float:
        """The area between where the accuracy on counter-examples begins, and its curve."""
        fallen = self.counter_accuracy[0] - self.counter_accuracy
        return _mean_over(self.probabilities, fallen)

    @property
    def sights(self) -> dict[float, tuple[Sight, ...]]:
        """The maps to show: of the first network of each probability."""
        firsts = {point.probability: point for point in reversed(self.points)}
        return {p: firsts[p].sights for p in sorted(firsts)}

    def to_json(self) -> dict[str, Any]:
        """Return the areas, then the curves, then the points."""
        return {
            "attribute": self.points[0].attribute,
            "source": self.points[0].source,
            "lost": or_none(self.lost),
            "moved": {method: or_none(self.moved(method)) for method in self.shares},
            "probabilities": self.probabilities.tolist(),
            "counter_accuracy": [or_none(value) for value in self.counter_accuracy.tolist()],
            "shares": {
                method: [or_none(value) for value in values.tolist()]
                for method, values in self.shares.items()
            },
            "points": [point.to_json() for point in self.points],
        }


def shortcut_point(
    given: Examination,
    planted: tuple[str, str, float],
    *,
    atlas: Atlas | None = None,
    limit: int = IMAGES,
) -> ShortcutPoint:
    """Judge one network on images in which nothing is planted.

    Args:
        given: The network, images with regions, and the methods.
        planted: Attribute, source, and the probability in the network's training data.
        atlas: Of the network, with confidence, on data like those that it was trained on.
        limit: Most images for maps, spread evenly over those that have both.

    Raises:
        ConfigError: The network does not know the attribute or the source.
        DataError: The data has no regions, or no labels of one of the two.
    """
    attribute, source, probability = planted
    network, labels, data = given.network, given.labels, given.images.data
    rows = network.attribute_indices([attribute, source])
    if not data.has_regions or not {attribute, source} <= {*data.attributes}:
        raise DataError(
            f"{data.path or data.source}: expected regions and labels of {attribute} and {source}; "
            "rendered faces have them"
        )
    title = "counter-examples" if given.progress else None
    answers = (predict(network, given.images, title=title).scores[:, rows[0]] > 0).numpy()
    own, other = (labels[:, row].numpy() for row in rows)
    right = np.where(np.isnan(own) | np.isnan(other), np.nan, answers == (own == 1))
    moved, sights = _moved(given, (attribute, source), limit)
    return ShortcutPoint(
        attribute=attribute,
        source=source,
        probability=probability,
        accuracy=mean_defined(right[own == other]),
        counter_accuracy=mean_defined(right[own != other]),
        pair=None if atlas is None else planted_pair(atlas, attribute, source),
        methods=moved,
        sights=sights,
    )


def shortcut_curve(points: Sequence[ShortcutPoint]) -> ShortcutCurve:
    """Put points in order, and average those of one probability.

    Args:
        points: At least two, of different probabilities, with the same pair and methods.
    """
    ordered = sorted(points, key=lambda point: point.probability)
    probabilities = sorted({point.probability for point in ordered})
    assert len(probabilities) > 1, "a curve needs two probabilities"
    groups = [[p for p in ordered if p.probability == value] for value in probabilities]
    names = [moved.method for moved in ordered[0].methods]
    return ShortcutCurve(
        points=tuple(ordered),
        probabilities=np.array(probabilities),
        counter_accuracy=np.array([_mean([p.counter_accuracy for p in g]) for g in groups]),
        shares={
            name: np.array([_mean([p.methods[place].share.mean for p in g]) for g in groups])
            for place, name in enumerate(names)
        },
    )


def planted_pair(atlas: Atlas, attribute: str, source: str) -> PlantedPair:
    """Return where the planted pair stands among those that the atlas suspects."""
    wanted = {attribute, source}
    suspects = [{pair.first, pair.second} for pair in atlas.suspected_shortcuts()]
    (pair,) = (p for p in atlas.attribute_pairs() if {p.first, p.second} == wanted)
    return PlantedPair(
        q_value=float(np.maximum(pair.labels.q, pair.following.q)),
        place=suspects.index(wanted) + 1 if wanted in suspects else None,
        suspected=len(suspects),
    )


def source_share(
    values: Float[np.ndarray, "height width"],
    own: Bool[np.ndarray, "height width"],
    source: Bool[np.ndarray, "height width"],
) -> float:
    """Return the map's energy per pixel in the source's region, over that in both regions.

    Energy is the map's positive part. What belongs to both regions counts in neither. NaN if a
    region is empty, or no energy is in either.
    """
    regions = own & ~source, source & ~own
    if not all(region.any() for region in regions):
        return float("nan")
    energy = np.maximum(values, 0)
    here, there = (float(energy[region].mean()) for region in regions)
    return there / (here + there) if here + there > 0 else float("nan")


def _moved(
    given: Examination, pair: tuple[str, str], limit: int
) -> tuple[tuple[Moved, ...], tuple[Sight, ...]]:
    """Measure the maps of the attribute on images that have it and the source; keep a few."""
    row, source_row = given.network.attribute_indices(pair)
    alone = torch.full_like(given.labels, torch.nan)
    alone[:, row] = (given.labels[:, [row, source_row]] == 1).all(1).to(alone.dtype)
    chosen = Positives(replace(given, labels=alone), limit=limit)
    tally = Tally(chosen, given.methods, MEASURES)
    tolerance = TOLERANCE * given.network.preprocessing.size
    sights: list[Sight] = []
    for positive in chosen.passing("shortcuts"):
        regions = _regions(given.images, positive.place, pair)
        for method in given.methods:
            values = maps_of(given, positive, method).cpu().numpy()
            found = [np.nan] * 3 if regions is None else _located(values, regions, tolerance)
            for name, value in zip(MEASURES, found, strict=True):
                tally.add(method, name, np.array([value]))
            if regions is not None and method == given.methods[0] and len(sights) < SIGHTS:
                sights.append(_sight(given, positive, regions, values[0]))
    moved = tuple(
        Moved(method, *(measures[name].overall for name in MEASURES))
        for method, measures in tally.measured().items()
    )
    return moved, tuple(sights)


def _sight(
    given: Examination,
    positive: Positive,
    regions: UInt8[np.ndarray, "2 size size"],
    values: Float[np.ndarray, "size size"],
) -> Sight:
    pixels = given.images.batch(torch.tensor([positive.place])).images[0]
    return Sight(
        image_name=given.images.data.names[positive.place],
        image=pixels.permute(1, 2, 0).numpy().copy(),
        own=regions[0],
        other=regions[1],
        map=values.astype(np.float32),
    )


def _located(
    values: Float[np.ndarray, "1 height width"],
    regions: UInt8[np.ndarray, "2 height width"],
    tolerance: float,
) -> list[float]:
    """Return the source's share, and whether the highest point is in either region."""
    if not (regions == 1).any((1, 2)).all():
        return [np.nan] * 3
    share = source_share(values[0], *(regions == 1))
    both = np.repeat(values, 2, axis=0)
    return [share, *pointing_hits(both, regions, distances(regions), tolerance).tolist()]


def _regions(
    images: PackedImages, index: int, names: Sequence[str]
) -> UInt8[np.ndarray, "attribute size size"] | None:
    """Return the regions of the named attributes as the network would see them."""
    regions = images.data.regions(index)
    if regions is None:
        return None
    places = [images.data.attributes.index(name) for name in names]
    return np.stack([images.preprocessing.region(regions[place].numpy()) for place in places])


def _mean(values: Sequence[float]) -> float:
    return mean_defined(np.array(values))


def _mean_over(places: Float[np.ndarray, " point"], values: Float[np.ndarray, " point"]) -> float:
    """Return the mean height of a curve, by trapezoids."""
    return float(np.trapezoid(values, places) / (places[-1] - places[0]))
