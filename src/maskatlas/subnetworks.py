"""The sub-networks: for each attribute a mask for each channel, and a binary classifier."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

import torch
from jaxtyping import Float, Int64, UInt8
from torch import Tensor, nn

from maskatlas.config import ModelConfig
from maskatlas.extractors import BatchNorm
from maskatlas.masked_pooling import masked_loss, masked_pool

GUIDE_DILATIONS = (2, 4)
"""Of the layers that masks with context are computed from: they see 6 positions more each way."""


class Supervision(NamedTuple):
    """What a network needs to know to compute its part of the loss itself."""

    labels: Float[Tensor, "batch attribute"]
    """0, 1, or NaN where unknown."""
    binary: float
    """alpha, the weight of L_b."""
    mask_l1: float
    """lambda, the weight of |M|_1."""
    regions: UInt8[Tensor, "batch attribute rows columns"] | None = None
    """Where each attribute is, for those who asked: 1 inside, 0 outside, 255 unknown."""
    identities: Int64[Tensor, " batch"] | None = None
    """Who or what each image shows, for those who asked; -1 unknown."""
    pretraining: bool = False
    """Whether extractor and multi-label classifier learn alone."""


class Answers(NamedTuple):
    """What the sub-networks say of a batch."""

    logits: Float[Tensor, "batch attribute"]
    pooled: Float[Tensor, "batch attribute channel"]
    mask_mean: Float[Tensor, "batch attribute channel"]
    loss: Float[Tensor, ""] | None
    """alpha L_b + lambda |M|_1, where labels were given; then nothing else has a gradient."""


class SubNetworks(nn.Module):
    """K sub-networks side by side: a mask for each channel, and a binary classifier.

    M^k = sigmoid(W^k * g + b^k), a 1x1 convolution; a^k = (offset + M^k) f, equation (2), where
    the offset is 1; p^k its mean over positions; logit_k = w^k . p^k + c^k. The mask features g
    are f itself, as in the paper, or what the guide makes of it.
    """

    def __init__(
        self,
        attributes: int,
        channels: int,
        *,
        guide: nn.Module | None = None,
        guides: int | None = None,
        offset: float = 1.0,
    ) -> None:
        """Set up at random.

        Args:
            attributes: K.
            channels: C, of the features.
            guide: From features to mask features; None: the features themselves.
            guides: Channels of the mask features; C if there is no guide.
            offset: What is added to the masks.
        """
        super().__init__()
        guides = guides or channels
        self.guide = guide
        self.offset = offset
        self.mask_weight = nn.Parameter(torch.empty(attributes, channels, guides))
        self.mask_bias = nn.Parameter(torch.zeros(attributes, channels))
        self.weight = nn.Parameter(torch.empty(attributes, channels))
        self.bias = nn.Parameter(torch.zeros(attributes))
        nn.init.normal_(self.mask_weight, std=guides**-0.5)
        nn.init.uniform_(self.weight, -(channels**-0.5), channels**-0.5)

    def forward(
        self,
        features: Float[Tensor, "batch channel height width"],
        supervision: Supervision | None = None,
    ) -> Answers:
        """Return logits and what was pooled for them, and with labels the loss."""
        guides = None if self.guide is None else self._guides(features)
        if supervision is None:
            pool = masked_pool(
                features, self.mask_weight, self.mask_bias, guides, offset=self.offset
            )
            logits = (pool.pooled * self.weight).sum(dim=2) + self.bias
            return Answers(logits, *pool, loss=None)
        found = masked_loss(
            *(features, self.mask_weight, self.mask_bias, self.weight, self.bias),
            supervision.labels,
            guides,
            offset=self.offset,
            binary=supervision.binary,
            mask_l1=supervision.mask_l1,
        )
        return Answers(found.logits, found.pooled, found.mask_mean, found.loss)

    if TYPE_CHECKING:

        def __call__(  # noqa: D102
            self, features: Tensor, supervision: Supervision | None = None
        ) -> Answers: ...

    @torch.no_grad()
    def follow(self, classifier: nn.Linear) -> None:
        """Answer as a linear classifier on the mean of f does, to float precision.

        Every mask is one half: W^k = 0, b^k = 0; w^k is the classifier's by offset + 1/2.
        """
        self.mask_weight.zero_()
        self.mask_bias.zero_()
        self.weight.copy_(classifier.weight / (self.offset + 0.5))
        self.bias.copy_(classifier.bias)

    def masks(
        self,
        features: Float[Tensor, "batch channel height width"],
        attributes: Sequence[int],
        channels: Sequence[int],
    ) -> Float[Tensor, "batch attribute chosen height width"]:
        """Return M for the chosen attributes and channels, 0 to 1."""
        return self.mask_logits(self._guides(features), attributes, channels).sigmoid()

    def mask_logits(
        self,
        guides: Float[Tensor, "batch guide height width"],
        attributes: Sequence[int],
        channels: Sequence[int],
    ) -> Float[Tensor, "batch attribute chosen height width"]:
        """Return W^k * g + b^k for the chosen attributes and channels: masks before the sigmoid."""
        rows = torch.tensor(attributes, device=guides.device)
        columns = torch.tensor(channels, device=guides.device)
        weight = self.mask_weight[rows][:, columns].flatten(0, 1)[:, :, None, None]
        bias = self.mask_bias[rows][:, columns].flatten()
        logits = nn.functional.conv2d(guides, weight.to(guides.dtype), bias.to(guides.dtype))
        return logits.reshape(len(logits), len(attributes), len(channels), *logits.shape[2:])

    def contributions(
        self,
        features: Float[Tensor, "batch channel height width"],
        attributes: Sequence[int],
        channels: Sequence[int],
    ) -> Float[Tensor, "batch attribute chosen height width"]:
        """Return w^k_c (offset + M^k_cu) f_cu / (h w); over all c and u, it sums to logit - c^k."""
        rows = torch.tensor(attributes, device=features.device)
        columns = torch.tensor(channels, device=features.device)
        weight = self.weight[rows][:, columns] / (features.shape[2] * features.shape[3])
        masks = self.masks(features, attributes, channels)
        return (self.offset + masks) * features[:, None, columns] * weight[:, :, None, None]

    def contribution_maps(
        self,
        features: Float[Tensor, "batch channel height width"],
        attributes: Sequence[int],
    ) -> Float[Tensor, "batch attribute height width"]:
        """Return the contributions summed over all channels, one attribute's held at a time."""
        batch, _, height, width = features.shape
        rows = _rows(features)
        weight = self.weight[list(attributes)].to(rows.dtype) / (height * width)
        parts = [
            (masks * rows) @ weight[place]
            for place, masks in enumerate(self._all_masks(features, attributes))
        ]
        maps = torch.stack(parts) + self.offset * weight @ rows.T
        return maps.view(len(parts), batch, height, width).transpose(0, 1)

    def mask_maps(
        self,
        features: Float[Tensor, "batch channel height width"],
        attributes: Sequence[int],
    ) -> Float[Tensor, "batch attribute height width"]:
        """Return the masks' mean over all channels, one attribute's held at a time."""
        batch, _, height, width = features.shape
        maps = torch.stack([masks.mean(dim=1) for masks in self._all_masks(features, attributes)])
        return maps.view(-1, batch, height, width).transpose(0, 1)

    def _guides(self, features: Tensor) -> Float[Tensor, "batch guide height width"]:
        """Return what masks are computed from."""
        if self.guide is None:
            return features
        guides: Tensor = self.guide(features)
        return guides

    def _all_masks(
        self, features: Tensor, attributes: Sequence[int]
    ) -> Iterator[Float[Tensor, "row channel"]]:
        """Yield each attribute's masks, a row for each position of each image."""
        guides = _rows(self._guides(features))
        for k in attributes:
            weight, bias = (part[k].to(guides.dtype) for part in (self.mask_weight, self.mask_bias))
            yield torch.addmm(bias, guides, weight.T).sigmoid_()


