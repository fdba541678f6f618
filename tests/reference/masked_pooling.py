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
