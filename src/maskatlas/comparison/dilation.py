"""The dilation network (Yu and Koltun 2016): front end and basic context module, as published.

The front end is VGG-16 without its last two poolings: the three layers of the fifth stage are
dilated by 2, the 7x7 layer that was fc6 by 4, and nothing is padded inside. Around the image 186
pixels are added by reflection instead, as the released code does, so that 8 x 8 pixels give one
feature, which sees 380 x 380. The context module, C channels throughout and the identity at first,
is that of :mod:`maskatlas.extractors`; behind it a ReLU, the features' mean and one linear layer,
since attributes and not pixels are recognised.

Departures: a ``width`` of 64 is VGG-16's; the system takes 8 unless asked for ``dilation:64``,
because at 64 one image costs 62 billion multiplications. No dropout, and no weights from ImageNet:
it is trained from He's initialisation, as all systems here are. The smaller extractor that this
package calls ``dilated`` is a reading of the paper, not this.
"""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from maskatlas.comparison.networks import ClassifierNetwork
from maskatlas.config import ModelConfig
from maskatlas.errors import ConfigError
from maskatlas.extractors import ContextModule

MARGIN = 186
"""Pixels added on each side: (380 - 8) / 2, the receptive field less the stride."""
WIDTH = 8
"""Channels of the first stage; VGG-16 has 64."""

_STAGES = ((1, 2, 1, True), (2, 2, 1, True), (4, 3, 1, True), (8, 3, 1, False), (8, 3, 2, False))
"""Channels in widths, layers, dilation, whether a pooling follows."""
_FULL = 64
"""Channels of the layers that were fully connected, in widths."""


class FrontEnd(nn.Sequential):
    """VGG-16 as a dense predictor, [B 3 H W] -> [B C h w] with h = (H - 372) / 8."""

    def __init__(self, channels: int, width: int = 64) -> None:
        """Set up at random.

        Args:
            channels: C, of the result.
            width: Channels of the first stage.
        """
        layers: list[nn.Module] = []
        inputs = 3
        for wide, count, dilation, pool in _STAGES:
            for _ in range(count):
                layers += [nn.Conv2d(inputs, wide * width, 3, dilation=dilation), nn.ReLU(True)]
                inputs = wide * width
            layers += [nn.MaxPool2d(2)] if pool else []
        layers += [nn.Conv2d(inputs, _FULL * width, 7, dilation=4), nn.ReLU(True)]
        layers += [nn.Conv2d(_FULL * width, _FULL * width, 1), nn.ReLU(True)]
        super().__init__(*layers, nn.Conv2d(_FULL * width, channels, 1))
        for layer in self:
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
                nn.init.zeros_(layer.bias)  # type: ignore[arg-type]


class DilationExtractor(nn.Module):
    """Reflection, front end, context module, ReLU; h = H / 8."""

    def __init__(self, channels: int, width: int = 64) -> None:
        super().__init__()
        self.channels = channels
        self.front_end = FrontEnd(channels, width)
        self.context = ContextModule(channels)

    def forward(
        self, images: Float[Tensor, "batch 3 rows columns"]
    ) -> Float[Tensor, "batch channel height width"]:
        """Return f."""
        features: Tensor = self.context(self.front_end(reflected(images, MARGIN)))
        return features.relu()


def reflected(
    images: Float[Tensor, "batch colour rows columns"], margin: int
) -> Float[Tensor, "batch colour higher wider"]:
    """Return the images with a margin that mirrors them, as often as it takes."""
    rows, columns = (
        torch.from_numpy(np.pad(np.arange(side), margin, mode="reflect")).to(images.device)
        for side in images.shape[2:]
    )
    return images.index_select(2, rows).index_select(3, columns)


def build(config: ModelConfig, attributes: Sequence[str], width: int = WIDTH) -> ClassifierNetwork:
    """Build the dilation network with a classifier on its features' mean.

    Args:
        config: C is taken from it.
        attributes: Names.
        width: Channels of the first stage; 64 is published.

    Raises:
        ConfigError: The width is less than 1.
    """
    if width < 1:
        raise ConfigError(f"dilation: expected a width of 1 or more, found {width}")
    return ClassifierNetwork(config, attributes, DilationExtractor(config.channels, width))
