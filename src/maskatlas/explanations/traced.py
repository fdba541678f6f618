"""Contributions traced back through the extractor, to where features saw what they speak of.

A feature of the last layer sees dozens of pixels, and speaks from the middle of what it sees.
Contributions can be told apart one layer earlier, where a feature sees less, and so on.
"""

from collections.abc import Iterator, Sequence

import torch
from torch import nn

from maskatlas.explanations.activation import (
    Features,
    Images,
    Map,
    contribution_map,
    held_gradients,
)
from maskatlas.model import AttributeNetwork

_ACTIVATIONS = (nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.SiLU, nn.GELU, nn.Hardswish, nn.ELU, nn.Mish)


def traced_contribution_map(
    network: AttributeNetwork, images: Images, attributes: Sequence[str]
) -> Map:
    """Return the mean over layers of sum_c f^l_cu dS / df^l_cu, S the sum of the contributions.

    A layer ends with an activation function or a block. The layers l are those of the extractor
    whose map has as many positions as the features, the last one included: its map is the features,
    and its summand the contribution. Masks are held as they
    are, so that S is linear in the features; earlier layers share it out by their gradients, as
    HiResCAM (Draelos and Carin 2020) does at one layer, and several layers are joined as in
    LayerCAM (Jiang et al. 2021). Normalisation has constants that no earlier feature accounts for,
    so that only the last layer's summand adds up to the logit less the bias.

    An extractor is followed where it is a chain (``nn.Sequential``); of another, the features are
    the only layer, and the map is the contribution.
    """
    with torch.enable_grad():
        layers = _layers(network, images.detach().clone().requires_grad_())
    features = layers[-1]
    if len(layers) == 1:
        return contribution_map(network, features.detach(), attributes)
    maps = []
    for slopes in held_gradients(network, features.detach(), attributes, layers=len(layers)):
        carried = slopes.transpose(0, 1)
        found = torch.autograd.grad(
            features, layers, carried, is_grads_batched=True, retain_graph=True
        )
        parts = [
            torch.einsum("abchw,bchw->bahw", slope, layer.detach())
            for slope, layer in zip(found, layers, strict=True)
        ]
        maps.append(torch.stack(parts).mean(0))
    return torch.cat(maps, dim=1)


def _layers(network: AttributeNetwork, images: Images) -> list[Features]:
    """Return what each layer with as many positions as the features gives, these last."""
    features = network.normalised(images)
    ends: list[Features] = []
    ended = False
    for module in _chain(network.extractor):
        features = module(features)
        activation = isinstance(module, _ACTIVATIONS)
        if activation and ended:  # of the block before it
            ends.pop()
        ended = activation or any(module.children())
        if ended:
            ends.append(features)
    size = features.shape[2:]
    return [end for end in ends if end is not features and end.shape[2:] == size] + [features]


def _chain(module: nn.Module) -> Iterator[nn.Module]:
    """Yield the modules that an extractor applies one after the other."""
    if type(module).forward is nn.Sequential.forward:
        assert isinstance(module, nn.Sequential)
        for part in module:
            yield from _chain(part)
    else:
        yield module
