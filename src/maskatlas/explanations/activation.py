"""Maps from the features: contributions, masks, and class activation maps by gradients.

Which logit is explained: that of the head that answers, the sub-network's, or the multi-label
classifier's where a network has no sub-networks.
"""

from collections.abc import Iterator, Sequence

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import interpolate

from maskatlas.model import AttributeNetwork
from maskatlas.subnetworks import SubNetworks

Images = Float[Tensor, "batch 3 rows columns"]
Features = Float[Tensor, "batch channel height width"]
Map = Float[Tensor, "batch attribute height width"]

MOST_NUMBERS = 2**24
"""Gradients of so many features, over images and attributes, are held at once."""


def contribution_map(
    network: AttributeNetwork, features: Features, attributes: Sequence[str]
) -> Map:
    """Sum the contributions over channels; with the bias, the map adds up to the logit.

    Without sub-networks it is the class activation map (Zhou et al. 2016) of the multi-label
    classifier over h w, sum_c w_kc f_cu / (h w), which adds up to the logit too.
    """
    heads = network.subnetworks
    if heads is None:
        weight = classifier_rows(network, attributes).to(features.dtype) / positions(features)
        return torch.einsum("ac,bchw->bahw", weight, features)
    if type(heads) is SubNetworks:
        return heads.contribution_maps(features, network.attribute_indices(attributes))
    parts = [network.contributions(features, [name]).sum(dim=2) for name in attributes]
    return torch.cat(parts, dim=1)


def mask_map(network: AttributeNetwork, features: Features, attributes: Sequence[str]) -> Map:
    """Average the masks over channels, 0 to 1.

    Raises:
        ConfigError: The network has no sub-networks.
    """
    heads = network.subnetworks
    if type(heads) is SubNetworks:
        return heads.mask_maps(features, network.attribute_indices(attributes))
    return torch.cat([network.masks(features, [name]).mean(dim=2) for name in attributes], dim=1)


def flat_mask_map(network: AttributeNetwork, features: Features, attributes: Sequence[str]) -> Map:
    """Sum the contributions with each mask replaced by its mean over positions.

    What is lost against :func:`contribution_map` is what the masks' shapes are worth.
    """
    rows = network.attribute_indices(attributes)
    heads = network.subnetworks
    assert heads is not None, "refused without"
    means = heads(features).mask_mean[:, rows]
    shares = heads.weight[rows] * (heads.offset + means) / positions(features)
    return torch.einsum("bac,bchw->bahw", shares.to(features.dtype), features)


def centred_contribution_map(
    network: AttributeNetwork, features: Features, attributes: Sequence[str]
) -> Map:
    """Return what the contributions are above those of the average image, spread a little.

    A logit is a sum over positions, so that a position's Shapley value is its contribution less
    the mean of that over images (Lundberg and Lee 2017, corollary 1, for the sum of the
    contributions): a part that every image has, and that speaks for an attribute in all of them,
    no longer hides what sets this image apart. A feature sees more than its own position; what it
    says is therefore shared with its neighbours, [1 2 1] / 4 in rows and columns, the border
    repeated. Both keep sums: the map adds up to the logit less its mean over the images of the
    average.
    """
    assert network.average_contribution is not None, "refused without"
    average = network.average_contribution[network.attribute_indices(attributes)][None]
    average = average.to(features.device, features.dtype) * average[0, 0].numel()
    average = interpolate(average, features.shape[2:], mode="bilinear", align_corners=False)
    maps = contribution_map(network, features, attributes)
    return _shared_with_neighbours(maps - average / positions(features))


def _shared_with_neighbours(maps: Map) -> Map:
    """Convolve with [1 2 1] / 4 in rows and columns; the border is repeated, so sums stay."""
    for axis in (2, 3):
        size = maps.shape[axis]
        places = torch.arange(size, device=maps.device)
        before, after = (maps.index_select(axis, (places + d).clamp(0, size - 1)) for d in (-1, 1))
        maps = (before + 2 * maps + after) / 4
    return maps


def grad_cam_map(network: AttributeNetwork, images: Images, attributes: Sequence[str]) -> Map:
    """Return ReLU(sum_c a_c f_c), a_c the mean over positions of d logit / d f_c.

    Grad-CAM (Selvaraju et al. 2017), equations (1) and (2).
    """
    features, slopes = feature_gradients(network, images, attributes)
    maps = [torch.einsum("bac,bchw->bahw", slope.mean((3, 4)), features).relu() for slope in slopes]
    return torch.cat(maps, dim=1)


