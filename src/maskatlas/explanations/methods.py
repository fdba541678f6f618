"""Every method by its name, and the one way to ask for its maps."""

import difflib
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import interpolate

from maskatlas.errors import ConfigError
from maskatlas.explanations.activation import (
    centred_contribution_map,
    contribution_map,
    flat_mask_map,
    grad_cam_map,
    hires_cam_map,
    mask_map,
    passes_as_ours,
)
from maskatlas.explanations.floors import centre_map, random_map
from maskatlas.explanations.gradients import gradient_x_input_map, integrated_gradients_map
from maskatlas.explanations.traced import can_be_traced, traced_contribution_map
from maskatlas.model import AttributeNetwork

Explainer = Callable[[Tensor, Sequence[str]], Tensor]
"""From images [B 3 H W] and names to maps [B A h w] of any size."""


@runtime_checkable
class Explainable(Protocol):
    """A network of any system that offers maps of its own, by the methods' names."""

    attributes: tuple[str, ...]

    @property
    def explanation_methods(self) -> Mapping[str, Explainer]:
        """Its own methods."""


_Method = Callable[[AttributeNetwork, Tensor, Sequence[str]], Tensor]

_OF_FEATURES: Mapping[str, _Method] = {
    "contribution": contribution_map,
    "mask": mask_map,
    "contribution-centred": centred_contribution_map,
    "contribution-flat-masks": flat_mask_map,
}
"""Methods that read the parts of figure 2, from features."""

_NEED_MASKS = ("mask", "contribution-flat-masks")

_TRACED: Mapping[str, _Method] = {"contribution-traced": traced_contribution_map}
"""Methods that follow the parts of figure 2 through the extractor, from images."""

_BY_GRADIENT: Mapping[str, _Method] = {
    "grad-cam": grad_cam_map,
    "hires-cam": hires_cam_map,
    "gradient-x-input": gradient_x_input_map,
    "integrated-gradients": integrated_gradients_map,
}
"""Methods that hold for whatever answers, from images."""

FLOORS: Mapping[str, Explainer] = {"random": random_map, "centre": centre_map}
"""Maps that know nothing of the network."""

METHODS = (*_OF_FEATURES, *_TRACED, *_BY_GRADIENT, *FLOORS)
"""The names of all methods for an :class:`AttributeNetwork` with sub-networks."""

UNSIGNED = ("mask", "grad-cam", "gain", *FLOORS)
"""Methods whose maps speak for an attribute only, never against it; ``gain`` is one of
:mod:`maskatlas.comparison.gain`. The attention of ``abn`` has both signs."""

_ROUNDING = 1e-6
"""Values that differ by a smaller share are equal."""

SLOW = ("integrated-gradients",)
"""Methods that take many passes for one map."""


def explainers(network: AttributeNetwork | Explainable) -> dict[str, Explainer]:
    """Return every method that this network can be explained by, by its name.

    The logits explained are those of the head that answers. A network without sub-networks has no
    masks to show, and one whose average contribution was not measured none that is centred; one
    that answers in a way of its own has no contributions, but gradients; one of
    another kind altogether has its own methods and the floors.
    """
    methods: dict[str, Explainer] = {}
    if isinstance(network, AttributeNetwork):
        network = network.without_reconstructor()
        if passes_as_ours(network):
            methods |= {
                name: partial(_by_features, network, method)
                for name, method in _OF_FEATURES.items()
                if not _lacks(network, name)
            }
            if can_be_traced(network):
                methods |= {name: partial(method, network) for name, method in _TRACED.items()}
        methods |= {name: partial(method, network) for name, method in _BY_GRADIENT.items()}
    if isinstance(network, Explainable):
        methods.update(network.explanation_methods)
    return {**methods, **FLOORS}


def _lacks(network: AttributeNetwork, method: str) -> bool:
    """Return whether the network lacks what such a method reads."""
    if method == "contribution-centred":
        return network.average_contribution is None
    return method in _NEED_MASKS and network.subnetworks is None


def _by_features(
    network: AttributeNetwork, method: _Method, images: Tensor, attributes: Sequence[str]
) -> Tensor:
    with torch.no_grad():
        return method(network, network(images).features, attributes)


