"""Maps from the image: gradient x input and integrated gradients, summed over the colours.

The input is what the extractor is given: RGB less :data:`~maskatlas.model.PIXEL_MEAN`, so that mid
grey is 0 and the baseline of integrated gradients. The scale cancels in the product.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from maskatlas.explanations.activation import feature_gradients
from maskatlas.model import PIXEL_MEAN, AttributeNetwork

Images = Float[Tensor, "batch 3 rows columns"]
Map = Float[Tensor, "batch attribute rows columns"]

STEPS = 32
"""Points on the path of integrated gradients."""


def gradient_x_input_map(
    network: AttributeNetwork, images: Images, attributes: Sequence[str]
) -> Map:
    """Return d logit / d x_u (x_u - grey), summed over colours (Shrikumar et al. 2016)."""
    return _gradient_times(network, images, images - PIXEL_MEAN, attributes)


def integrated_gradients_map(
    network: AttributeNetwork, images: Images, attributes: Sequence[str], *, steps: int = STEPS
) -> Map:
    """Return (x - grey) times the mean gradient on the straight path from grey to x.

    Integrated gradients (Sundararajan, Taly and Yan 2017), equation (1): the integral by the
    midpoint rule, one point after another, so that memory does not grow with their number. As
    `steps` grows, the map adds up to the logit less that of a grey image.
    """
    direction = images - PIXEL_MEAN
    total = images.new_zeros((len(images), len(attributes), *images.shape[2:]))
    for step in range(steps):
        point = PIXEL_MEAN + (step + 0.5) / steps * direction
        total += _gradient_times(network, point, direction, attributes)
    return total / steps


def _gradient_times(
    network: AttributeNetwork, images: Images, direction: Images, attributes: Sequence[str]
) -> Map:
    """Return d logit / d x times a direction, summed over colours, for all attributes.

    One forward pass; then batched vector-Jacobian products of the extractor, with as many
    attributes at a time as :func:`feature_gradients` yields.
    """
    with torch.enable_grad():
        points = images.detach().clone().requires_grad_()
        features = network(points).features
    maps = []
    for by_features in feature_gradients(network, features.detach(), attributes):
        (gradients,) = torch.autograd.grad(
            features, points, by_features.transpose(0, 1), is_grads_batched=True, retain_graph=True
        )
        maps.append((gradients * direction).sum(2).transpose(0, 1))
    return torch.cat(maps, dim=1)
