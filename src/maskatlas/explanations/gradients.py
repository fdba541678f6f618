"""Maps from the image: gradient x input and integrated gradients, summed over the colours.

The input is what the extractor is given: RGB less :data:`~maskatlas.model.PIXEL_MEAN`, so that mid
grey is 0 and the baseline of integrated gradients. The scale cancels in the product.
"""

from collections.abc import Iterator, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from maskatlas.explanations.activation import known_gradients, logits_are_known
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
    """Return d logit / d x times a direction, summed over colours."""
    maps = [
        (slope * direction[:, None]).sum(2)
        for slope in _image_gradients(network, images, attributes)
    ]
    return torch.cat(maps, dim=1)


def _image_gradients(
    network: AttributeNetwork, images: Images, attributes: Sequence[str]
) -> Iterator[Float[Tensor, "batch some 3 rows columns"]]:
    """Yield d logit / d x for some of the attributes at a time, after one forward pass.

    Where the gradients of the features are known, they go through the extractor in batched
    vector-Jacobian products; else autograd takes one attribute after another.
    """
    with torch.enable_grad():
        points = images.detach().clone().requires_grad_()
        output = network(points)
    if logits_are_known(network):
        for slopes in known_gradients(network, output.features.detach(), attributes):
            carried = slopes.transpose(0, 1)
            (found,) = torch.autograd.grad(
                output.features, points, carried, is_grads_batched=True, retain_graph=True
            )
            yield found.transpose(0, 1)
    else:
        for row in network.attribute_indices(attributes):
            score = output.scores[:, row].sum()
            yield torch.autograd.grad(score, points, retain_graph=True)[0][:, None]
