"""Slow twins of what differences do: each number's difference is sent through the network alone."""

import itertools

import numpy as np
import torch
from torch import Tensor, nn

from maskatlas.model import AttributeNetwork


def flattened(module: nn.Module) -> list[nn.Module]:
    """The parts of a chain of chains, in order."""
    if not isinstance(module, nn.Sequential):
        return [module]
    return [part for child in module for part in flattened(child)]


def sent(step: nn.Module, image: Tensor, reference: Tensor, parts: Tensor) -> Tensor:
    """What a step makes of parts [part channel height width] of the difference of two inputs.

    A linear one does to a part what it does to an input, less its constant; a ReLU multiplies by
    the slope of the line through its two values; a 2 x 2 maximum is b + ReLU(a - b), three times.
    """
    if isinstance(step, nn.ReLU):
        return parts * line(image, reference)
    if isinstance(step, nn.MaxPool2d):
        assert step.kernel_size == step.stride == 2
        height, width = (side // 2 * 2 for side in image.shape[2:])
        best, *others = (
            tuple(values[..., i:height:2, j:width:2] for values in (image, reference, parts))
            for i, j in ((0, 0), (0, 1), (1, 0), (1, 1))
        )
        for other in others:
            slope = line(other[0] - best[0], other[1] - best[1])
            best = (
                torch.maximum(best[0], other[0]),
                torch.maximum(best[1], other[1]),
                best[2] + slope * (other[2] - best[2]),
            )
        return best[2]
    return step(parts) - step(torch.zeros_like(parts[:1]))


def line(image: Tensor, reference: Tensor) -> Tensor:
    """The slope of ReLU between two inputs."""
    rise = image.clamp(min=0) - reference.clamp(min=0)
    run = image - reference
    close = run.abs() < 1e-12
    return torch.where(close, (image > 0).to(run), rise / torch.where(close, 1.0, run))


def traced_contribution_map(network: AttributeNetwork, image: Tensor, attribute: int) -> np.ndarray:
    """What each position of each layer makes of the logit's difference; a mean over layers."""
    average = (
        torch.full_like(image, 0.5)
        if network.average_image is None
        else resized(network.average_image, *image.shape[1:])
    )
    with torch.no_grad():
        given = [(image[None] - 0.5) / 0.25, (average[None] - 0.5) / 0.25]
        steps = flattened(network.extractor)
        inputs = [given]
        for step in steps:
            inputs.append([step(values) for values in inputs[-1]])
        maps = []
        for place in range(len(inputs)):
            if place == 0 or isinstance(steps[place - 1], nn.ReLU):
                shares = from_layer(network, inputs, steps, place, attribute)
                maps.append(summed(shares, tuple(inputs[-1][0].shape[2:])))
    return sum(maps) / len(maps)


def from_layer(
    network: AttributeNetwork,
    inputs: list[list[Tensor]],
    steps: list[nn.Module],
    place: int,
    attribute: int,
) -> np.ndarray:
    """What each number of one layer, [channel rows columns], adds to the logit's difference."""
    difference = (inputs[place][0] - inputs[place][1])[0]
    shares = np.zeros(tuple(difference.shape))
    places = list(np.ndindex(*difference.shape))
    for first in range(0, len(places), 256):
        indices = places[first : first + 256]
        parts = torch.zeros(len(indices), *difference.shape, dtype=difference.dtype)
        for number, index in enumerate(indices):
            parts[number][index] = difference[index]
        for step, (image, reference) in zip(steps[place:], inputs[place:], strict=False):
            parts = sent(step, image, reference, parts)
        found = answered(network, *inputs[-1], parts, attribute)
        for index, share in zip(indices, found, strict=True):
            shares[index] = share
    return shares


def answered(
    network: AttributeNetwork, image: Tensor, reference: Tensor, parts: Tensor, attribute: int
) -> Tensor:
    """What each part of the features' difference adds to the logit's."""
    heads = network.subnetworks
    if heads is None:
        return parts.mean((2, 3)) @ network.classifier.weight[attribute]
    guided = parts
    pair = image, reference
    for step in () if heads.guide is None else flattened(heads.guide):
        guided = sent(step, *pair, guided)
        pair = tuple(step(values) for values in pair)
    total = torch.zeros(len(parts), dtype=parts.dtype)
    for c in range(image.shape[1]):
        weight, bias = heads.mask_weight[attribute, c], heads.mask_bias[attribute, c]
        lit, unlit = (1 / (1 + torch.exp(-(slow_sum(weight, g) + bias))) for g in pair)
        drive = slow_sum(weight, pair[0]) - slow_sum(weight, pair[1])
        close = drive.abs() < 1e-12
        slope = torch.where(close, lit * (1 - lit), (lit - unlit) / torch.where(close, 1.0, drive))
        opened = slow_sum(weight, guided) * slope
        share = (heads.offset + (lit + unlit) / 2) * parts[:, c]
        share = share + (image[:, c] + reference[:, c]) / 2 * opened
        total += heads.weight[attribute, c] * share.mean((1, 2))
    return total


def slow_sum(weights: Tensor, values: Tensor) -> Tensor:
    """Sum over channels of weight times value."""
    total = torch.zeros_like(values[:, 0])
    for g, weight in enumerate(weights):
        total += weight * values[:, g]
    return total


def summed(shares: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Sums over channels, and over the cells of a grid by how much of a number lies in each."""
    values = shares.sum(0)
    total = np.zeros(size)
    for row, column in np.ndindex(*values.shape):
        for i, j in np.ndindex(*size):
            inside = 1.0
            for place, cell, count, cells in zip(
                (row, column), (i, j), values.shape, size, strict=True
            ):
                start, end = place * cells / count, (place + 1) * cells / count
                inside *= max(min(end, cell + 1) - max(start, cell), 0) * count / cells
            total[i, j] += inside * values[row, column]
    return total


def resized(image: Tensor, rows: int, columns: int) -> Tensor:
    """Bilinear, between the centres of pixels; the border is repeated."""
    found = torch.zeros(len(image), rows, columns, dtype=image.dtype)
    for row, column in itertools.product(range(rows), range(columns)):
        y = (row + 0.5) * image.shape[1] / rows - 0.5
        x = (column + 0.5) * image.shape[2] / columns - 0.5
        for i in (int(np.floor(y)), int(np.floor(y)) + 1):
            for j in (int(np.floor(x)), int(np.floor(x)) + 1):
                weight = (1 - abs(y - i)) * (1 - abs(x - j))
                inside = min(max(i, 0), image.shape[1] - 1), min(max(j, 0), image.shape[2] - 1)
                found[:, row, column] += weight * image[:, inside[0], inside[1]]
    return found
