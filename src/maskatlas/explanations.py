"""Maps from a network: where in the image is what speaks for an attribute, and against it."""

import difflib
from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import interpolate

from maskatlas.errors import ConfigError
from maskatlas.model import AttributeNetwork

Map = Float[Tensor, "batch attribute height width"]


def contribution_map(
    network: AttributeNetwork,
    features: Float[Tensor, "batch channel height width"],
    attributes: Sequence[str],
) -> Map:
    """Sum the contributions over channels; with the bias, the map adds up to the logit."""
    parts = [network.contributions(features, [name]).sum(dim=2) for name in attributes]
    return torch.cat(parts, dim=1)


def mask_map(
    network: AttributeNetwork,
    features: Float[Tensor, "batch channel height width"],
    attributes: Sequence[str],
) -> Map:
    """Average the masks over channels, 0 to 1."""
    return torch.cat([network.masks(features, [name]).mean(dim=2) for name in attributes], dim=1)


_Method = Callable[[AttributeNetwork, Tensor, Sequence[str]], Tensor]

METHODS: dict[str, _Method] = {"contribution": contribution_map, "mask": mask_map}
"""Each by its name: from the features, without gradients."""


def explain(
    network: AttributeNetwork,
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
        method: `contribution` or `mask`.
        attributes: Names; None means all, in the network's order.

    Returns:
        Float32, detached, on the images' device.

    Raises:
        ConfigError: A method or an attribute that is not known, or a network without masks.
    """
    if method not in METHODS:
        near = difflib.get_close_matches(method, METHODS, n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise ConfigError(f"method: expected one of {', '.join(METHODS)}, found {method!r}{hint}")
    names = network.attributes if attributes is None else attributes
    network.attribute_indices(names)
    with torch.no_grad():
        features = network(images).features
        maps = METHODS[method](network, features, names)
    return interpolate(maps.float(), images.shape[-2:], mode="bilinear", align_corners=False)
