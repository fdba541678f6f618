import numpy as np
import pytest
import torch
from torch import nn

from maskatlas.comparison import dilation
from maskatlas.comparison.dilation import MARGIN, DilationExtractor, FrontEnd, reflected
from maskatlas.config import ModelConfig
from maskatlas.errors import ConfigError

PUBLISHED = [
    *((64, 3, 1), (64, 3, 1), "pool", (128, 3, 1), (128, 3, 1), "pool"),
    *((256, 3, 1), (256, 3, 1), (256, 3, 1), "pool"),
    *((512, 3, 1), (512, 3, 1), (512, 3, 1), (512, 3, 2), (512, 3, 2), (512, 3, 2)),
    *((4096, 7, 4), (4096, 1, 1), (21, 1, 1)),
]
"""Channels, side and dilation of VGG-16 as the front end has it, for 21 classes."""


def test_the_front_end_has_the_published_layers() -> None:
    with torch.device("meta"):
        front = FrontEnd(21)
    found = [
        "pool"
        if isinstance(layer, nn.MaxPool2d)
        else (layer.out_channels, layer.kernel_size[0], layer.dilation[0])
        for layer in front
        if not isinstance(layer, nn.ReLU)
    ]
    assert found == PUBLISHED
    assert all(layer.padding == (0, 0) for layer in front if isinstance(layer, nn.Conv2d))
    assert not isinstance(front[-1], nn.ReLU)


def test_a_feature_of_the_front_end_sees_380_pixels_and_is_8_from_the_next() -> None:
    front = FrontEnd(1, width=1).double()
    with torch.no_grad():
        for name, parameter in front.named_parameters():
            parameter.fill_(0.1 if name.endswith("weight") else 0.0)
    images = (1 + torch.rand(1, 3, 388, 388, dtype=torch.float64)).requires_grad_()
    features = front(images)
    assert features.shape == (1, 1, 2, 2)
    seen = []
    for y, x in ((0, 0), (1, 1)):
        (slope,) = torch.autograd.grad(features[0, 0, y, x], images, retain_graph=True)
        rows, columns = torch.nonzero(slope.sum((0, 1)), as_tuple=True)
        seen.append((int(rows.min()), int(rows.max()), int(columns.min()), int(columns.max())))
    # of four pixels a pooling passes one on, so the outermost may be missing
    for found, first in zip(seen, (0, 8), strict=True):
        assert abs(found[0] - first) <= 7
        assert abs(found[1] - (first + 379)) <= 7
        assert found[:2] == pytest.approx(found[2:], abs=7)
    shapes = FrontEnd(1, width=1)
    assert shapes(torch.zeros(1, 3, 380, 380)).shape[2:] == (1, 1)
    with pytest.raises(RuntimeError):
        shapes(torch.zeros(1, 3, 379, 379))
    assert 2 * MARGIN == 380 - 8


def test_the_margin_mirrors_the_image_as_often_as_it_takes() -> None:
    images = torch.rand(2, 3, 5, 7)
    expected = np.pad(images.numpy(), ((0, 0), (0, 0), (20, 20), (20, 20)), mode="reflect")
    torch.testing.assert_close(reflected(images, 20), torch.from_numpy(expected))


def test_eight_pixels_give_a_feature_and_the_context_passes_them_on_at_first() -> None:
    torch.manual_seed(0)
    extractor = DilationExtractor(4, width=1)
    images = torch.rand(1, 3, 16, 24)
    features = extractor(images)
    assert features.shape == (1, 4, 2, 3)
    front = extractor.front_end(reflected(images, MARGIN)).relu()
    assert (features - front).abs().mean() < 0.3 * front.mean() + 0.1
    assert features.min() >= 0


def test_a_width_below_1_is_refused() -> None:
    with pytest.raises(ConfigError, match="dilation: expected a width of 1 or more, found 0"):
        dilation.build(ModelConfig(channels=4), ("Smiling",), 0)
