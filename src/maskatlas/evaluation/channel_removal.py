"""Does a channel's importance say what is lost without it: channels go, and the logit follows."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int, Int64
from torch import Tensor
from tqdm import tqdm

from maskatlas import distributed
from maskatlas.cache import PackedImages
from maskatlas.evaluation.agreement import Agreement, rank_agreement
from maskatlas.evaluation.channels import READINGS, channel_readings, readings_by_image
from maskatlas.evaluation.draws import (
    Weights,
    bounds_of_mean,
    draw_weights,
    drawn_auroc,
    drawn_mean,
)
from maskatlas.evaluation.examination import Examination
from maskatlas.evaluation.faithfulness import area_under
from maskatlas.evaluation.intervals import Bounds, Measured, Pairs, measure
from maskatlas.evaluation.positives import restricted_subnetworks, units_of
from maskatlas.inference import passes
from maskatlas.interventions import (
    ChannelEffects,
    HeldFeatures,
    effects_of,
    evenly_spread,
    hold_features,
    positive_mean,
    removed_one_by_one,
    without,
)
from maskatlas.metrics import auroc, mean_defined, or_none
from maskatlas.model import AttributeNetwork

IMAGES = 200
"""Channels are removed on at most so many images, unless told otherwise."""
STEPS = 8
"""Channels go in so many equal parts."""
RANDOM = "random"

Readings = Mapping[str, Float[np.ndarray, "attribute channel"]]


@dataclass(frozen=True, eq=False)
class Removal:
    """What is left as channels go in one order, each set to its mean."""

    order: str
    """By which reading, the most important first; or ``random``."""
    logit: Float[np.ndarray, " step"]
    """Mean over attributes of the positives' mean logit, less that with all channels gone."""
    auroc: Float[np.ndarray, " step"]
    """Mean over attributes."""
    logit_area: Measured | None
    """Area between the random order's curve of logits and this one, above 0 if this falls
    faster; None for the random order."""
    auroc_area: Bounds | None
    """The same between the curves of AUROC, a mean over attributes."""

    def to_json(self) -> dict[str, Any]:
        """Return curves, and areas where there are some."""
        curves = {"logit": _listed(self.logit), "auroc": _listed(self.auroc)}
        if self.logit_area is None or self.auroc_area is None:
            return curves
        return curves | {
            "logit_area": self.logit_area.to_json(),
            "auroc_area": self.auroc_area.to_json(),
        }


@dataclass(frozen=True, eq=False)
class ChannelFaithfulness:
    """Whether what a channel adds, or how wide its mask is open, says what it is needed for."""

    attributes: tuple[str, ...]
    images: int
    removals: tuple[Removal, ...]
    agreement: Mapping[str, Agreement]
    """By names such as ``mask-logit``, ``mask-auroc``, ``mask-change``."""
    completeness_error: float
    """Largest difference between a logit and its bias plus the sum of all contributions."""

    def to_json(self) -> dict[str, Any]:
        """Return it as ``evaluation.json`` has it."""
        return {
            "images": self.images,
            "completeness_error": self.completeness_error,
            "removal": {removal.order: removal.to_json() for removal in self.removals},
            "agreement": {
                name: found.to_json(self.attributes) for name, found in self.agreement.items()
            },
        }


def channel_faithfulness(
    given: Examination, *, limit: int = IMAGES, steps: int = STEPS
) -> ChannelFaithfulness:
    """Remove channels, one by one and in order; docs/evaluation.md defines what is measured.

    Args:
        given: The network, with sub-networks, and the images; methods play no part.
        limit: Most images, spread evenly; their features are held.
        steps: Parts in which the channels go.
    """
    network, images = given.network, given.images
    sample = evenly_spread(len(images), limit)
    weights = draw_weights(units_of(given)[sample.numpy()], given.seed)
    readings = channel_readings(network, images, sample)
    return ChannelFaithfulness(
        attributes=network.attributes,
        images=len(sample),
        removals=_removals(given, sample, _orders(readings, given.seed), steps, weights),
        agreement=_agreement(given, sample, readings, weights),
        completeness_error=completeness_error(network, images, sample),
    )


def _agreement(
    given: Examination,
    sample: Int64[Tensor, " chosen"],
    readings: Readings,
    weights: Weights,
) -> dict[str, Agreement]:
    """Set every reading against what removing a channel does, of the sample and in each draw."""
    network, images, judged = given.network, given.images, given.judged()
    truth = given.labels[sample].numpy()
    title = "channels, one by one" if given.progress else None
    whole, *parts = removed_one_by_one(network, images, sample, precision="float32", title=title)
    drawn_readings = {
        name: drawn_mean(values, weights)
        for name, values in readings_by_image(network, images, sample).items()
    }
    found = {}
    drawn_effects = drawn_channel_effects(whole, np.stack(parts, axis=-1), truth, weights)
    for kind, effect in effects_of(whole, parts, truth)._asdict().items():
        drawn_effect = getattr(drawn_effects, kind)
        for reading, values in readings.items():
            drawn = drawn_readings[reading], drawn_effect
            found[f"{reading}-{kind}"] = rank_agreement((values, effect), drawn, judged)
    return found


def drawn_channel_effects(
    whole: Float[np.ndarray, "image attribute"],
    without: Float[np.ndarray, "image attribute channel"],
    labels: Float[np.ndarray, "image attribute"],
    weights: Weights,
) -> ChannelEffects:
    """Return what each attribute loses without each channel, in each draw.

    Args:
        whole: Logits.
        without: Logits with each channel at its mean.
        labels: 0, 1, or NaN where unknown.
        weights: As :func:`maskatlas.evaluation.draws.draw_weights` gives them.
    """
    shape = len(weights), *without.shape[1:]
    area, logit = np.empty(shape), np.empty(shape)
    for k, truth in enumerate(labels.T):
        scores = np.concatenate([whole[:, k, None], without[:, k]], axis=1)
        areas = drawn_auroc(scores, truth, weights)
        area[:, k] = areas[:, :1] - areas[:, 1:]
        logit[:, k] = drawn_mean(scores[:, :1] - scores[:, 1:], weights * (truth == 1))
    return ChannelEffects(area, logit, drawn_mean(np.abs(whole[..., None] - without), weights))


