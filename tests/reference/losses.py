"""Slow twin of equation (6): image by image, attribute by attribute, position by position."""

import math

import torch
from torch import Tensor


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Sum over attributes, mean over images, of -y log s - (1 - y) log(1 - s); NaN is skipped."""
    total = torch.zeros((), dtype=torch.float64)
    for row, truths in zip(logits, labels.tolist(), strict=True):
        for logit, truth in zip(row, truths, strict=True):
            if not math.isnan(truth):
                answer = logit if truth == 1 else -logit  # 1 - s(z) is s(-z), and loses no digit
                total = total - torch.log(1 / (1 + torch.exp(-answer)))
    return total / len(logits)


def squared_error(reconstruction: Tensor, images: Tensor) -> Tensor:
    """Mean over images, colours and pixels."""
    total = torch.zeros((), dtype=torch.float64)
    for one, other in zip(reconstruction.flatten(), images.flatten(), strict=True):
        total = total + (one - other) ** 2
    return total / images.numel()


def mask_l1(masks: Tensor) -> Tensor:
    """Of masks [image attribute channel height width]: the mean over positions, summed up."""
    total = torch.zeros((), dtype=torch.float64)
    for image in masks:
        for attribute in image:
            for mask in attribute:
                total = total + mask.abs().mean()
    return total / len(masks)
