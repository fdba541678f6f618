"""Is a map about the network at all: when its weights are forgotten, the map must change."""

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from maskatlas.averages import average_contribution
from maskatlas.errors import ConfigError
from maskatlas.evaluation.examination import Examination
from maskatlas.evaluation.intervals import Measured
from maskatlas.evaluation.positives import Positives, Tally, maps_of
from maskatlas.evaluation.rank_correlation import unit_ranks
from maskatlas.metrics import or_none
from maskatlas.model import AVERAGES, AttributeNetwork, build_network

IMAGES = 20
"""Maps are compared on at most so many images, unless told otherwise; the maps are held."""
NETWORKS = 5
"""Networks with nothing but random weights, over which correlations are averaged."""
MASKS = "masks alone"
"""The stage at which only what masks are computed from is random."""
_MASK_PARTS = ("subnetworks.mask_weight", "subnetworks.mask_bias", "subnetworks.guide.")

Fresh = Callable[[], AttributeNetwork]
"""Makes a network of the same shape with random weights, as training would begin with."""


@dataclass(frozen=True)
class Stage:
    """What is left of one method's maps when some weights are random; of positives."""

    layer: str
    """The layer that became random last; those before it stay so. Or :data:`MASKS`."""
    method: str
    correlation: float
    """Spearman's correlation with the original map over positions, mean."""
    magnitude: Measured
    """Its absolute value: 0 if nothing is left, 1 if nothing has changed."""
    chance: float
    """The absolute correlation with the original map of another image: what is left of no map."""

    def to_json(self) -> dict[str, Any]:
        """Return all but the method."""
        return {
            "layer": self.layer,
            "correlation": or_none(self.correlation),
            "magnitude": self.magnitude.to_json(),
            "chance": or_none(self.chance),
        }


@dataclass(frozen=True)
class Expected:
    """What is left of one method's maps on average over :data:`NETWORKS` random networks.

    What two maps have in common by chance has another sign with each network, so that it is the
    less in their mean the more networks there are, by the square root of their number.
    """

    magnitude: Measured
    """Absolute value of a map's mean correlation with those of the networks, where these vary."""
    chance: float
    """The same of the original map of another image."""

    def to_json(self) -> dict[str, Any]:
        """Return both."""
        return self.magnitude.to_json() | {"chance": or_none(self.chance)}


@dataclass(frozen=True)
class Randomization:
    """The cascade from the heads down to the stem, and the masks alone."""

    images: int
    stages: tuple[Stage, ...]
    expected: Mapping[str, Expected]
    """By method."""

    def of(self, method: str) -> tuple[Stage, ...]:
        """Return the stages of one method, in order."""
        return tuple(stage for stage in self.stages if stage.method == method)

    def to_json(self) -> dict[str, Any]:
        """Return the stages, and what is expected of any random network, by method."""
        methods = dict.fromkeys(stage.method for stage in self.stages)
        return {
            "images": self.images,
            "methods": {name: [stage.to_json() for stage in self.of(name)] for name in methods},
            "networks": NETWORKS,
            "expected": {name: value.to_json() for name, value in self.expected.items()},
        }


def randomization(
    given: Examination, *, limit: int = IMAGES, fresh: Fresh | None = None
) -> Randomization:
    """Randomise layer after layer, from the heads to the stem (Adebayo et al. 2018).

    A random layer has the weights, and the running statistics, that a network of the same shape
    begins its training with. What contributions are on average is measured anew. The network
    itself is not touched. Once all layers are random, other random networks follow the first.

    Args:
        given: The network, the images, the methods, and the seed of the random weights.
        limit: Most images, spread evenly over those with an attribute.
        fresh: Makes a random network; needed for one of another system that was not read from a
            model folder.

    Raises:
        ConfigError: It is such a network, and ``fresh`` is not given; or a method that the network
            does not have.
    """
    network = given.network
    chosen = Positives(given, limit=limit)
    blank = _blank(network, given.seed, fresh)
    original = _ranked_maps(chosen, given, "randomised: none")
    stages: list[Stage] = []
    of_first = original
    for layer, changed in _stages(network, blank):
        maps = _maps_of_random(chosen, changed, f"randomised: {layer}")
        stages += _compared(layer, chosen, original, maps)
        if layer != MASKS:
            of_first = maps  # at last with all layers random

    def of_networks() -> Iterator[dict[str, _Ranked]]:
        yield of_first
        for number in range(1, NETWORKS):
            changed = copy.deepcopy(network)
            blank = _blank(network, given.seed + number, fresh)
            randomise(changed, blank, [name for names in layers(network) for name in names])
            yield _maps_of_random(chosen, changed, f"random network {number + 1} of {NETWORKS}")

    return Randomization(
        len(chosen), tuple(stages), expected=_expected(chosen, original, of_networks())
    )


def _blank(network: AttributeNetwork, seed: int, fresh: Fresh | None) -> AttributeNetwork:
    """Return a network with random weights."""
    make = fresh or network.anew
    if make is None and type(network) is AttributeNetwork:
        make = partial(build_network, network.config, network.attributes)
    if make is None:
        raise ConfigError(
            "randomisation: expected a network of maskatlas, or one read from a model folder, "
            f"found {type(network).__name__}; say by `fresh` how one with random weights is made"
        )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return make()