def _rows(maps: Float[Tensor, "batch channel height width"]) -> Float[Tensor, "row channel"]:
    return maps.permute(0, 2, 3, 1).flatten(0, 2)


class LowRankGuide(nn.Conv2d):
    """R features, linear in f and shared by all attributes: masks then have a rank of R."""

    def __init__(self, channels: int, rank: int) -> None:
        super().__init__(channels, rank, 1, bias=False)
        nn.init.normal_(self.weight, std=channels**-0.5)


class ContextGuide(nn.Sequential):
    """R features that see far more of the image than f does: context decides, evidence stays local.

    A 1x1 layer and two dilated 3x3 layers on top of f, each normalised and rectified. The features
    that masks act on stay as they are, so that a contribution is where the evidence is.
    """

    def __init__(self, channels: int, width: int) -> None:
        layers: list[nn.Module] = []
        inputs = channels
        for dilation in (0, *GUIDE_DILATIONS):
            side = 3 if dilation else 1
            convolution = nn.Conv2d(
                inputs, width, side, padding=dilation, dilation=max(dilation, 1), bias=False
            )
            nn.init.kaiming_normal_(convolution.weight, nonlinearity="relu")
            layers += [convolution, BatchNorm(width), nn.ReLU()]
            inputs = width
        super().__init__(*layers)


def build_subnetworks(config: ModelConfig, attributes: int) -> SubNetworks:
    """Build the sub-networks that the configuration describes, for so many attributes."""
    channels, width = config.channels, config.mask_rank or config.channels
    guide: nn.Module | None = None
    if config.mask_context:
        guide = ContextGuide(channels, width)
    elif config.mask_rank:
        guide = LowRankGuide(channels, width)
    return SubNetworks(attributes, channels, guide=guide, guides=width, offset=config.mask_offset)
