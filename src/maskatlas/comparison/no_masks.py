"""Ours with every mask at 0: a binary classifier for each attribute on the same mean features.

Equation (2) becomes a^k = (offset + 0) f. What is left of the sub-networks are their classifiers;
multi-label classifier and reconstructor stay. An offset of 0 would leave nothing at all and is
refused.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from maskatlas.comparison.networks import refit
from maskatlas.config import ModelConfig
from maskatlas.errors import ConfigError
from maskatlas.model import AttributeNetwork, build_network
from maskatlas.subnetworks import Answers, SubNetworks, Supervision


class UnmaskedSubNetworks(SubNetworks):
    """Sub-networks whose masks are 0 everywhere, and that have no weights for them."""

    def __init__(self, attributes: int, channels: int, *, offset: float = 1.0) -> None:
        super().__init__(attributes, channels, guides=1, offset=offset)
        self.register_parameter("mask_weight", None)
        self.register_parameter("mask_bias", None)

    def forward(
        self,
        features: Float[Tensor, "batch channel height width"],
        supervision: Supervision | None = None,  # noqa: ARG002, the loss is taken from outside
    ) -> Answers:
        """Return logits from the mean features; equation (6) takes the loss from them."""
        mean = self.offset * features.mean((2, 3), dtype=self.weight.dtype)
        pooled = mean[:, None].expand(-1, len(self.weight), -1)
        logits = mean @ self.weight.T + self.bias
        return Answers(logits, pooled, torch.zeros_like(pooled), loss=None)

    @torch.no_grad()
    def follow(self, classifier: nn.Linear) -> None:
        """Answer as a linear classifier on the mean of f does."""
        self.weight.copy_(classifier.weight / self.offset)
        self.bias.copy_(classifier.bias)

    def mask_logits(
        self,
        guides: Float[Tensor, "batch guide height width"],
        attributes: Sequence[int],
        channels: Sequence[int],
    ) -> Float[Tensor, "batch attribute chosen height width"]:
        """Return the lowest number, whose sigmoid is 0."""
        lowest = torch.finfo(guides.dtype).min
        return guides.new_full(
            (len(guides), len(attributes), len(channels), *guides.shape[2:]), lowest
        )

    def contribution_maps(
        self,
        features: Float[Tensor, "batch channel height width"],
        attributes: Sequence[int],
    ) -> Float[Tensor, "batch attribute height width"]:
        """Return the contributions summed over all channels."""
        positions = features.shape[2] * features.shape[3]
        weight = self.offset * self.weight[list(attributes)] / positions
        return torch.einsum("kc,bchw->bkhw", weight, features)

    def mask_maps(
        self,
        features: Float[Tensor, "batch channel height width"],
        attributes: Sequence[int],
    ) -> Float[Tensor, "batch attribute height width"]:
        """Return zeros."""
        return self.masks(features, attributes, [0])[:, :, 0]


def build(config: ModelConfig, attributes: Sequence[str]) -> AttributeNetwork:
    """Build our network with sub-networks that have no masks.

    Raises:
        ConfigError: The offset is 0, so that nothing would reach the classifiers.
    """
    if config.mask_offset == 0:
        raise ConfigError(
            "model.mask-offset: no-masks needs one above 0, found 0, so that no feature would "
            "reach a classifier; leave it at 1"
        )
    heads = UnmaskedSubNetworks(len(attributes), config.channels, offset=config.mask_offset)
    return refit(build_network(config, attributes), subnetworks=heads)
