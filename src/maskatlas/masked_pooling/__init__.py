"""Masked pooling: K x C attention masks summed up without ever being held.

For features f [B C h w], mask features g [B G h w] and K attributes' 1x1 convolutions W_k, b_k::

    M_k      = sigmoid(W_k g + b_k)                 [B C h w], for each k
    pooled_k = mean over h, w of (offset + M_k) f   [B C]      eq. (2) of the paper, averaged
    mask_k   = mean over h, w of M_k                [B C]      the L1 term of eq. (6), averaged

Neither the forward nor the backward pass holds the B x K x C x h x w masks: both compute them
piece by piece, so that memory does not grow with K. Three forms do the work: plain torch
(:mod:`~maskatlas.masked_pooling.reference`), which runs everywhere, compiled code for the CPU
(:mod:`~maskatlas.masked_pooling.cpu`), and Triton kernels for NVIDIA GPUs
(:mod:`~maskatlas.masked_pooling.cuda`).
"""

from typing import Any, NamedTuple, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from maskatlas.cross_entropy import cross_entropy
from maskatlas.masked_pooling import cpu, cuda, reference
from maskatlas.masked_pooling.reference import Gradients, Head, Problem, Wanted

__all__ = ["MaskedLoss", "MaskedPool", "masked_loss", "masked_pool"]


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


class MaskedLoss(NamedTuple):
    """The loss of linear classifiers on pooled features; only ``loss`` has a gradient."""

    loss: Float[Tensor, ""]
    logits: Float[Tensor, "batch attribute"]
    pooled: Float[Tensor, "batch attribute channel"]
    mask_mean: Float[Tensor, "batch attribute channel"]


def masked_loss(
    features: Float[Tensor, "batch channel height width"],
    weight: Float[Tensor, "attribute channel guide"],
    bias: Float[Tensor, "attribute channel"],
    head_weight: Float[Tensor, "attribute channel"],
    head_bias: Float[Tensor, " attribute"],
    labels: Float[Tensor, "batch attribute"],
    mask_features: Float[Tensor, "batch guide height width"] | None = None,
    *,
    offset: float = 1.0,
    binary: float = 1.0,
    mask_l1: float = 0.0,
    contribution_l1: float = 0.0,
) -> MaskedLoss:
    """Pool the features under each attribute's masks, classify, and take the loss.

    With logit_k = head_weight_k . pooled_k + head_bias_k, the loss is the mean over images of::

        binary * sum over k of BCE(logit_k, label_k) + mask_l1 * sum over k, c of mask_mean_kc
            + contribution_l1 * sum over k, c of |head_weight_kc pooled_kc|

    Each attribute's loss depends on its own logit alone. Where compiled code can (see
    :mod:`~maskatlas.masked_pooling.cpu`), its gradient is therefore computed with the loss, while
    an image's masks are at hand: three products of matrices instead of four, and one sigmoid.

    Args:
        features: As for :func:`masked_pool`, like the next two.
        weight: The 1x1 convolutions.
        bias: Their biases.
        head_weight: Of the classifiers.
        head_bias: Their biases.
        labels: 0, 1, or NaN where unknown; an unknown label counts nowhere.
        mask_features: What masks are computed from; the features themselves if not given.
        offset: Added to the masks.
        binary: Weight of the cross-entropies, alpha in equation (6).
        mask_l1: Weight of the masks, lambda in equation (6).
        contribution_l1: Weight of what channels contribute to logits, for them or against them;
            features that are never negative contribute so much over all positions too.

    Raises:
        ValueError: The shapes do not fit together, or there is no position to average over.
    """
    guides = features if mask_features is None else mask_features
    _check_shapes(features, weight, bias, guides)
    _check_head(features, bias, head_weight, head_bias, labels)
    problem = Problem(features, mask_features, weight, bias, offset, _product_dtype(features))
    if torch.is_grad_enabled() and cpu.fuses(problem):
        results = _MaskedLoss.apply(  # type: ignore[no-untyped-call]
            *(features, mask_features, weight, bias, head_weight, head_bias, labels),
            *(float(offset), float(binary), float(mask_l1), float(contribution_l1)),
            problem.dtype,
        )
        return MaskedLoss(*results)
    pool = masked_pool(features, weight, bias, mask_features, offset=offset)
    contributions = pool.pooled * head_weight
    logits = contributions.sum(dim=2) + head_bias
    loss = binary * cross_entropy(logits, labels) + mask_l1 * pool.mask_mean.sum()
    if contribution_l1:
        loss = loss + contribution_l1 * contributions.abs().sum()
    found = (result.detach() for result in (logits, *pool))
    return MaskedLoss(loss / len(labels), *found)


