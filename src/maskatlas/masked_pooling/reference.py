"""Masked pooling in plain torch: one attribute at a time, on any device, in any floating type."""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor


class Problem(NamedTuple):
    """What goes into the operation, and the type its products are taken in."""

    features: Float[Tensor, "batch channel height width"]
    mask_features: Float[Tensor, "batch guide height width"] | None
    weight: Float[Tensor, "attribute channel guide"]
    bias: Float[Tensor, "attribute channel"]
    offset: float
    dtype: torch.dtype


class Gradients(NamedTuple):
    """Gradients of what goes in; None for what nobody asked for."""

    features: Float[Tensor, "batch channel height width"] | None
    mask_features: Float[Tensor, "batch guide height width"] | None
    weight: Float[Tensor, "attribute channel guide"] | None
    bias: Float[Tensor, "attribute channel"] | None


class Head(NamedTuple):
    """Linear classifiers on what is pooled, and what their loss is made of."""

    weight: Float[Tensor, "attribute channel"]
    bias: Float[Tensor, " attribute"]
    labels: Float[Tensor, "batch attribute"]
    binary: float
    mask_l1: float
    contribution_l1: float


class Wanted(NamedTuple):
    """Which gradients are asked for."""

    features: bool
    mask_features: bool
    weight: bool
    bias: bool


def pool(
    problem: Problem,
) -> tuple[Float[Tensor, "batch attribute channel"], Float[Tensor, "batch attribute channel"]]:
    """Return the pooled features and the means of the masks."""
    features, guides, weight, bias = _operands(problem)
    batch, positions, channels = features.shape
    attributes = len(weight)
    total = _sum_dtype(problem)
    pooled = features.new_empty((attributes, batch, channels), dtype=total)
    mask_mean = torch.empty_like(pooled)
    for k in range(attributes):
        masks = _masks(guides, weight[k], bias[k]).view(features.shape)
        mask_mean[k] = masks.sum(1, dtype=total)
        pooled[k] = masks.mul_(features).sum(1, dtype=total)
    pooled += problem.offset * features.sum(1, dtype=total)
    pooled /= positions
    mask_mean /= positions
    return pooled.transpose(0, 1).contiguous(), mask_mean.transpose(0, 1).contiguous()


def pool_gradients(
    problem: Problem,
    pooled_gradient: Float[Tensor, "batch attribute channel"],
    mask_gradient: Float[Tensor, "batch attribute channel"],
    wanted: Wanted,
) -> Gradients:
    """Carry gradients from the results of :func:`pool` to what went in.

    With t = (dpooled f + dmask) M (1 - M) / hw: dweight = sum of t g, dbias = sum of t,
    dg = sum over k of W_k t, df = sum over k of dpooled (offset + M) / hw.
    """
    features, guides, weight, bias = _operands(problem)
    positions = features.shape[1]
    total = _sum_dtype(problem)
    by_pooled = (pooled_gradient.to(total) / positions).transpose(0, 1).unsqueeze(2)
    by_mask = (mask_gradient.to(total) / positions).transpose(0, 1).unsqueeze(2)

    shared = problem.mask_features is None
    for_features = wanted.features
    for_guides = wanted.features if shared else wanted.mask_features
    df = (problem.offset * by_pooled.sum(0)).expand(features.shape).contiguous()
    dg = torch.zeros_like(guides, dtype=total)
    dweight = torch.zeros_like(weight, dtype=total)
    dbias = torch.zeros_like(bias, dtype=total)
    by_pooled, by_mask = by_pooled.to(problem.dtype), by_mask.to(problem.dtype)
    for k in range(len(weight)):
        masks = _masks(guides, weight[k], bias[k]).view(features.shape)
        if for_features:
            df += masks * by_pooled[k]
        slope = torch.addcmul(by_mask[k], features, by_pooled[k])
        slope = torch.ops.aten.sigmoid_backward(slope, masks).flatten(0, 1)
        if wanted.weight:
            dweight[k] = slope.T @ guides
        if wanted.bias:
            dbias[k] = slope.sum(0, dtype=total)
        if for_guides:
            dg += slope @ weight[k]
    if shared and for_features:
        df += dg.view(df.shape)
    return Gradients(
        _maps(df, problem.features) if wanted.features else None,
        None
        if problem.mask_features is None or not wanted.mask_features
        else _maps(dg, problem.mask_features),
        dweight.to(problem.weight.dtype) if wanted.weight else None,
        dbias.to(problem.bias.dtype) if wanted.bias else None,
    )


def _sum_dtype(problem: Problem) -> torch.dtype:
    return torch.float64 if problem.dtype == torch.float64 else torch.float32


def _operands(problem: Problem) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Features [B hw C], mask features [B*hw G], weight and bias, in the type of the products."""
    features = _rows(problem.features, problem.dtype)
    guides = (
        features if problem.mask_features is None else _rows(problem.mask_features, problem.dtype)
    )
    return (
        features,
        guides.flatten(0, 1),
        problem.weight.to(problem.dtype),
        problem.bias.to(problem.dtype),
    )


def _rows(maps: Tensor, dtype: torch.dtype) -> Tensor:
    return maps.to(dtype).permute(0, 2, 3, 1).flatten(1, 2).contiguous()


def _maps(rows: Tensor, like: Tensor) -> Tensor:
    batch, channels, height, width = like.shape
    return rows.view(batch, height, width, channels).permute(0, 3, 1, 2).to(like.dtype)


def _masks(guides: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return torch.addmm(bias, guides, weight.T).sigmoid_()
