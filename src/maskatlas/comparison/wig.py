"""Weighted sigmoid gate (Tanaka 2018): x sigmoid(W x + b), an activation that learns its gate.

It takes the place of every ReLU in the extractor of the plain network. W = s I and b = 0 at first:
with s = 1 it begins as SiLU, with a large s as ReLU. Here W is a 1x1 convolution, so that a feature
sees no more of the image than with ReLU; the published convolutional form also allows larger ones
(``side``). ``wig:silu`` and ``wig:relu`` are the same network with those activations, to compare
with.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor, nn

from maskatlas.comparison.networks import ClassifierNetwork
from maskatlas.config import ModelConfig
from maskatlas.errors import ConfigError
from maskatlas.extractors import build_extractor

ACTIVATIONS = ("wig", "silu", "relu")


class WeightedSigmoidGate(nn.Module):
    """x sigmoid(W * x + b), [B C h w] to the same."""

    def __init__(self, channels: int, *, side: int = 1, scale: float = 1.0) -> None:
        """Begin as x sigmoid(s x).

        Args:
            channels: C.
            side: Of the convolution W; odd.
            scale: s.

        Raises:
            ConfigError: The side is even, so that W would have no centre.
        """
        super().__init__()
        if side < 1 or side % 2 == 0:
            raise ConfigError(f"side: expected an odd number of 1 or more, found {side}")
        self.gate = nn.Conv2d(channels, channels, side, padding=side // 2)
        nn.init.zeros_(self.gate.weight)
        nn.init.zeros_(self.gate.bias)  # type: ignore[arg-type]
        with torch.no_grad():
            places = torch.arange(channels)
            self.gate.weight[places, places, side // 2, side // 2] = scale

    def forward(
        self, features: Float[Tensor, "batch channel height width"]
    ) -> Float[Tensor, "batch channel height width"]:
        """Return the features, each as far as its gate is open."""
        return features * torch.sigmoid(self.gate(features))

    if TYPE_CHECKING:

        def __call__(self, features: Tensor) -> Tensor: ...  # noqa: D102


def replace_rectifiers(
    module: nn.Module, activation: Callable[[int], nn.Module], channels: int = 3
) -> int:
    """Replace each ReLU of a network whose layers are applied in order.

    Args:
        module: Changed in place.
        activation: Makes what takes a ReLU's place, given the channels there.
        channels: Those that the module is given.

    Returns:
        The channels that it gives.
    """
    for name, child in module.named_children():
        if isinstance(child, nn.ReLU):
            setattr(module, name, activation(channels))
        elif isinstance(child, nn.Conv2d):
            channels = child.out_channels
        else:
            channels = replace_rectifiers(child, activation, channels)
    return channels


def build(
    config: ModelConfig, attributes: Sequence[str], activation: str = "wig"
) -> ClassifierNetwork:
    """Build the plain network with another activation in its extractor.

    Args:
        config: Sizes and extractor.
        attributes: Names.
        activation: One of :data:`ACTIVATIONS`.

    Raises:
        ConfigError: It is none of these.
    """
    if activation not in ACTIVATIONS:
        raise ConfigError(f"wig: expected {', '.join(ACTIVATIONS)}, found {activation!r}")
    extractor = build_extractor(config)
    if activation == "wig":
        replace_rectifiers(extractor, WeightedSigmoidGate)
    elif activation == "silu":
        replace_rectifiers(extractor, lambda _: nn.SiLU())
    return ClassifierNetwork(config, attributes, extractor)
