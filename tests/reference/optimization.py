"""Learning rate, gradient clipping, AdamW and moving average, one number after another."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

BETAS = 0.9, 0.999
EPSILON = 1e-8


def learning_rates(total: int, peak: float, warmup: float) -> list[float]:
    """Every rate of a run: up a straight line over the warm-up, then down half a cosine."""
    rising = max(1, round(warmup * total))
    rates = [peak * (step + 1) / rising for step in range(rising)]
    falling = total - rising
    # (1 + cos x) / 2 is the square of the cosine of half the angle
    rates += [peak * math.cos(math.pi / 2 * step / falling) ** 2 for step in range(falling)]
    return rates[:total]


def clipped(gradients: Sequence[Tensor], largest: float) -> list[Tensor]:
    """All gradients, scaled down so that their common norm is at most so large.

    As PyTorch does it, which adds 1e-6 to the norm.
    """
    norm = math.sqrt(sum(float(number) ** 2 for g in gradients for number in g.flatten()))
    return [gradient * min(1.0, largest / (norm + 1e-6)) for gradient in gradients]


class AdamW:
    """Loshchilov and Hutter 2019, algorithm 2, for one tensor."""

    def __init__(self, decay: float) -> None:
        self.decay, self.step = decay, 0
        self.first: list[float] = []
        self.second: list[float] = []

    def updated(self, weight: Tensor, gradient: Tensor, rate: float) -> Tensor:
        self.step += 1
        self.first = self.first or [0.0] * weight.numel()
        self.second = self.second or [0.0] * weight.numel()
        numbers = []
        for place, (w, g) in enumerate(
            zip(weight.flatten().tolist(), gradient.flatten().tolist(), strict=True)
        ):
            self.first[place] = BETAS[0] * self.first[place] + (1 - BETAS[0]) * g
            self.second[place] = BETAS[1] * self.second[place] + (1 - BETAS[1]) * g * g
            mean = self.first[place] / (1 - BETAS[0] ** self.step)
            square = self.second[place] / (1 - BETAS[1] ** self.step)
            w -= rate * self.decay * w
            numbers.append(w - rate * mean / (math.sqrt(square) + EPSILON))
        return torch.tensor(numbers, dtype=weight.dtype).view_as(weight)


def averaged(average: Tensor, current: Tensor, step: int, decay: float) -> Tensor:
    """The moving average after a step; in the beginning it forgets faster."""
    if not current.is_floating_point():
        return current.clone()
    kept = min(decay, (1 + step) / (10 + step))
    return kept * average + (1 - kept) * current
