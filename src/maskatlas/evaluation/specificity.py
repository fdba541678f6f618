"""Is a map, and a mask, about its own attribute: maps compared, masks exchanged."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from maskatlas import distributed
from maskatlas.evaluation.draws import (
    Weights,
    bounds_of_mean,
    draw_weights,
    drawn_auroc,
    drawn_mean,
)
from maskatlas.evaluation.examination import Examination
from maskatlas.evaluation.intervals import Bounds, Measured, Pairs, measure
from maskatlas.evaluation.positives import Positives, maps_of, units_of
from maskatlas.inference import passes
from maskatlas.interventions import evenly_spread, positive_mean
from maskatlas.metrics import attribute_metrics, or_none

IMAGES = 100
"""Maps are compared on at most so many images, unless told otherwise."""
EXCHANGED_IMAGES = 1000
"""Masks are exchanged on at most so many."""

Table = Float[np.ndarray, "attribute attribute"]


@dataclass(frozen=True, eq=False)
class Specificity:
    """How alike the maps of two attributes are, by method."""

    attributes: tuple[str, ...]
    images: int
    similarity: dict[str, Table]
    """Pearson over positions, mean over the images that have both; NaN where none has."""
    methods: dict[str, Measured]
    """The mean over all pairs of two attributes; NaN if there is none."""

    def to_json(self) -> dict[str, Any]:
        """Return the mean with its bounds, the difference, and the table of each method."""
        return {"images": self.images, "methods": {name: self._row(name) for name in self.methods}}

    def _row(self, method: str) -> dict[str, Any]:
        measured = self.methods[method].to_json()
        del measured["attributes"]  # of which two: the table says it better
        return {**measured, "similarity": _listed(self.similarity[method])}


@dataclass(frozen=True, eq=False)
class MaskExchange:
    """What becomes of attribute j (row) when it is given the mask of attribute k (column)."""

    attributes: tuple[str, ...]
    images: int
    logit: Table
    """Change of the mean logit of j's positives; 0 on the diagonal."""
    accuracy: Table
    """Change of the accuracy."""
    auroc: Table
    """Change of the AUROC."""
    mean: Mapping[str, Bounds]
    """Of ``logit``, ``accuracy`` and ``auroc`` over all pairs: how much it matters whose mask it
    is."""

    def to_json(self) -> dict[str, Any]:
        """Return means and tables."""
        return {
            "images": self.images,
            "attributes": list(self.attributes),
            "mean": {name: bounds.to_json() for name, bounds in self.mean.items()},
            "logit": _listed(self.logit),
            "accuracy": _listed(self.accuracy),
            "auroc": _listed(self.auroc),
        }


def specificity(given: Examination, *, limit: int = IMAGES) -> Specificity:
    """Compare the maps of every two attributes on the images that have both.

    A constant map is like none: its correlation is 0.

    Args:
        given: The network, the images, and the methods.
        limit: Most images, spread evenly over those with an attribute.

    Raises:
        ConfigError: A method that the network does not have.
    """
    chosen = Positives(given, limit=limit)
    count = len(given.network.attributes)
    correlations: dict[str, list[np.ndarray]] = {name: [np.empty(0)] for name in given.methods}
    images, twos = [np.empty(0, int)], [np.empty(0, int)]
    for positive in chosen.passing("specificity"):
        upper = np.triu_indices(len(positive.rows), 1)
        first, second = (np.array(positive.rows, int)[side] for side in upper)
        images.append(np.full(len(first), positive.place))
        twos.append(first * count + second)
        for name, found in correlations.items():
            found.append(map_correlation(maps_of(given, positive, name))[upper])
    values = np.stack([np.concatenate(found) for found in correlations.values()], axis=1)
    return _specificity(chosen, values, np.concatenate(images), np.concatenate(twos))


def _specificity(
    chosen: Positives,
    values: Float[np.ndarray, "pair method"],
    images: Int[np.ndarray, " pair"],
    twos: Int[np.ndarray, " pair"],
) -> Specificity:
    """Return what was measured of two attributes j < k of an image, told by j K + k."""
    given = chosen.given
    count = len(given.network.attributes)
    seen, place = np.unique(twos, return_inverse=True)
    pairs = Pairs(images, place, units_of(given)[images], tuple(str(two) for two in seen))
    methods = measure(values, given.methods, pairs, seed=given.seed)
    tables = {}
    for name, measured in methods.items():
        table = tables[name] = np.full((count, count), np.nan)
        for two in seen:
            j, k = divmod(two, count)
            table[j, k] = table[k, j] = measured.attributes[str(two)].mean
    return Specificity(tuple(given.network.attributes), len(chosen), tables, methods)