def _check_devices(features: Tensor, **others: Tensor) -> None:
    """Raise ValueError unless all lie where the features do: compiled code follows addresses."""
    for name, tensor in others.items():
        if tensor.device != features.device:
            raise ValueError(
                f"masked_pool: {name} must be on {features.device}, as features are, found "
                f"{tensor.device}; move it there"
            )


def _check_shapes(features: Tensor, weight: Tensor, bias: Tensor, mask_features: Tensor) -> None:
    _check_devices(features, weight=weight, bias=bias, mask_features=mask_features)
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


def _check_head(
    features: Tensor, bias: Tensor, head_weight: Tensor, head_bias: Tensor, labels: Tensor
) -> None:
    _check_devices(features, head_weight=head_weight, head_bias=head_bias, labels=labels)
    attributes = len(bias)
    for name, tensor, expected, remedy in (
        ("head_weight", head_weight, tuple(bias.shape), "bias"),
        ("head_bias", head_bias, (attributes,), "bias"),
        ("labels", labels, (len(features), attributes), "features and bias"),
    ):
        if tuple(tensor.shape) != expected:
            raise ValueError(
                f"masked_loss: {name} must have shape {expected} to fit {remedy}, found "
                f"{tuple(tensor.shape)}"
            )


def _product_dtype(features: Tensor) -> torch.dtype:
    """The type products are taken in: autocast's where it is on, the features' own otherwise."""
    device = features.device.type
    if features.dtype != torch.float64 and torch.is_autocast_enabled(device):
        return torch.get_autocast_dtype(device)
    return features.dtype


@runtime_checkable
class _Form(Protocol):
    """A module that does the operation, forward and backward."""

    def pool(self, problem: Problem) -> tuple[Tensor, Tensor]: ...

    def pool_gradients(
        self, problem: Problem, pooled_gradient: Tensor, mask_gradient: Tensor, wanted: Wanted
    ) -> Gradients: ...


def _form(problem: Problem) -> _Form:
    """Return the quickest form that suits."""
    return next((form for form in (cpu, cuda) if form.suits(problem)), reference)


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
            return _form(problem).pool(problem)

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any, pooled_gradient: Tensor, mask_gradient: Tensor
    ) -> tuple[Tensor | None, ...]:
        features, mask_features, weight, bias = ctx.saved_tensors
        problem = Problem(features, mask_features, weight, bias, ctx.offset, ctx.dtype)
        wanted = Wanted(*ctx.needs_input_grad[:4])
        with torch.autocast(problem.features.device.type, enabled=False):
            gradients = _form(problem).pool_gradients(
                problem, pooled_gradient, mask_gradient, wanted
            )
        return (*gradients, None, None)


class _MaskedLoss(torch.autograd.Function):
    """The loss and, already in the forward pass, its gradients."""

    @staticmethod
    def forward(
        ctx: Any,
        features: Tensor,
        mask_features: Tensor | None,
        weight: Tensor,
        bias: Tensor,
        head_weight: Tensor,
        head_bias: Tensor,
        labels: Tensor,
        offset: float,
        binary: float,
        mask_l1: float,
        contribution_l1: float,
        dtype: torch.dtype,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        problem = Problem(features, mask_features, weight, bias, offset, dtype)
        images = max(len(labels), 1)
        shares = (factor / images for factor in (binary, mask_l1, contribution_l1))
        head = Head(head_weight, head_bias, labels, *shares)
        with torch.autocast("cpu", enabled=False):
            found = cpu.loss_and_gradients(problem, head)
        ctx.save_for_backward(
            *found.gradients,
            found.of_head_weight.to(head_weight.dtype),
            found.of_head_bias.to(head_bias.dtype),
        )
        ctx.mark_non_differentiable(*found[1:4])
        ctx.set_materialize_grads(False)
        return found[:4]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, arriving: Tensor | None, *_: None) -> tuple[Tensor | None, ...]:
        gradients = ctx.saved_tensors
        if arriving is None:
            return (None,) * 12
        if arriving.item() != 1:
            gradients = [None if one is None else one * arriving.to(one.dtype) for one in gradients]
        return (*gradients, *(None,) * 6)
