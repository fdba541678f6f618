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
from maskatlas.evaluation.channels import READINGS, channel_readings
from maskatlas.evaluation.examination import Examination
from maskatlas.evaluation.faithfulness import area_under
from maskatlas.evaluation.intervals import Measured, Pairs, measure
from maskatlas.evaluation.positives import restricted_subnetworks
from maskatlas.importance import spearman
from maskatlas.inference import passes
from maskatlas.interventions import (
    HeldFeatures,
    channel_effects,
    evenly_spread,
    hold_features,
    positive_mean,
    without,
)
from maskatlas.metrics import auroc, mean_defined, or_none
from maskatlas.model import AttributeNetwork
from maskatlas.resampling import resampling_units

IMAGES = 200
"""Channels are removed on at most so many images, unless told otherwise."""
STEPS = 8
"""Channels go in so many equal parts."""
RANDOM = "random"

Rows = Float[np.ndarray, " attribute"]


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
    auroc_area: Rows | None
    """The same between the curves of AUROC, for each attribute."""

    def to_json(self) -> dict[str, Any]:
        """Return curves, and areas where there are some."""
        curves = {"logit": _listed(self.logit), "auroc": _listed(self.auroc)}
        if self.logit_area is None or self.auroc_area is None:
            return curves
        area = or_none(mean_defined(self.auroc_area))
        return curves | {"logit_area": self.logit_area.to_json(), "auroc_area": area}


@dataclass(frozen=True, eq=False)
class ChannelFaithfulness:
    """Whether what a channel adds, or how wide its mask is open, says what it is needed for."""

    attributes: tuple[str, ...]
    images: int
    removals: tuple[Removal, ...]
    agreement: Mapping[str, Rows]
    """Spearman's correlation over channels of a reading and what a channel that is set to its mean
    does, for each attribute; by names such as ``mask-logit``, ``mask-auroc``, ``mask-change``."""
    completeness_error: float
    """Largest difference between a logit and its bias plus the sum of all contributions."""

    def to_json(self) -> dict[str, Any]:
        """Return it as ``evaluation.json`` has it."""
        return {
            "images": self.images,
            "completeness_error": self.completeness_error,
            "removal": {removal.order: removal.to_json() for removal in self.removals},
            "agreement": {
                name: {
                    "mean": or_none(mean_defined(values)),
                    "attributes": dict(zip(self.attributes, _listed(values), strict=True)),
                }
                for name, values in self.agreement.items()
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
    network, images, labels = given.network, given.images, given.labels
    sample = evenly_spread(len(images), limit)
    judged = given.judged()
    readings = channel_readings(network, images, sample)
    effects = channel_effects(
        *(network, images, labels, sample),
        precision="float32",
        title="channels, one by one" if given.progress else None,
    )
    return ChannelFaithfulness(
        attributes=network.attributes,
        images=len(sample),
        removals=_removals(given, sample, _orders(readings, given.seed), steps),
        agreement={
            f"{reading}-{kind}": np.where(judged, spearman(values, effect), np.nan)
            for reading, values in readings.items()
            for kind, effect in effects._asdict().items()
        },
        completeness_error=completeness_error(network, images, sample),
    )


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
    ranked = area_under(np.moveaxis(areas, 1, -1))
    return tuple(
        Removal(
            order=name,
            logit=np.array([mean_defined(row) for row in means[place] - means[place, -1]]),
            auroc=np.array([mean_defined(row) for row in areas[place]]),
            logit_area=measured.get(name),
            auroc_area=None if name == RANDOM else ranked[-1] - ranked[place],
        )
        for place, name in enumerate(orders)
    )


def _pairs(given: Examination, sample: Int64[Tensor, " chosen"]) -> Pairs:
    """Return all images of the sample with the attributes that they have."""
    people = given.images.data.identities
    units = resampling_units(len(given.images), None if people is None else people.numpy())
    images, attributes = torch.nonzero(given.labels[sample] == 1).T
    chosen = sample[images].numpy()
    return Pairs(chosen, attributes.numpy(), units[chosen], given.network.attributes)


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
