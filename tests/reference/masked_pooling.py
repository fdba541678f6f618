"""Masked pooling as the equations write it: all B x K x C x h x w masks at once."""

import torch
from torch import Tensor


def masked_pool(
    features: Tensor,
    weight: Tensor,
    bias: Tensor,
    mask_features: Tensor | None = None,
    offset: float = 1.0,
) -> tuple[Tensor, Tensor]:
    guides = features if mask_features is None else mask_features
    z = torch.einsum("kcg,bghw->bkchw", weight, guides) + bias[None, :, :, None, None]
    masks = 1 / (1 + torch.exp(-z))
    attended = (offset + masks) * features[:, None]
    return attended.mean((3, 4)), masks.mean((3, 4))


def masked_loss(
    features: Tensor,
    weight: Tensor,
    bias: Tensor,
    head_weight: Tensor,
    head_bias: Tensor,
    labels: Tensor,
    mask_features: Tensor | None = None,
    *,
    offset: float = 1.0,
    binary: float = 1.0,
    mask_l1: float = 0.0,
    contribution_l1: float = 0.0,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The loss label by label, from all masks at once."""
    pooled, mask_mean = masked_pool(features, weight, bias, mask_features, offset)
    logits = (pooled * head_weight).sum(2) + head_bias
    loss = mask_l1 * mask_mean.sum()
    for image in pooled:
        for one, head in zip(image, head_weight, strict=True):
            loss = loss + contribution_l1 * sum((one * head).abs())
    for row, truths in zip(logits, labels.tolist(), strict=True):
        for logit, truth in zip(row, truths, strict=True):
            if truth == truth:  # a label that is not a number is unknown
                loss = loss + binary * torch.log1p(torch.exp(-logit if truth == 1 else logit))
    return loss / len(labels), logits, pooled, mask_mean
