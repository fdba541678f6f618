"""Sums of masks, scores and labels over random groups of images, and the statistics of each draw.

All statistics of the atlas whose confidence is asked for are functions of sums over images. The
units (people, or images) are shared out at random among at most `GROUPS` groups, each of one unit
where there are no more, and the sums of each group are kept: an image is added once, whatever the
number of draws. In the bootstrap replicate r a group counts as often as it is drawn, in a half once
or not at all; draw 0 is the data as they are. Groups of units that are independent are independent
too, and as many vary as the units do: the method of random groups (Wolter 2007, chapter 2). With
256 the width of an interval is known to 1 / sqrt(2 * 255) of it, 4 %; 200 replicates leave 5 %.

Memory: 8 bytes for each group and each of about K C + K C + C^2 / 2 + 8 K^2 sums, whatever the
number of images: 62 MB for 40 attributes, 128 channels and 256 groups. At the end, all draws of one
sum at a time take as much.

**Which statistics.** Those of :mod:`maskatlas.statistics`, and ``following[k, l]``, whether the
score of attribute k goes with that of attribute l when k's own label does not change: the partial
correlation of the two logits, with label k taken out of both, over the images where it is known.
``apart[k, l]``, of the data as they are only, is the correlation of two attributes over the images
that have one of them but not the other.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
from jaxtyping import Float, Int

from maskatlas.resampling import half_weights, poisson_weights, random_groups

REPLICATES: Final = 200
"""Bootstrap replicates, unless told otherwise."""
SPLITS: Final = 10
"""How often the images are split into halves."""
GROUPS: Final = 256
"""Units are drawn in so many groups at most."""
_ROUNDING: Final = 1e-12
"""A variance that is a smaller share of the mean square is rounding."""

_APART: Final = tuple(
    f"apart{kind}_{name}" for kind in ("", "_centred") for name in ("sum", "square", "product")
)

Square = Float[np.ndarray, "draw row row"]
Pairs = Float[np.ndarray, "row row"]


class ReplicateSums:
    """Sums over the images of each group: update, merge, then the statistics of every draw.

    Args:
        attributes: K.
        channels: C.
        units: What is drawn as one, of all images that are to be added, by all processes, in any
            order; as :func:`maskatlas.resampling.resampling_units` has it.
        replicates: R, bootstrap replicates.
        splits: Splits of the images into halves, two draws each.
        seed: Of groups and draws.
    """

    def __init__(
        self,
        attributes: int,
        channels: int,
        units: Int[np.ndarray, " image"],
        *,
        replicates: int = REPLICATES,
        splits: int = SPLITS,
        seed: int = 0,
    ) -> None:
        self.attributes, self.channels = attributes, channels
        self.replicates = replicates
        self._units, self._groups = random_groups(units, GROUPS, seed)
        # a group is drawn as its first unit would be
        _, first = np.unique(self._groups, return_index=True)
        self._weights = _weights(self._units[first], replicates, splits, seed)
        K, C = attributes, channels
        self._shapes = {
            "images": (),
            "mask": (K, C),
            "magnitude": (K, C),
            "attribute_products": (K * (K + 1) // 2,),
            "channel_products": (C * (C + 1) // 2,),
            **dict.fromkeys(("known", "first", "both"), (K, K)),
            **dict.fromkeys(("score", "score_square", "score_product", "score_label"), (K, K)),
        }
        ends = np.cumsum([math.prod(shape) for shape in self._shapes.values()]).tolist()
        starts = [0, *ends[:-1]]
        self._columns = dict(zip(self._shapes, map(slice, starts, ends), strict=True))
        self._sums = {"groups": np.zeros((len(first), ends[-1]))}
        self._sums |= {name: np.zeros((K, K)) for name in ("apart", *_APART)}
        self._rows = np.empty((0, ends[-1]))

    def update(
        self,
        mask_mean: Float[np.ndarray, "batch attribute channel"],
        contribution: Float[np.ndarray, "batch attribute channel"],
        labels: Float[np.ndarray, "batch attribute"],
        units: Int[np.ndarray, " batch"],
    ) -> None:
        """Add a batch of images.

        Args:
            mask_mean: Mean of each mask over positions, 0 to 1.
            contribution: Contribution of each channel to each logit, signed; summed over channels
                it is the score.
            labels: 0, 1, or NaN where unknown.
            units: Of these images; each is one of those that were given at the beginning.
        """
        if not len(units):
            return
        rows = self._room(len(units))
        summands = {
            name: rows[:, columns].reshape(-1, *self._shapes[name])
            for name, columns in self._columns.items()
        }
        masks, first = summands["mask"], summands["first"]
        masks[...] = mask_mean
        products = masks @ masks.swapaxes(1, 2)
        _fill(summands, products, contribution, labels)
        for group, row in zip(self._groups_of(units), rows, strict=True):
            self._sums["groups"][group] += row
        either = first + first.swapaxes(1, 2) - 2 * summands["both"]
        self._sums["apart"] += either.sum(0)
        for name, values in _pair_sums(masks, products).items():
            self._sums[name] += (either * values).sum(0)

    def _room(self, images: int) -> Float[np.ndarray, "batch summand"]:
        """Return rows for what so many images add, the same memory again and again."""
        if len(self._rows) < images:
            self._rows = np.empty((images, self._sums["groups"].shape[1]))
        return self._rows[:images]

    def _groups_of(self, units: Int[np.ndarray, " batch"]) -> list[int]:
        place = np.searchsorted(self._units, units).clip(max=len(self._units) - 1)
        assert (self._units[place] == units).all(), "units that were not announced"
        return self._groups[place].tolist()  # type: ignore[no-any-return]

    def _drawn(self, name: str) -> Float[np.ndarray, "draw ..."]:
        """Return one of the sums, for each draw."""
        sums = self._sums["groups"][:, self._columns[name]]
        return (self._weights @ sums).reshape(-1, *self._shapes[name])

    def merge(self, other: "ReplicateSums") -> None:
        """Add what another has seen with the same draws, such as another process's share."""
        for name, sums in self._sums.items():
            sums += other._sums[name]

    def to_arrays(self) -> dict[str, Float[np.ndarray, "..."]]:
        """Return copies of the sums, whose shapes depend on K, C and the number of groups only."""
        return {name: sums.copy() for name, sums in self._sums.items()}

    def replace(self, parts: Sequence[Mapping[str, Float[np.ndarray, "..."]]]) -> None:
        """Take the sum of what :meth:`to_arrays` of several with the same draws gave."""
        self._sums = {name: np.sum([part[name] for part in parts], axis=0) for name in self._sums}

    @property
    def bootstrap(self) -> slice:
        """The draws that are bootstrap replicates."""
        return slice(1, 1 + self.replicates)

    @property
    def halves(self) -> slice:
        """The draws that are halves, two by two."""
        return slice(1 + self.replicates, None)

    def mask_mean(self) -> Float[np.ndarray, "draw attribute channel"]:
        """Return the mean of each mask over images and positions."""
        return _over(self._drawn("mask"), self._drawn("images")[:, None, None])

    def contribution_magnitude(self) -> Float[np.ndarray, "draw attribute channel"]:
        """Return the mean absolute contribution to the logit."""
        return _over(self._drawn("magnitude"), self._drawn("images")[:, None, None])

    def attribute_correlation(self) -> tuple[Square, Square]:
        """Return the plain and the centred correlation of the attributes."""
        return self._correlations("attribute_products", axis=2)

    def channel_correlation(self) -> tuple[Square, Square]:
        """Return the plain and the centred correlation of the channels."""
        return self._correlations("channel_products", axis=1)

    def _correlations(self, products: str, *, axis: int) -> tuple[Square, Square]:
        """Return correlations over images and the given axis of the masks."""
        samples = self._drawn("images") * self._shapes["mask"][axis - 1]
        mean = _over(self._drawn("mask").sum(axis), samples[:, None])
        square = _over(self._drawn(products), samples[:, None])
        # one draw after the other: what is computed of it stays in the processor's cache
        found = [_plain_and_centred(*of_draw) for of_draw in zip(mean, square, strict=True)]
        plain, centred = (np.stack(draws) for draws in zip(*found, strict=True))
        return plain, centred

    def label_correlation(self) -> Square:
        """Return the correlation of labels, over the images where both are known."""
        known, first, both = (self._drawn(name) for name in ("known", "first", "both"))
        spread = known * first - first**2
        product = spread * spread.swapaxes(1, 2)
        covariance = known * both - first * first.swapaxes(1, 2)
        return _over(covariance, np.sqrt(product))

    def apart(self) -> tuple[Pairs, Pairs, Pairs]:
        """Return correlations of attributes over the images that have one but not the other.

        Returns:
            The plain correlation, the centred one, and the number of those images.
        """
        samples = self._sums["apart"] * self.channels
        level = _over(self._sums["apart_square"], samples)
        found = []
        for kind in ("", "_centred"):
            mean, square, product = (
                _over(self._sums[f"apart{kind}_{name}"], samples)
                for name in ("sum", "square", "product")
            )
            variance = square - mean**2
            variance = np.where(variance > _ROUNDING * level, variance, 0)
            correlation = _over(product - mean * mean.T, np.sqrt(variance * variance.T))
            found.append(np.clip(correlation, -1, 1))
        return found[0], found[1], self._sums["apart"].copy()

    def following(self) -> Square:
        """Return how far the score of the row follows that of the column, label of the row apart.

        With s the scores and y the label of the row, over the images where y is known, it is
        Pearson's r of what is left of the two scores after a linear regression on y. NaN where y
        is never known, or always the same; 1 of an attribute with itself.
        """
        known = np.diagonal(self._drawn("known"), axis1=1, axis2=2)[..., None]
        label = _over(np.diagonal(self._drawn("both"), axis1=1, axis2=2)[..., None], known)
        mean, square, product, with_label = (
            _over(self._drawn(name), known)
            for name in ("score", "score_square", "score_product", "score_label")
        )
        own = np.diagonal(mean, axis1=1, axis2=2)[..., None]
        with_label = with_label - label * mean
        own_with_label = np.diagonal(with_label, axis1=1, axis2=2)[..., None]
        slope = _over(with_label, label - label**2)
        variance = square - mean**2 - slope * with_label
        variance = np.where(variance > _ROUNDING * square, variance, 0)
        own_variance = np.diagonal(variance, axis1=1, axis2=2)[..., None]
        covariance = product - own * mean - slope * own_with_label
        found: Square = np.clip(_over(covariance, np.sqrt(variance * own_variance)), -1, 1)
        return found


