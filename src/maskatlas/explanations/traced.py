"""Contributions traced back through the extractor, to where features saw what they speak of.

A feature of the last layer sees dozens of pixels, and speaks from the middle of what it sees.
Contributions can be told apart one layer earlier, where a feature sees less, and so on, back to the
pixels.
"""

from collections.abc import Iterator, Sequence

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import interpolate

from maskatlas.explanations.activation import Images, Map, classifier_rows, positions
from maskatlas.explanations.differences import (
    Pair,
    chain,
    elementwise,
    is_elementwise,
    keeps_sums,
    through,
)
from maskatlas.model import AttributeNetwork
from maskatlas.subnetworks import SubNetworks

GREY = 0.5
"""The reference where the average image is not known; 0 for the extractor."""


def traced_contribution_map(
    network: AttributeNetwork, images: Images, attributes: Sequence[str]
) -> Map:
    """Return the mean over layers of sum_c (f^l_cu - r^l_cu) dS / df^l_cu: l from pixels to f.

    f^l is what a layer gives for the image and r^l what it gives for the reference, the average
    training image (mid grey where it was not measured). S differs between the two as the logit
    does, and gradients are slopes of lines from the one to the other
    (:mod:`maskatlas.explanations.differences`), so that each layer's summand adds up to the logit
    less the reference's: exactly, but for rounding, where what masks are computed from is such a
    chain, too, as all of this package are. Joining layers is LayerCAM's idea (Jiang et al.
    2021). A layer ends with an activation function. The finer ones are summed up over the cells of
    the features' grid.

    An extractor that is a chain (``nn.Sequential``) is followed back to the pixels, or to the last
    module that is neither an activation function nor a maximum nor known to be linear, such as a
    block: no layer before it would add up. Of an extractor that is no chain, the features are the
    only layer.
    """
    with torch.inference_mode(mode=False), torch.enable_grad():
        layers = _layers(network, images.detach().clone())
        sums = _sums(network, layers[-1], attributes)
        maps = [torch.stack(list(_summands(total, layers))).mean(0) for total in sums]
    return torch.stack(maps, dim=1)


def can_be_traced(network: AttributeNetwork) -> bool:
    """Return whether its masks are sigmoids of their logits, as :class:`SubNetworks` makes them."""
    heads = network.subnetworks
    return heads is None or type(heads).masks is SubNetworks.masks


def _summands(
    total: Float[Tensor, ""], layers: Sequence[Pair]
) -> Iterator[Float[Tensor, "batch height width"]]:
    """Yield each layer's part in a sum over images, on the last layer's grid."""
    size = layers[-1].images.shape[2:]
    slopes = torch.autograd.grad(total, [layer.images for layer in layers], retain_graph=True)
    for slope, layer in zip(slopes, layers, strict=True):
        part = (slope * layer.difference).sum(1)
        for axis in (1, 2):
            part = _regridded(part, axis, size[axis - 1])
        yield part


def _regridded(values: Tensor, axis: int, cells: int) -> Tensor:
    """Share values along an axis out to so many cells, by how much they overlap; sums stay."""
    count = values.shape[axis]
    if count == cells:
        return values
    wide = torch.promote_types(values.dtype, torch.float32)
    edges = torch.arange(count + 1, dtype=wide, device=values.device) * (cells / count)
    cell = torch.arange(cells, dtype=wide, device=values.device)[:, None]
    overlap = (edges[1:].minimum(cell + 1) - edges[:-1].maximum(cell)).clamp(min=0)
    shared: Tensor = torch.tensordot(values.to(wide), overlap / overlap.sum(0), ([axis], [1]))
    return shared.movedim(-1, axis).to(values.dtype)


def _layers(network: AttributeNetwork, images: Images) -> list[Pair]:
    """Return what each layer gives that adds up: pixels first where they do, features last."""
    reference = network.normalised(_reference(network, images))
    pair = Pair(network.normalised(images.requires_grad_()), reference)
    ends, unknown = [pair], False
    for module in chain(network.extractor):
        before, pair = pair, through(module, pair)
        if not keeps_sums(module):
            ends = []
        elif is_elementwise(module):
            ends.append(pair)
        elif unknown:  # what a block gives is a layer, if no activation function follows
            ends.append(before)
        unknown = not keeps_sums(module)
    return ends if ends and ends[-1] is pair else [*ends, pair]


def _reference(network: AttributeNetwork, images: Images) -> Float[Tensor, "1 3 rows columns"]:
    """Return what images are compared with, in their size."""
    average = network.average_image
    if average is None:
        return torch.full_like(images[:1], GREY)
    average = average[None].to(images.device, images.dtype)
    return interpolate(average, images.shape[2:], mode="bilinear", align_corners=False)


def _sums(
    network: AttributeNetwork, features: Pair, attributes: Sequence[str]
) -> Iterator[Float[Tensor, ""]]:
    """Yield for each attribute what differs, from image to reference, as its logit does.

    Linear in each attribute's difference of features and masks, summed over images. With masks, the
    product (offset + M) f is shared out half and half: the difference of each times the mean of the
    other. Only gradients are taken of it.
    """
    heads = network.subnetworks
    if heads is None:
        for weight in classifier_rows(network, attributes).to(features.images.dtype):
            yield torch.einsum("bchw,c->", features.images, weight) / positions(features.images)
        return
    guides, channels = features, list(range(network.channels))
    for module in () if heads.guide is None else chain(heads.guide):
        guides = through(module, guides)
    middle = (features.images.detach() + features.reference) / 2
    for row in network.attribute_indices(attributes):
        logits = Pair(*(heads.mask_logits(part, [row], channels)[:, 0] for part in guides))
        masks = elementwise(torch.sigmoid, Pair(logits.images, logits.reference.detach()))
        open_ = heads.offset + (masks.images.detach() + masks.reference) / 2
        weight = heads.weight[row].detach().to(open_.dtype) / positions(features.images)
        yield torch.einsum("bchw,c->", open_ * features.images + middle * masks.images, weight)
