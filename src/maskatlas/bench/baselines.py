"""Masked pooling as one would write it by hand, and a network that is made of that."""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import conv2d

from maskatlas.subnetworks import Answers, SubNetworks, Supervision

Pooled = Float[Tensor, "batch attribute channel"]


def loop(
    features: Float[Tensor, "batch channel height width"],
    weight: Float[Tensor, "attribute channel guide"],
    bias: Float[Tensor, "attribute channel"],
    mask_features: Float[Tensor, "batch guide height width"] | None = None,
) -> tuple[Pooled, Pooled]:
    """One convolution for each attribute, all masks kept for the gradient.

    Returns:
        What :func:`maskatlas.masked_pooling.masked_pool` returns with an offset of 1.
    """
    guides = features if mask_features is None else mask_features
    pooled, means = [], []
    for w, b in zip(weight, bias, strict=True):
        mask = conv2d(guides, w[:, :, None, None], b).sigmoid()
        pooled.append(((1 + mask) * features).mean((2, 3)))
        means.append(mask.mean((2, 3)))
    return torch.stack(pooled, 1), torch.stack(means, 1)


def one_convolution(
    features: Float[Tensor, "batch channel height width"],
    weight: Float[Tensor, "attribute channel guide"],
    bias: Float[Tensor, "attribute channel"],
    mask_features: Float[Tensor, "batch guide height width"] | None = None,
) -> tuple[Pooled, Pooled]:
    """One convolution for all attributes: the same."""
    guides = features if mask_features is None else mask_features
    z = conv2d(guides, weight.flatten(0, 1)[:, :, None, None], bias.flatten())
    masks = z.sigmoid().unflatten(1, bias.shape)
    return ((1 + masks) * features[:, None]).mean((3, 4)), masks.mean((3, 4))


class LoopedSubNetworks(SubNetworks):
    """The sub-networks as a loop over attributes that holds all masks; loss and all by autograd."""

    def forward(
        self,
        features: Float[Tensor, "batch channel height width"],
        supervision: Supervision | None = None,  # noqa: ARG002
    ) -> Answers:
        """Return logits and what was pooled for them."""
        assert self.guide is None
        assert self.offset == 1
        pooled, mask_mean = loop(features, self.mask_weight, self.mask_bias)
        return Answers((pooled * self.weight).sum(dim=2) + self.bias, pooled, mask_mean, loss=None)
