"""Slow twins of what the comparison systems compute: by loops, by autograd, by enumeration."""

import itertools
import math

import numpy as np
import torch
from torch import Tensor, nn

from maskatlas.comparison.abn import AttentionBranchNetwork
from maskatlas.comparison.gain import GuidedAttentionNetwork
from maskatlas.comparison.mt_rbm_pca import MultiTaskRBM
from maskatlas.metrics import METRICS, attribute_metrics


def abn(network: AttentionBranchNetwork, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Maps, branch logits and logits, one attribute after another."""
    features = network.extractor((images - 0.5) / 0.25)
    stage = network.attention_stage(features)
    maps, branch, logits = [], [], []
    for k in range(len(network.attributes)):
        one = (stage * network.attention.weight[k]).sum(1)
        flat = one.flatten(1)
        weight = 1 + one if network.residual else one
        last = network.perception_stage(features * weight[:, None])
        maps.append(one)
        branch.append(flat.mean(1) if network.residual else flat.max(1).values)
        head = network.classifier
        logits.append(last.mean((2, 3)) @ head.weight[k] + head.bias[k])
    return torch.stack(maps, 1), torch.stack(branch, 1), torch.stack(logits, 1)


def grad_cam(network: GuidedAttentionNetwork, pixels: Tensor) -> tuple[Tensor, Tensor]:
    """Logits, and relu(sum_c w_kc f_c), w the mean of the gradient, differentiable once more."""
    features = network.extractor(pixels)
    logits = network.classifier(features.mean((2, 3)))
    maps = []
    for k in range(logits.shape[1]):
        (slope,) = torch.autograd.grad(logits[:, k].sum(), features, create_graph=True)
        weights = slope.mean((2, 3), keepdim=True)
        maps.append((weights * features).sum(1).relu())
    return logits, torch.stack(maps, 1)


def gain_loss(
    network: GuidedAttentionNetwork, images: Tensor, labels: Tensor, regions: Tensor | None
) -> Tensor:
    """L_am + 10 mean (A - H)^2, image by image and attribute by attribute."""
    pixels = (images - 0.5) / 0.25
    _, maps = grad_cam(network, pixels)
    total, errors = torch.zeros((), dtype=torch.float64), []
    for image in range(len(images)):
        scores = []
        for k in range(labels.shape[1]):
            if labels[image, k] != 1:
                continue
            one = maps[image, k] / maps[image, k].max()
            cover = nn.functional.interpolate(
                one[None, None], images.shape[2:], mode="bilinear", align_corners=False
            )[0, 0]
            hidden = 1 / (1 + torch.exp(-10 * (cover - 0.5)))
            masked = pixels[image] - hidden * pixels[image]
            logits = network.classifier(network.extractor(masked[None]).mean((2, 3)))
            scores.append(1 / (1 + torch.exp(-logits[0, k])))
            if regions is not None:
                known = regions[image, k] != 255
                errors.append((cover - regions[image, k])[known] ** 2)
        if scores:
            total = total + torch.stack(scores).mean()
    total = total / len(images)
    return total + 10 * torch.cat(errors).mean() if errors else total


def locally_shared(weight: Tensor, bias: Tensor, features: Tensor, grid: int) -> Tensor:
    """Each position convolved with the weights of its cell."""
    batch, _, side, _ = features.shape
    outputs = len(bias) // grid**2
    cell = side // grid
    padded = nn.functional.pad(features, (1, 1, 1, 1))
    found = torch.zeros(batch, outputs, side, side, dtype=features.dtype)
    for y, x in itertools.product(range(side), repeat=2):
        first = ((y // cell) * grid + x // cell) * outputs
        window = padded[:, :, y : y + 3, x : x + 3]
        for o in range(outputs):
            found[:, o, y, x] = (window * weight[first + o]).sum((1, 2, 3)) + bias[first + o]
    return found


def contraction(features: Tensor, identities: Tensor) -> Tensor:
    """Half the squared distance, a mean over pairs of one person."""
    distances = [
        ((features[i] - features[j]) ** 2).sum() / 2
        for i, j in itertools.combinations(range(len(features)), 2)
        if identities[i] == identities[j]
    ]
    return torch.stack(distances).mean() if distances else torch.zeros((), dtype=features.dtype)


def energy(rbm: MultiTaskRBM, k: int, v: Tensor, y: float, h: Tensor) -> Tensor:
    """E_k(v, y, h)."""
    return (
        ((v - rbm.visible_bias) ** 2).sum() / 2
        - rbm.hidden_bias @ h
        - v @ rbm.connection @ h
        - rbm.classifier.bias[k] * y
        - y * (rbm.classifier.weight[k] @ h)
    )


def free_energy(rbm: MultiTaskRBM, k: int, v: Tensor, y: float) -> Tensor:
    """-log sum_h exp(-E_k(v, y, h)), over all hidden states."""
    states = itertools.product((0.0, 1.0), repeat=len(rbm.hidden_bias))
    energies = [energy(rbm, k, v, y, torch.tensor(h, dtype=v.dtype)) for h in states]
    return -torch.logsumexp(-torch.stack(energies), 0)


def drawn_metrics(scores: np.ndarray, labels: np.ndarray, weights: np.ndarray) -> dict:
    """The metrics of the images, each as often in a row as it was drawn."""
    found = {name: np.full((weights.shape[1], labels.shape[1]), math.nan) for name in METRICS}
    for replicate, counts in enumerate(weights.T):
        drawn = np.repeat(np.arange(len(counts)), counts)
        metrics = attribute_metrics(scores[drawn], labels[drawn])
        for name in METRICS:
            found[name][replicate] = getattr(metrics, name)
    return found
