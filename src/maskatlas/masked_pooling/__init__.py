"""Masked pooling: K x C attention masks summed up without ever being held.

For features f [B C h w], mask features g [B G h w] and K attributes' 1x1 convolutions W_k, b_k::

    M_k      = sigmoid(W_k g + b_k)                 [B C h w], for each k
    pooled_k = mean over h, w of (offset + M_k) f   [B C]      eq. (2) of the paper, averaged
    mask_k   = mean over h, w of M_k                [B C]      the L1 term of eq. (6), averaged

Neither the forward nor the backward pass holds the B x K x C x h x w masks: both compute them
piece by piece, so that memory does not grow with K. Two forms do the work: plain torch
(:mod:`~maskatlas.masked_pooling.reference`), which runs everywhere, and compiled code for the CPU.
"""

from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from maskatlas.masked_pooling import cpu, reference
from maskatlas.masked_pooling.reference import Problem, Wanted

__all__ = ["MaskedPool", "masked_pool"]


class MaskedPool(NamedTuple):
    """What a classifier, the L1 term and all statistics need of the masks."""

    pooled: Float[Tensor, "batch attribute channel"]
    mask_mean: Float[Tensor, "batch attribute channel"]


def masked_pool(
    features: Float[Tensor, "batch channel height width"],
    weight: Float[Tensor, "attribute channel guide"],
    bias: Float[Tensor, "attribute channel"],
    mask_features: Float[Tensor, "batch guide height width"] | None = None,
    *,
    offset: float = 1.0,
) -> MaskedPool:
    """Pool the features under each attribute's masks.

    Under autocast, and for features of 16 bits, products are taken in 16 bits and sums in float32.
    Gradients have the type of what they belong to; a second derivative is not offered.

    Args:
        features: what is weighed and averaged.
        weight: the 1x1 convolution from mask features to masks, one for each attribute.
        bias: its bias.
        mask_features: what masks are computed from; the features themselves if not given.
        offset: added to the masks; 1 in the paper, 0 for attention that can switch a channel off.

    Returns:
        Both results as float32, or float64 for features of float64.

    Raises:
        ValueError: if the shapes do not fit together, or there is no position to average over.
    """
    _check_shapes(features, weight, bias, features if mask_features is None else mask_features)
    dtype = _product_dtype(features)
    results = _MaskedPooling.apply(features, mask_features, weight, bias, float(offset), dtype)  # type: ignore[no-untyped-call]
    return MaskedPool(*results)


def _check_shapes(features: Tensor, weight: Tensor, bias: Tensor, mask_features: Tensor) -> None:
    for name, tensor, axes in (
        ("features", features, "batch channel height width"),
        ("weight", weight, "attribute channel guide"),
        ("bias", bias, "attribute channel"),
        ("mask_features", mask_features, "batch guide height width"),
    ):
        if tensor.ndim != len(axes.split()):
            raise ValueError(
                f"masked_pool: {name} must have the axes [{axes}], found shape "
                f"{tuple(tensor.shape)}"
            )
    batch, channels, height, width = features.shape
    guides = mask_features.shape[1]
    if height * width == 0:
        raise ValueError(
            f"masked_pool: features of shape {tuple(features.shape)} have no position to average "
            "over; give them at least one row and one column"
        )
    for name, tensor, expected, remedy in (
        ("mask_features", mask_features, (batch, guides, height, width), "features"),
        ("weight", weight, (weight.shape[0], channels, guides), "features and mask_features"),
        ("bias", bias, (weight.shape[0], channels), "weight"),
    ):
        if tuple(tensor.shape) != expected:
            raise ValueError(
                f"masked_pool: {name} must have shape {expected} to fit {remedy}, found "
                f"{tuple(tensor.shape)}"
            )


def _product_dtype(features: Tensor) -> torch.dtype:
    """The type products are taken in: autocast's where it is on, the features' own otherwise."""
    device = features.device.type
    if features.dtype != torch.float64 and torch.is_autocast_enabled(device):
        return torch.get_autocast_dtype(device)
    return features.dtype


class _MaskedPooling(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        features: Tensor,
        mask_features: Tensor | None,
        weight: Tensor,
        bias: Tensor,
        offset: float,
        dtype: torch.dtype,
    ) -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(features, mask_features, weight, bias)
        ctx.offset, ctx.dtype = offset, dtype
        problem = Problem(features, mask_features, weight, bias, offset, dtype)
        with torch.autocast(features.device.type, enabled=False):
            return cpu.pool(problem) if cpu.suits(problem) else reference.pool(problem)

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any, pooled_gradient: Tensor, mask_gradient: Tensor
    ) -> tuple[Tensor | None, ...]:
        features, mask_features, weight, bias = ctx.saved_tensors
        problem = Problem(features, mask_features, weight, bias, ctx.offset, ctx.dtype)
        wanted = Wanted(*ctx.needs_input_grad[:4])
        with torch.autocast(problem.features.device.type, enabled=False):
            form = cpu if cpu.suits(problem) else reference
            gradients = form.pool_gradients(problem, pooled_gradient, mask_gradient, wanted)
        return (*gradients, None, None)