def completeness_error(
    network: AttributeNetwork, images: PackedImages, sample: Int64[Tensor, " chosen"]
) -> float:
    """Return the largest difference between a logit and bias plus contributions, in logits."""
    assert network.subnetworks is not None
    worst = torch.zeros(len(sample), dtype=torch.float64)
    for batch, output in passes(network, images, indices=sample):
        assert output.logits is not None
        with torch.no_grad():
            for row, name in enumerate(network.attributes):
                shares = network.contributions(output.features, [name]).sum((1, 2, 3, 4))
                total = shares + network.subnetworks.bias[row]
                error = (total - output.logits[:, row]).abs().to("cpu", torch.float64)
                places = torch.searchsorted(sample, batch.indices)
                worst[places] = worst[places].maximum(error)
    return float(distributed.sum_(worst).max())


def _orders(
    readings: Mapping[str, Float[np.ndarray, "attribute channel"]], seed: int
) -> dict[str, Int[np.ndarray, "attribute channel"]]:
    """Return the channels of each attribute, the most important first, and at random."""
    orders = {name: np.argsort(-values, axis=1, kind="stable") for name, values in readings.items()}
    some = next(iter(orders.values()))
    return orders | {RANDOM: np.random.default_rng(seed).permuted(np.sort(some, axis=1), axis=1)}


def _removals(
    given: Examination,
    sample: Int64[Tensor, " chosen"],
    orders: Mapping[str, Int[np.ndarray, "attribute channel"]],
    steps: int,
    weights: Weights,
) -> tuple[Removal, ...]:
    """Return the curves of each order, and their areas against the random one, which is last."""
    network, labels = given.network, given.labels[sample].numpy()
    held = hold_features(network, given.images, sample)
    logits = np.empty((len(orders), steps + 1, *labels.shape))
    hidden = None if given.progress else True
    rows = tqdm(range(labels.shape[1]), desc="channels, in order", disable=hidden, leave=False)
    for row in rows:
        for place, order in enumerate(orders.values()):
            found = _remaining(network, held, sample, row, order[row], steps)
            logits[place, :, :, row] = found
    areas = np.stack([[auroc(scores, labels) for scores in order] for order in logits])
    means = np.stack([[positive_mean(scores, labels) for scores in order] for order in logits])
    fallen = area_under(np.moveaxis(logits, 1, -1))
    pairs = _pairs(given, sample)
    between = (fallen[-1] - fallen[:-1])[:, labels == 1].T
    measured = measure(between, READINGS, pairs, seed=given.seed)
    ranked, drawn = area_under(np.moveaxis(areas, 1, -1)), drawn_areas(logits, labels, weights)
    return tuple(
        Removal(
            order=name,
            logit=np.array([mean_defined(row) for row in means[place] - means[place, -1]]),
            auroc=np.array([mean_defined(row) for row in areas[place]]),
            logit_area=measured.get(name),
            auroc_area=None
            if name == RANDOM
            else bounds_of_mean(ranked[-1] - ranked[place], drawn[:, -1] - drawn[:, place]),
        )
        for place, name in enumerate(orders)
    )


def drawn_areas(
    logits: Float[np.ndarray, "order step image attribute"],
    labels: Float[np.ndarray, "image attribute"],
    weights: Weights,
) -> Float[np.ndarray, "draw order attribute"]:
    """Return the area under each order's curve of AUROC, in each draw."""
    orders, steps, _, attributes = logits.shape
    areas = [
        drawn_auroc(logits[..., k].reshape(orders * steps, len(truth)).T, truth, weights)
        for k, truth in enumerate(labels.T)
    ]
    curves = np.stack(areas, axis=-1).reshape(len(weights), orders, steps, attributes)
    return area_under(np.moveaxis(curves, 2, -1))


def _pairs(given: Examination, sample: Int64[Tensor, " chosen"]) -> Pairs:
    """Return all images of the sample with the attributes that they have."""
    images, attributes = torch.nonzero(given.labels[sample] == 1).T
    chosen = sample[images].numpy()
    return Pairs(chosen, attributes.numpy(), units_of(given)[chosen], given.network.attributes)


def _remaining(
    network: AttributeNetwork,
    held: HeldFeatures,
    sample: Int64[Tensor, " chosen"],
    row: int,
    order: Int[np.ndarray, " channel"],
    steps: int,
) -> Float[np.ndarray, "step image"]:
    """Return one attribute's logits with none, some and all of the channels at their means."""
    assert network.subnetworks is not None
    subnetwork = restricted_subnetworks(network.subnetworks, [row])
    found = torch.zeros((steps + 1, len(sample)), dtype=torch.float64)
    counts = np.linspace(0, len(order), steps + 1).round().astype(int).tolist()
    for logits, gone in zip(found, counts, strict=True):
        chosen: Sequence[int] = order[:gone].tolist()
        for indices, features in held.batches:
            with torch.no_grad():
                answers = subnetwork(without(features, chosen, held.means))
            places = torch.searchsorted(sample, indices)
            logits[places] = answers.logits[:, 0].to("cpu", torch.float64)
    return distributed.sum_(found).numpy()


def _listed(values: Float[np.ndarray, " value"]) -> list[float | None]:
    return [or_none(value) for value in values.tolist()]
