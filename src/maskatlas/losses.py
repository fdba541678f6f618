"""Equation (6): L = alpha L_b + beta L_m + gamma L_r + lambda |M|_1."""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from maskatlas.config import LossConfig
from maskatlas.cross_entropy import cross_entropy
from maskatlas.model import Output


class LossTerms(NamedTuple):
    """The weighted sum, and its four terms before their weights; 0 for a part that is not there."""

    total: Float[Tensor, ""]
    binary: Float[Tensor, ""]
    multilabel: Float[Tensor, ""]
    reconstruction: Float[Tensor, ""]
    mask_l1: Float[Tensor, ""]


def attribute_loss(
    logits: Float[Tensor, "batch attribute"], labels: Float[Tensor, "batch attribute"]
) -> Float[Tensor, ""]:
    """Binary cross-entropy, summed over attributes and averaged over images: L_b, and L_m.

    Args:
        logits: Of any floating type; the loss is computed in float32 or wider.
        labels: 0, 1, or NaN where unknown; an unknown label counts nowhere.
    """
    return cross_entropy(logits, labels) / labels.shape[0]


def loss_terms(
    output: Output,
    images: Float[Tensor, "batch 3 rows columns"],
    labels: Float[Tensor, "batch attribute"],
    config: LossConfig,
    *,
    loss: Float[Tensor, ""] | None = None,
) -> LossTerms:
    """Return equation (6) and its terms for one batch.

    L_r is the squared error, averaged over images, channels and pixels. |M|_1 is summed over
    attributes and channels and averaged over positions and images, so that lambda means the same
    at every size of the feature map (the paper sums over positions; its preset converts).

    Args:
        output: Of the network on these images.
        images: RGB 0..1, what the reconstruction is compared with.
        labels: 0, 1, or NaN where unknown.
        config: alpha, beta, gamma, lambda.
        loss: What the network has made of the labels itself (:class:`maskatlas.model.Supervised`);
            it stands for alpha L_b + lambda |M|_1, and has their gradient.
    """
    zero = output.features.new_zeros((), dtype=torch.float32)
    binary = zero if output.logits is None else attribute_loss(output.logits, labels)
    multilabel = (
        zero
        if output.multilabel_logits is None
        else attribute_loss(output.multilabel_logits, labels)
    )
    reconstruction = (
        zero
        if output.reconstruction is None
        else (output.reconstruction.to(images.dtype) - images).square().mean()
    )
    mask_l1 = zero if output.mask_mean is None else output.mask_mean.sum((1, 2)).mean()
    subnetworks = config.binary * binary + config.mask_l1 * mask_l1
    total = (
        (subnetworks if loss is None else loss)
        + config.multilabel * multilabel
        + config.reconstruction * reconstruction
    )
    return LossTerms(total, binary, multilabel, reconstruction, mask_l1)
