"""Ours with one mask for each attribute, shared by all channels, as other attention networks have.

M^k = sigmoid(w^k * g + b^k) is one map; equation (2) becomes a^k_c = (offset + M^k) f_c for every
c. All else is ours, so that the difference to ours is what *multi-channel* brings. |M|_1 counts the
mask once for each channel that it is used for, so that lambda weighs the same attention the same.
Masks and contributions are offered for each channel, as ours are; the masks are then equal.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from maskatlas.comparison.networks import refit
from maskatlas.config import ModelConfig
from maskatlas.model import AttributeNetwork, build_network
from maskatlas.subnetworks import Answers, SubNetworks, Supervision, build_subnetworks


class SharedMaskSubNetworks(SubNetworks):
    """Sub-networks with one mask each: ``mask_weight`` is [K G], ``mask_bias`` [K]."""

    def __init__(
        self,
        attributes: int,
        channels: int,
        *,
        guide: nn.Module | None = None,
        guides: int | None = None,
        offset: float = 1.0,
    ) -> None:
        """Set up at random; arguments as in :class:`maskatlas.subnetworks.SubNetworks`."""
        super().__init__(attributes, channels, guide=guide, guides=guides, offset=offset)
        guides = guides or channels
        self.mask_weight = nn.Parameter(torch.empty(attributes, guides))
        self.mask_bias = nn.Parameter(torch.zeros(attributes))
        nn.init.normal_(self.mask_weight, std=guides**-0.5)

    def forward(
        self,
        features: Float[Tensor, "batch channel height width"],
        supervision: Supervision | None = None,  # noqa: ARG002, the loss is taken from outside
    ) -> Answers:
        """Return logits and what was pooled; equation (6) takes the loss from them."""
        masks = self.mask_maps(features, range(len(self.bias))).to(self.weight.dtype)
        values = features.to(self.weight.dtype)
        positions = features.shape[2] * features.shape[3]
        attended = torch.einsum("bkhw,bchw->bkc", masks, values) / positions
        pooled = attended + self.offset * values.mean((2, 3))[:, None]
        logits = (pooled * self.weight).sum(dim=2) + self.bias
        mask_mean = masks.mean((2, 3))[:, :, None].expand_as(pooled)
        return Answers(logits, pooled, mask_mean, loss=None)

    def mask_logits(
        self,
        guides: Float[Tensor, "batch guide height width"],
        attributes: Sequence[int],
        channels: Sequence[int],
    ) -> Float[Tensor, "batch attribute chosen height width"]:
        """Return w^k * g + b^k of the chosen attributes, once for each chosen channel."""
        rows = torch.tensor(attributes, device=guides.device)
        weight = self.mask_weight[rows][:, :, None, None].to(guides.dtype)
        logits = nn.functional.conv2d(guides, weight, self.mask_bias[rows].to(guides.dtype))
        return logits[:, :, None].expand(-1, -1, len(channels), -1, -1)

    def contribution_maps(
        self,
        features: Float[Tensor, "batch channel height width"],
        attributes: Sequence[int],
    ) -> Float[Tensor, "batch attribute height width"]:
        """Return the contributions summed over all channels: the mask times what they say alone."""
        positions = features.shape[2] * features.shape[3]
        weight = self.weight[list(attributes)] / positions
        alone = torch.einsum("kc,bchw->bkhw", weight, features)
        return (self.offset + self.mask_maps(features, attributes)) * alone

    def mask_maps(
        self,
        features: Float[Tensor, "batch channel height width"],
        attributes: Sequence[int],
    ) -> Float[Tensor, "batch attribute height width"]:
        """Return the masks, which are the same for all channels."""
        return self.masks(features, attributes, [0])[:, :, 0]


def build(config: ModelConfig, attributes: Sequence[str]) -> AttributeNetwork:
    """Build our network with one mask for each attribute."""
    network = build_network(config, attributes)
    ours = build_subnetworks(config, len(attributes))
    heads = SharedMaskSubNetworks(
        len(attributes),
        config.channels,
        guide=ours.guide,
        guides=ours.mask_weight.shape[2],
        offset=ours.offset,
    )
    return refit(network, subnetworks=heads)