def map_correlation(
    maps: Float[Tensor, "attribute rows columns"],
) -> Float[np.ndarray, "attribute attribute"]:
    """Return Pearson's correlation over positions of every two maps; 0 for a constant one."""
    flat = maps.flatten(1).double()
    centred = flat - flat.mean(1, keepdim=True)
    length = centred.norm(dim=1, keepdim=True)
    rounding = 1e-6 * flat.abs().amax(1, keepdim=True) * flat.shape[1] ** 0.5  # maps are float32
    unit = torch.where(length > rounding, centred / length, 0.0)
    return (unit @ unit.T).clamp(-1, 1).cpu().numpy()


def mask_exchange(given: Examination, *, limit: int = EXCHANGED_IMAGES) -> MaskExchange:
    """Give every attribute the mask of every other.

    With M^k in place of M^j, the logit of j is w^j . p^k + c^j, where p^k is what is pooled for k
    anyhow: one matrix product for each image.

    Args:
        given: The network, with sub-networks, and the images; methods play no part.
        limit: Most images, spread evenly; K x K scores of each are held.
    """
    network, images, labels = given.network, given.images, given.labels
    assert network.subnetworks is not None, "there are no masks to exchange"
    sample = evenly_spread(len(images), limit)
    weight, bias = network.subnetworks.weight.detach(), network.subnetworks.bias.detach()
    count = len(network.attributes)
    scores = torch.zeros((len(sample), count, count))
    title = "exchanging masks" if given.progress else None
    for batch, output in passes(network, images, indices=sample, title=title):
        assert output.pooled is not None
        exchanged = weight @ output.pooled.to(weight.dtype).mT + bias[:, None]
        scores[torch.searchsorted(sample, batch.indices)] = exchanged.float().cpu()
    weights = draw_weights(units_of(given)[sample.numpy()], given.seed)
    return _changes(
        network.attributes, distributed.sum_(scores).numpy(), labels[sample].numpy(), weights
    )


def _changes(
    attributes: tuple[str, ...],
    scores: Float[np.ndarray, "image attribute attribute"],
    truth: Float[np.ndarray, "image attribute"],
    weights: Weights,
) -> MaskExchange:
    tables = {name: np.empty(scores.shape[1:]) for name in ("logit", "accuracy", "auroc")}
    draws = {name: np.empty((len(weights), *scores.shape[1:])) for name in tables}
    for j, own in enumerate(truth.T):
        same = np.repeat(own[:, None], truth.shape[1], axis=1)
        measured = attribute_metrics(scores[:, j], same)
        for name, values in (
            ("logit", positive_mean(scores[:, j], same)),
            ("accuracy", measured.accuracy),
            ("auroc", measured.auroc),
        ):
            tables[name][j] = values - values[j]
        for name, drawn in drawn_scores(scores[:, j], own, weights).items():
            draws[name][:, j] = drawn - drawn[:, j, None]
    mean = {
        name: bounds_of_mean(_off_diagonal(table), _off_diagonal(draws[name]))
        for name, table in tables.items()
    }
    return MaskExchange(attributes, len(truth), **tables, mean=mean)


def drawn_scores(
    scores: Float[np.ndarray, "image mask"], labels: Float[np.ndarray, " image"], weights: Weights
) -> dict[str, Float[np.ndarray, "draw mask"]]:
    """Return mean positive logit, accuracy and AUROC of one attribute by each mask, in each draw.

    Args:
        scores: Logits.
        labels: 0, 1, or NaN where unknown.
        weights: As :func:`maskatlas.evaluation.draws.draw_weights` gives them.
    """
    right = (scores > 0) == (labels[:, None] == 1)
    return {
        "logit": drawn_mean(scores, weights * (labels == 1)),
        "accuracy": drawn_mean(right.astype(np.float64), weights * ~np.isnan(labels)),
        "auroc": drawn_auroc(scores, labels, weights),
    }


def _off_diagonal(
    tables: Float[np.ndarray, "*draw attribute attribute"],
) -> Float[np.ndarray, "*draw pair"]:
    return np.asarray(tables[..., ~np.eye(tables.shape[-1], dtype=bool)])


def _listed(table: Table) -> list[list[float | None]]:
    return [[or_none(value) for value in row] for row in table.tolist()]