def _stages(
    network: AttributeNetwork, blank: AttributeNetwork
) -> Iterator[tuple[str, AttributeNetwork]]:
    """Return a copy of the network as layer after layer becomes random; the masks alone last."""
    changed = copy.deepcopy(network)
    for names in layers(network):
        randomise(changed, blank, names)
        yield names[0].rpartition(".")[0], changed
    masks = [name for name in network.state_dict() if name.startswith(_MASK_PARTS)]
    if masks:
        alone = copy.deepcopy(network)
        randomise(alone, blank, masks)
        yield MASKS, alone


def randomise(network: nn.Module, blank: nn.Module, names: Sequence[str]) -> None:
    """Give some weights of the network, in place, the values that they have in another."""
    weights, values = network.state_dict(), blank.state_dict()
    with torch.no_grad():
        for name in names:
            weights[name].copy_(values[name])


def layers(network: AttributeNetwork) -> list[list[str]]:
    """Return the names of the weights of each layer that maps depend on, from the heads down.

    A layer is a module with weights of its own, and what normalises it. What feeds a module stands
    below it. The reconstructor has no part in any map, nor has the multi-label classifier where
    sub-networks answer.
    """
    idle = ["reconstructor."] + (["classifier."] if network.subnetworks is not None else [])
    found: list[list[str]] = []
    for tensors in _tensors(network, ""):
        for name in AVERAGES:
            tensors.pop(name, None)
        if not tensors or next(iter(tensors)).startswith(tuple(idle)):
            continue
        matrix = any(tensor.ndim > 1 for tensor in tensors.values())
        if matrix or not found:
            found.append(list(tensors))
        else:
            found[-1] += tensors
    return found[::-1]


def _tensors(module: nn.Module, prefix: str) -> Iterator[dict[str, Tensor]]:
    """Return parameters and buffers of each module that has some, its children's before its own."""
    for name, child in module.named_children():
        yield from _tensors(child, f"{prefix}{name}.")
    own = [*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)]
    if own:
        yield {f"{prefix}{name}": tensor for name, tensor in own}


_Ranked = list[Float[np.ndarray, "_ position"]]


def _ranked_maps(chosen: Positives, given: Examination, title: str) -> dict[str, _Ranked]:
    """Return the unit ranks of every map of each image's attributes, by method."""
    found: dict[str, _Ranked] = {name: [] for name in given.methods}
    for positive in chosen.passing(title):
        for name, ranked in found.items():
            maps = maps_of(given, positive, name).flatten(1).cpu().numpy()
            ranked.append(unit_ranks(maps).astype(np.float32))
    return found


def _maps_of_random(chosen: Positives, changed: AttributeNetwork, title: str) -> dict[str, _Ranked]:
    """Return the same of a network some of whose weights are random, and its averages with them."""
    given = chosen.given
    if changed.average_contribution is not None:
        changed.average_contribution = average_contribution(changed, given.images, limit=IMAGES)
    return _ranked_maps(chosen, replace(given, network=changed), title)


def _expected(
    chosen: Positives, original: dict[str, _Ranked], networks: Iterator[dict[str, _Ranked]]
) -> dict[str, Expected]:
    """Return how far maps correlate with those of random networks on average, method by method."""
    total = {method: [np.zeros_like(maps) for maps in of] for method, of in original.items()}
    varied = {method: [np.zeros(len(maps)) for maps in of] for method, of in original.items()}
    for found in networks:
        for method, sums in total.items():
            for summed, count, maps in zip(sums, varied[method], found[method], strict=True):
                summed += np.nan_to_num(maps)
                count += ~np.isnan(maps[:, 0])
    # a mean of inner products is the inner product with the mean
    mean = {
        method: [_over(*of_image) for of_image in zip(sums, varied[method], strict=True)]
        for method, sums in total.items()
    }
    return {
        method: Expected(measures["magnitude"], measures["chance"].overall.mean)
        for method, measures in _tally(chosen, original, mean).measured().items()
    }


def _over(
    total: Float[np.ndarray, "_ position"], count: Float[np.ndarray, " _"]
) -> Float[np.ndarray, "_ position"]:
    """Return means; NaN of nothing."""
    mean: np.ndarray = np.full_like(total, np.nan)
    np.divide(total, count[:, None], out=mean, where=count[:, None] > 0)
    return mean


def _compared(
    layer: str, chosen: Positives, original: dict[str, _Ranked], random: dict[str, _Ranked]
) -> list[Stage]:
    """Compare the maps of the same image, and those of two, for each method."""
    return [
        Stage(
            layer=layer,
            method=method,
            correlation=measures["correlation"].overall.mean,
            magnitude=measures["magnitude"],
            chance=measures["chance"].overall.mean,
        )
        for method, measures in _tally(chosen, original, random).measured().items()
    ]


def _tally(chosen: Positives, original: dict[str, _Ranked], random: dict[str, _Ranked]) -> Tally:
    """Correlate each map with the original of the same image, and with that of the one before."""
    tally = Tally(chosen, tuple(original), ("correlation", "magnitude", "chance"))
    rows = [torch.nonzero(chosen.given.labels[i] == 1).flatten().tolist() for i in chosen.indices]
    for method, before in original.items():
        earlier: dict[int, np.ndarray] = {}
        for places, maps, now in zip(rows, before, random[method], strict=True):
            found = (maps * now).sum(1).clip(-1, 1)
            tally.add(method, "correlation", found)
            tally.add(method, "magnitude", np.abs(found))
            others = [
                earlier[k] @ ranks if k in earlier else np.nan
                for k, ranks in zip(places, now, strict=True)
            ]
            tally.add(method, "chance", np.abs(np.array(others)).clip(0, 1))
            earlier |= dict(zip(places, maps, strict=True))
    return tally
