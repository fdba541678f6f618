"""Slow twins of maskatlas.evaluation.faithfulness, one pixel, one image, one step at a time."""

import itertools
import math
from collections.abc import Callable

import numpy as np
import torch

from reference import perturbations

Score = Callable[[np.ndarray], float]


def curve(
    score: Score, image: np.ndarray, ranks: np.ndarray, steps: int, kind: str, blur: float
) -> list[float]:
    """Probabilities as pixels come to the blurred image, or leave the whole, by rising rank.

    Ranks are pairs: the value's, highest first, and the one among equals.
    """
    if kind == "insertion":
        now, then = perturbations.blurred(image, blur), image
    else:
        now, then = image, perturbations.mean_colour(image)
    now = now.copy()
    order = sorted(np.ndindex(ranks.shape[:2]), key=lambda place: tuple(ranks[place]))
    found = [sigmoid(score(now))]
    moved = 0
    for step in range(1, steps + 1):
        while moved < round(step / steps * len(order)):
            row, column = order[moved]
            now[:, row, column] = then[:, row, column]
            moved += 1
        found.append(sigmoid(score(now)))
    return found


def sigmoid(logit: float) -> float:
    return 1 / (1 + math.exp(-logit))


def area(curve: list[float]) -> float:
    """By trapezoids of equal width, over 0 to 1."""
    width = 1 / (len(curve) - 1)
    return sum(width * (a + b) / 2 for a, b in itertools.pairwise(curve))


def infidelity(
    score: Score, image: np.ndarray, values: np.ndarray, squares: np.ndarray
) -> tuple[float, float]:
    """The least of all errors at scales of 0 or more; found without the formula."""
    promised, change = [], []
    flat = perturbations.mean_colour(image)
    for square in squares:
        without = image.copy()
        total = 0.0
        for place in np.argwhere(square):
            without[:, place[0], place[1]] = flat[:, place[0], place[1]]
            total += values[tuple(place)]
        promised.append(total)
        change.append(score(image) - score(without))

    def error(scale: float) -> float:
        return sum((scale * p - c) ** 2 for p, c in zip(promised, change, strict=True)) / len(
            change
        )

    low, high = 0.0, 1e3
    for _ in range(300):
        third = (high - low) / 3
        if error(low + third) < error(high - third):
            high -= third
        else:
            low += third
    size = sum(c**2 for c in change) / len(change)
    return error(low), error(low) / size


def scorer(network: torch.nn.Module, attribute: int) -> Score:
    """The whole network, one image at a time."""

    def score(image: np.ndarray) -> float:
        with torch.no_grad():
            return float(network(torch.from_numpy(image)[None]).scores[0, attribute])

    return score
