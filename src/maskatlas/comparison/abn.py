"""Attention branch network for many attributes (Fukui, Hirakawa, Yamashita and Fujiyoshi 2019).

After the released code for CelebA. From shared features x an attention branch computes one map M_k
for each attribute by a 1x1 convolution without bias; the maps pooled are its own logits, and the
maps themselves, not squashed, are the attention. The perception branch attends to x with each map,
runs one more stage, shared by all attributes, and gives each attribute a linear layer on its mean.
The loss is the sum of both branches' cross-entropies.

Two forms were published:

- ``abn``: x M_k, branch logits by the maximum of the map (the first code);
- ``abn-residual``: x (1 + M_k), branch logits by its mean (the second, in PyTorch).

Departures, for a fair comparison: x are our extractor's features, not those of a ResNet-101 up to
its third stage; the stage in either branch is one residual block of two 3x3 layers that keeps C
channels, where theirs doubles them; and it is trained as all systems here are, not by their
schedule.
"""

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor, nn

from maskatlas.comparison.networks import ClassifierNetwork
from maskatlas.config import ModelConfig
from maskatlas.extractors import BatchNorm
from maskatlas.losses import attribute_loss
from maskatlas.model import Supervised
from maskatlas.subnetworks import Supervision


class ResidualBlock(nn.Module):
    """Two 3x3 layers and a way around them (He et al. 2016)."""

    def __init__(self, channels: int, stride: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(channels, channels, 3, stride, padding=1, bias=False),
            BatchNorm(channels),
            nn.ReLU(),
            nn.Conv2d(channels, channels, 3, padding=1, bias=False),
            BatchNorm(channels),
        )
        self.way_around: nn.Module = nn.Identity()
        if stride > 1:
            self.way_around = nn.Sequential(
                nn.Conv2d(channels, channels, 1, stride, bias=False), BatchNorm(channels)
            )

    def forward(
        self, features: Float[Tensor, "batch channel height width"]
    ) -> Float[Tensor, "batch channel rows columns"]:
        """Return relu(layers(x) + x)."""
        total: Tensor = self.layers(features) + self.way_around(features)
        return total.relu()

    if TYPE_CHECKING:

        def __call__(self, features: Tensor) -> Tensor: ...  # noqa: D102


class AttentionBranchNetwork(ClassifierNetwork):
    """Both branches on our extractor; the perception branch answers."""

    def __init__(self, config: ModelConfig, attributes: Sequence[str], *, residual: bool) -> None:
        """Set up at random.

        Args:
            config: Sizes and extractor.
            attributes: Names.
            residual: Attend by 1 + M and pool the maps by their mean; else by M and their maximum.
        """
        super().__init__(config, attributes)
        self.residual = residual
        self.attention_stage = ResidualBlock(config.channels, stride=1)
        self.attention = nn.Conv2d(config.channels, len(attributes), 1, bias=False)
        self.perception_stage = ResidualBlock(config.channels, stride=2)

    @property
    def explanation_methods(self) -> Mapping[str, Callable[[Tensor, Sequence[str]], Tensor]]:
        """``abn``: the attention maps."""
        return MappingProxyType({"abn": self.attention_maps})

    def supervised(
        self,
        images: Float[Tensor, "batch 3 rows columns"],
        supervision: Supervision | None = None,
    ) -> Supervised:
        """Recognise; with labels, the loss of the attention branch comes with it."""
        features = self.extractor(self.normalised(images))
        maps = self.attention(self.attention_stage(features))
        logits = self.classified(self._perceived(features, maps))
        if supervision is None:
            return self.answer(features, logits)
        pooled = maps.mean((2, 3)) if self.residual else maps.amax((2, 3))
        return self.answer(features, logits, attribute_loss(pooled, supervision.labels))

    def _perceived(
        self,
        features: Float[Tensor, "batch channel height width"],
        maps: Float[Tensor, "batch attribute height width"],
    ) -> Float[Tensor, "batch attribute channel"]:
        """Return the mean of the last stage on the features as each attribute attends to them."""
        weights = maps + 1 if self.residual else maps
        # channels last in memory, as convolutions want them, without copying all of it once more
        attended = features.permute(0, 2, 3, 1)[:, None] * weights[..., None]
        stage: Tensor = self.perception_stage(attended.flatten(0, 1).permute(0, 3, 1, 2))
        means = stage.mean((2, 3))
        return means.reshape(*maps.shape[:2], means.shape[1])

    def attention_maps(
        self, images: Float[Tensor, "batch 3 rows columns"], attributes: Sequence[str]
    ) -> Float[Tensor, "batch attribute height width"]:
        """Return M of the named attributes, without gradients.

        Raises:
            ConfigError: A name that the network does not know.
        """
        chosen = self.attribute_indices(attributes)
        with torch.no_grad():
            maps: Tensor = self.attention(
                self.attention_stage(self.extractor(self.normalised(images)))
            )
        return maps[:, chosen]


def build(config: ModelConfig, attributes: Sequence[str]) -> AttentionBranchNetwork:
    """Build ``abn``."""
    return AttentionBranchNetwork(config, attributes, residual=False)


def build_residual(config: ModelConfig, attributes: Sequence[str]) -> AttentionBranchNetwork:
    """Build ``abn-residual``."""
    return AttentionBranchNetwork(config, attributes, residual=True)
