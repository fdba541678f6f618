"""Feature extractors: images in, shared features f out, [B C h w].

An extractor is any module that maps [B 3 H W] to [B C h w] and says how many channels it gives.
Where a layer depends on the other images of a training batch, it is the global batch, so that
several processes train what one would.
"""

from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor, nn

from maskatlas import distributed
from maskatlas.config import ModelConfig
from maskatlas.errors import ConfigError

STRIDE = 4
"""Both extractors halve the image twice: h = ceil(H / 4) or floor(H / 4)."""

CONTEXT_DILATIONS = (1, 1, 2, 4, 8, 16, 1)
"""Dilations of the 3x3 layers of the basic context module (Yu and Koltun 2016, table 1)."""


class BatchNorm(nn.BatchNorm2d):
    """Batch normalisation over the global batch, however many processes share it.

    In training, mean and variance run over the images of all processes (Ioffe and Szegedy 2015);
    otherwise it is a fixed scale and shift for each channel, so that a feature keeps its receptive
    field, which group or instance normalisation would widen to the whole image.
    PyTorch's ``SyncBatchNorm`` does the same, on GPUs alone.
    """

    def forward(
        self, features: Float[Tensor, "batch channel height width"]
    ) -> Float[Tensor, "batch channel height width"]:
        """Normalise; every process must hold equally many images."""
        if not self.training or distributed.world_size() == 1:
            return super().forward(features)
        assert self.num_batches_tracked is not None
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.momentum is not None
        wide = features.to(torch.promote_types(features.dtype, torch.float32))
        count = features.numel() // features.shape[1] * distributed.world_size()
        mean = distributed.differentiable_sum(wide.sum((0, 2, 3))) / count
        centred = wide - mean[:, None, None]
        variance = distributed.differentiable_sum(centred.square().sum((0, 2, 3))) / count
        with torch.no_grad():
            self.num_batches_tracked += 1
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(variance * (count / (count - 1)), self.momentum)
        scale = self.weight * (variance + self.eps).rsqrt()
        normed = centred * scale[:, None, None] + self.bias[:, None, None]
        return normed.to(features.dtype)

    if TYPE_CHECKING:

        def __call__(self, features: Tensor) -> Tensor: ...  # noqa: D102


class PadEnd(nn.Module):
    """Zeros on the right and below only: a stride of 2 then keeps ceil(side / 2) positions."""

    def forward(
        self, features: Float[Tensor, "batch channel height width"]
    ) -> Float[Tensor, "batch channel rows columns"]:
        """Return the maps with one more row and column, two more where a side is odd."""
        height, width = features.shape[-2:]
        return nn.functional.pad(features, (0, 1 + width % 2, 0, 1 + height % 2))


def _layer(inputs: int, outputs: int, *, stride: int = 1, centred: bool = True) -> nn.Sequential:
    """Return a 3x3 convolution, normalised and rectified; not centred, it pads the end only."""
    convolution = nn.Conv2d(inputs, outputs, 3, stride, padding=int(centred), bias=False)
    nn.init.kaiming_normal_(convolution.weight, nonlinearity="relu")
    before = [] if centred else [PadEnd()]
    return nn.Sequential(*before, convolution, BatchNorm(outputs), nn.ReLU())


class CompactExtractor(nn.Sequential):
    """A plain stack of 3x3 layers at a quarter of the resolution, made for CPUs.

    With a depth of 3 each feature sees 35 x 35 pixels, about half the face at 64 x 64: what a
    feature responds to is where its map says it is. h = ceil(H / 4).

    Feature i is centred on pixel 4i + 2, half a pixel from 4i + 1.5, where resizing a map to the
    image puts it. Padded evenly, both strides would centre it on 4i, and every map would point
    1.5 pixels too far right and down.
    """

    def __init__(self, channels: int, depth: int) -> None:
        super().__init__(
            _layer(3, max(channels // 4, 8), stride=2),
            _layer(max(channels // 4, 8), max(channels // 2, 16)),
            _layer(max(channels // 2, 16), channels, stride=2, centred=False),
            *(_layer(channels, channels) for _ in range(depth)),
        )
        self.channels = channels


def _identity_with_noise_(weight: Tensor, deviation: float = 0.01) -> None:
    """Fill a square convolution so that it passes its input on (Yu and Koltun 2016, section 4)."""
    nn.init.normal_(weight, std=deviation)
    middle = weight.shape[-1] // 2
    with torch.no_grad():
        channels = torch.arange(weight.shape[0])
        weight[channels, channels, middle, middle] += 1.0


class ContextModule(nn.Sequential):
    """The basic context module of Yu and Koltun 2016, C channels throughout, identity at first.

    Seven 3x3 layers at dilations 1, 1, 2, 4, 8, 16, 1 and a 1x1 layer; a ReLU after all but the
    last. Its receptive field is 67 x 67 features.
    """

    def __init__(self, channels: int) -> None:
        layers: list[nn.Module] = []
        for dilation in CONTEXT_DILATIONS:
            layers += [
                nn.Conv2d(channels, channels, 3, padding=dilation, dilation=dilation),
                nn.ReLU(),
            ]
        super().__init__(*layers, nn.Conv2d(channels, channels, 1))
        for layer in self:
            if isinstance(layer, nn.Conv2d):
                _identity_with_noise_(layer.weight)
                nn.init.zeros_(layer.bias)  # type: ignore[arg-type]


class DilatedExtractor(nn.Sequential):
    """VGG-16's first two stages and the basic context module, closed by a ReLU.

    h = floor(floor(H / 2) / 2). The paper names only the "dilation network" and C = 128; that its
    second stage has 128 channels, as VGG's has, is why this reading was chosen (docs/paper.md).
    """

    def __init__(self, channels: int) -> None:
        stem: list[nn.Module] = []
        for inputs, outputs, pool in (
            (3, 64, False),
            (64, 64, True),
            (64, 128, False),
            (128, channels, True),
        ):
            convolution = nn.Conv2d(inputs, outputs, 3, padding=1)
            nn.init.kaiming_normal_(convolution.weight, nonlinearity="relu")
            nn.init.zeros_(convolution.bias)  # type: ignore[arg-type]
            stem += [convolution, nn.ReLU(), *([nn.MaxPool2d(2)] if pool else [])]
        super().__init__(*stem, ContextModule(channels), nn.ReLU())
        self.channels = channels


def build_extractor(config: ModelConfig) -> CompactExtractor | DilatedExtractor:
    """Return the extractor that the configuration names.

    Raises:
        ConfigError: if there is none of that name.
    """
    if config.extractor == "compact":
        return CompactExtractor(config.channels, config.depth)
    if config.extractor == "dilated":
        return DilatedExtractor(config.channels)
    raise ConfigError(f"model.extractor: expected compact or dilated, found {config.extractor!r}")
