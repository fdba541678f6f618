"""Binary cross-entropy with labels of which some are unknown."""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import logsigmoid


def cross_entropy(
    logits: Float[Tensor, "batch attribute"], labels: Float[Tensor, "batch attribute"]
) -> Float[Tensor, ""]:
    """Return -log sigmoid(z) where the label is 1 and -log sigmoid(-z) where it is 0, summed up.

    PyTorch's own takes differences of large numbers where a network is right and sure of it, and
    keeps few digits there in float32; this keeps all.

    Args:
        logits: Of any floating type; the loss is computed in float32 or wider.
        labels: 0, 1, or NaN where unknown; an unknown label counts nowhere.
    """
    wide = logits.to(torch.promote_types(logits.dtype, torch.float32))
    terms = -logsigmoid(torch.where(labels == 1, wide, -wide))
    return torch.where(labels.isnan(), 0, terms).sum()