def _weights(
    units: Int[np.ndarray, " group"], replicates: int, splits: int, seed: int
) -> Float[np.ndarray, "draw group"]:
    """Return how often each group counts: once in the data as they are, then in every draw."""
    drawn = [
        np.ones((len(units), 1)),
        poisson_weights(units, replicates, seed),
        half_weights(units, splits, seed),
    ]
    return np.concatenate(drawn, axis=1).astype(np.float64).T


def _fill(
    summands: Mapping[str, Float[np.ndarray, "batch ..."]],
    products: Float[np.ndarray, "batch attribute attribute"],
    contribution: Float[np.ndarray, "batch attribute channel"],
    labels: Float[np.ndarray, "batch attribute"],
) -> None:
    """Write what each image adds to each sum beside its masks, whose products over channels come.

    In place: new memory for every batch would cost more than the sums.
    """
    masks, known, positive = summands["mask"], ~np.isnan(labels), labels == 1
    summands["images"][...] = 1
    np.abs(contribution, out=summands["magnitude"])
    summands["attribute_products"][...] = _triangle(products)
    summands["channel_products"][...] = _triangle(masks.swapaxes(1, 2) @ masks)
    score = contribution.sum(2, dtype=np.float64)
    for name, row, column in (
        ("known", known, known),
        ("first", positive, known),
        ("both", positive, positive),
        ("score", known, score),
        ("score_square", known, score**2),
        ("score_product", known * score, score),
        ("score_label", positive, score),
    ):
        np.multiply(row[:, :, None], column[:, None], out=summands[name])