def explain(
    network: AttributeNetwork | Explainable,
    images: Float[Tensor, "batch 3 height width"],
    method: str = "contribution",
    attributes: Sequence[str] | None = None,
) -> Float[Tensor, "batch attribute height width"]:
    """Return a map for each image and attribute, of the images' size.

    The maps of `contribution` are in logits per feature position, signed: resized bilinearly, not
    rescaled, so that maps of different images and attributes can be compared.

    Args:
        network: In eval mode.
        images: RGB 0..1, as :meth:`AttributeNetwork.preprocess` gives them.
        method: One of :data:`METHODS`, or of the network's own.
        attributes: Names; None means all, in the network's order.

    Returns:
        Float32, detached, on the images' device. A map that is the same everywhere but for rounding
        is the same to the bit, so that no judge takes rounding for a place.

    Raises:
        ConfigError: An attribute that is not known, or a method that this network does not have.
    """
    explainer = explainer_of(network, method)
    names = network.attributes if attributes is None else attributes
    if isinstance(network, AttributeNetwork):
        network.attribute_indices(names)
    elif unknown := [name for name in names if name not in network.attributes]:
        known = ", ".join(network.attributes)
        raise ConfigError(f"attribute {unknown[0]!r}: the network does not know it; it has {known}")
    maps = explainer(images.detach(), names).detach()
    resized = interpolate(maps.float(), images.shape[-2:], mode="bilinear", align_corners=False)
    return _constant_or(resized, maps.float())


def _constant_or(
    resized: Float[Tensor, "batch attribute rows columns"],
    maps: Float[Tensor, "batch attribute height width"],
) -> Float[Tensor, "batch attribute rows columns"]:
    """Return the resized maps; those that were constant but for rounding, with one value."""
    high, low = maps.amax((2, 3), keepdim=True), maps.amin((2, 3), keepdim=True)
    constant = high - low <= _ROUNDING * torch.maximum(high.abs(), low.abs())
    return torch.where(constant, low, resized)


def caveat(network: AttributeNetwork | Explainable, method: str) -> str | None:
    """Return what one should know of a method's maps of this network, beside the method itself."""
    if method in _TRACED and getattr(network, "average_image", None) is None:
        return (
            f"{method}: the average training image is not known, so images are compared with mid "
            "grey; `maskatlas.averages.average_image` measures it"
        )
    return None


def explainer_of(network: AttributeNetwork | Explainable, method: str) -> Explainer:
    """Return what makes the maps of a method.

    Raises:
        ConfigError: This network does not have it.
    """
    methods = explainers(network)
    if method not in methods:
        raise ConfigError(_unknown(network, method, methods))
    return methods[method]


def _unknown(network: object, method: str, methods: Mapping[str, Explainer]) -> str:
    if (
        isinstance(network, AttributeNetwork)
        and not passes_as_ours(network)
        and method in (*_OF_FEATURES, *_TRACED)
    ):
        return (
            f"method {method!r}: this network answers in a way of its own, so that it has neither "
            f"contributions nor masks; choose one of {', '.join(methods)}"
        )
    if isinstance(network, AttributeNetwork) and method in _TRACED:
        return (
            f"method {method!r}: this network's sub-networks make masks in a way of their own; let "
            f"them override `mask_logits` instead of `masks`, or choose one of {', '.join(methods)}"
        )
    if isinstance(network, AttributeNetwork) and method == "contribution-centred":
        return (
            f"method {method!r}: what this network's contributions are on average is not known; "
            "training measures it, and maskatlas.averages.average_contribution does; choose one "
            f"of {', '.join(methods)}"
        )
    if isinstance(network, AttributeNetwork) and method in _OF_FEATURES:
        return (
            f"method {method!r}: this network has no masks to show it by; "
            f"choose one of {', '.join(methods)}, or train one with model.subnetworks = true"
        )
    near = difflib.get_close_matches(method, methods, n=1)
    hint = f"; did you mean {near[0]}?" if near else ""
    return f"method: expected one of {', '.join(methods)}, found {method!r}{hint}"