def hires_cam_map(network: AttributeNetwork, images: Images, attributes: Sequence[str]) -> Map:
    """Return sum_c d logit / d f_cu f_cu: no mean over positions before the product.

    HiResCAM (Draelos and Carin 2020). Its equation has no ReLU, and neither is there one here: the
    map is signed.
    """
    features, slopes = feature_gradients(network, images, attributes)
    maps = [torch.einsum("bachw,bchw->bahw", slope, features) for slope in slopes]
    return torch.cat(maps, dim=1)


Slopes = Iterator[Float[Tensor, "batch some channel height width"]]


def feature_gradients(
    network: AttributeNetwork, images: Images, attributes: Sequence[str]
) -> tuple[Features, Slopes]:
    """Return f, and d logit / d f for some of the attributes at a time, in their order.

    One forward pass. Where the logits are known as a function of f, gradients have a closed form
    (:func:`known_gradients`); else autograd takes them, one attribute after another.
    """
    if logits_are_known(network):
        with torch.no_grad():
            features = network(images).features
        return features, known_gradients(network, features, attributes)
    with torch.enable_grad():
        output = network(images)
    scores = output.scores[:, network.attribute_indices(attributes)].sum(0)
    slopes = (
        torch.autograd.grad(score, output.features, retain_graph=True)[0][:, None]
        for score in scores
    )
    return output.features.detach(), slopes


def logits_are_known(network: AttributeNetwork) -> bool:
    """Return whether it answers as :mod:`maskatlas.model` says, no part of it replaced."""
    heads = network.subnetworks
    return passes_as_ours(network) and (heads is None or type(heads) is SubNetworks)


def passes_as_ours(network: AttributeNetwork) -> bool:
    """Return whether no subclass has put another pass in place of our own."""
    kind, ours = type(network), AttributeNetwork
    return (kind.forward, kind.supervised) == (ours.forward, ours.supervised)


def known_gradients(
    network: AttributeNetwork, features: Features, attributes: Sequence[str]
) -> Slopes:
    """Yield d logit / d f for as many of the attributes at a time as :data:`MOST_NUMBERS` lets.

    What a feature does directly is a product, w_kc (offset + M^k_cu) / (h w). What it does through
    the masks, w_kc M (1 - M) f / (h w) for each mask before its sigmoid, is carried back to the
    mask features by W^k, and through the guide, where there is one, in one batched vector-Jacobian
    product.
    """
    count = max(1, MOST_NUMBERS // features.numel())
    for first in range(0, len(attributes), count):
        some = attributes[first : first + count]
        if network.subnetworks is None:
            slope = classifier_rows(network, some).to(features.dtype) / positions(features)
            shape = len(features), *slope.shape, *features.shape[2:]
            yield slope[None, :, :, None, None].expand(shape)
        else:
            yield _through_masks(network.subnetworks, features, network.attribute_indices(some))


def _through_masks(
    heads: SubNetworks, features: Features, rows: Sequence[int]
) -> Float[Tensor, "batch some channel height width"]:
    features = features.detach()
    if heads.guide is None:
        direct, by_guides = _by_masks(heads, features, features, rows)
        return direct + by_guides
    with torch.enable_grad():
        seen = features.clone().requires_grad_()
        guides = heads.guide(seen)
    direct, by_guides = _by_masks(heads, features, guides.detach(), rows)
    carried = by_guides.transpose(0, 1)
    (indirect,) = torch.autograd.grad(guides, seen, carried, is_grads_batched=True)
    return direct + indirect.transpose(0, 1)


def _by_masks(
    heads: SubNetworks,
    features: Features,
    guides: Float[Tensor, "batch guide height width"],
    rows: Sequence[int],
) -> tuple[
    Float[Tensor, "batch some channel height width"], Float[Tensor, "batch some guide height width"]
]:
    """Return the logits' gradients with respect to features and, through masks, mask features."""
    chosen = torch.tensor(rows, device=features.device)
    inner, bias, outer = (
        part[chosen].detach().to(features.dtype)
        for part in (heads.mask_weight, heads.mask_bias, heads.weight)
    )
    masks = torch.einsum("acg,bghw->bachw", inner, guides)
    masks = (masks + bias[:, :, None, None]).sigmoid()
    outer = outer[:, :, None, None] / positions(features)
    slope = outer * masks * (1 - masks) * features[:, None]
    return outer * (heads.offset + masks), torch.einsum("bachw,acg->baghw", slope, inner)


def classifier_rows(
    network: AttributeNetwork, attributes: Sequence[str]
) -> Float[Tensor, "some channel"]:
    """Return the multi-label classifier's weights of these attributes."""
    assert network.classifier is not None, "a network answers through at least one of its heads"
    return network.classifier.weight.detach()[network.attribute_indices(attributes)]


def positions(features: Features) -> int:
    """Return h w."""
    return features.shape[2] * features.shape[3]