def _pair_sums(
    masks: Float[np.ndarray, "batch attribute channel"],
    products: Float[np.ndarray, "batch attribute attribute"],
) -> dict[str, Float[np.ndarray, "batch attribute _"]]:
    """Return, over channels, each image's sums and squares of the row's masks, and products."""
    total, off = masks.sum(2), products.mean(2)
    # to take each channel's mean over attributes away is linear: it can be done afterwards
    centred = products - off[:, :, None] - off[:, None] + off.mean(1)[:, None, None]
    result: dict[str, Float[np.ndarray, "batch attribute _"]] = {}
    for kind, sums, product in (
        ("", total, products),
        ("_centred", total - total.mean(1, keepdims=True), centred),
    ):
        square = np.diagonal(product, axis1=1, axis2=2)
        names = (f"apart{kind}_{name}" for name in ("sum", "square", "product"))
        parts = (sums[:, :, None], square[:, :, None], product)
        result |= dict(zip(names, parts, strict=True))
    return result


def _triangle(symmetric: Float[np.ndarray, "batch row row"]) -> Float[np.ndarray, "batch pair"]:
    upper = np.flatnonzero(np.triu(np.ones(symmetric.shape[1:], bool)))
    return np.take(symmetric.reshape(len(symmetric), -1), upper, axis=1)


def _over(
    part: Float[np.ndarray, "draw ..."], whole: Float[np.ndarray, "draw ..."]
) -> Float[np.ndarray, "draw ..."]:
    """Return the quotient; NaN where the whole is not above 0."""
    quotient = np.full(np.broadcast_shapes(part.shape, whole.shape), np.nan)
    np.divide(part, whole, out=quotient, where=whole > 0)
    return quotient


def _plain_and_centred(
    mean: Float[np.ndarray, " row"], square: Float[np.ndarray, " pair"]
) -> tuple[Pairs, Pairs]:
    """Return the correlations of rows, and those once each column's mean over rows is taken away.

    Args:
        mean: Of each row.
        square: Mean products of every two rows, as :func:`_triangle` has them.
    """
    rows, columns = np.triu_indices(len(mean))
    squares = np.empty((len(mean), len(mean)))
    squares[rows, columns] = squares[columns, rows] = square
    level = np.diagonal(squares)
    covariance = squares - np.outer(mean, mean)
    plain = _pearson(covariance, floor=_ROUNDING * level)
    # to take each column's mean over the rows away is linear: it can be done afterwards
    off = covariance.mean(1)
    centred = covariance - off[:, None] - off + off.mean()
    return plain, _pearson(centred, floor=np.full_like(level, _ROUNDING * level.max()))


def _pearson(covariance: Pairs, *, floor: Float[np.ndarray, " row"]) -> Pairs:
    """Return correlations; NaN in the rows and columns whose variance is not above the floor."""
    variance = np.diagonal(covariance)
    scale = np.full(variance.shape, np.nan)
    np.sqrt(variance, out=scale, where=variance > floor)
    correlation: Pairs = np.clip(covariance / scale[:, None] / scale, -1, 1)
    return correlation
