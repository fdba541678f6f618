import pytest
import torch
from torch import nn

from maskatlas import distributed
from maskatlas.config import ModelConfig
from maskatlas.extractors import (
    STRIDE,
    BatchNorm,
    CompactExtractor,
    ContextModule,
    DilatedExtractor,
    build_extractor,
)


def seen(network: nn.Module, channels: int, size: int) -> tuple[range, range]:
    """The rows and columns of the input that the middle feature depends on, by its gradient.

    All weights are made positive, so that no path is switched off or cancelled by another.
    """
    network = network.double().eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.abs_()
    inputs = torch.ones(1, channels, size, size, dtype=torch.float64, requires_grad=True)
    features = network(inputs)
    middle = features.shape[-1] // 2
    features[:, :, middle, middle].sum().backward()
    assert inputs.grad is not None
    rows, columns = torch.nonzero(inputs.grad.abs().sum((0, 1)), as_tuple=True)
    assert len(rows) == len(rows.unique()) * len(columns.unique())
    return (
        range(int(rows.min()), int(rows.max()) + 1),
        range(int(columns.min()), int(columns.max()) + 1),
    )


@pytest.mark.parametrize(("depth", "side"), [(3, 35), (0, 11), (1, 19)])
def test_a_feature_of_the_compact_extractor_sees_so_many_pixels(depth: int, side: int) -> None:
    rows, columns = seen(CompactExtractor(4, depth), 3, 96)
    assert len(rows) == len(columns) == side
    # the middle of what it sees is the middle of its own cell of 4 x 4 pixels, to half a pixel
    middle = (rows.start + rows.stop) / 2
    assert abs(middle - (12 + 0.5) * STRIDE) <= 0.5


def test_a_feature_of_the_context_module_sees_67_features() -> None:
    rows, columns = seen(ContextModule(2), 2, 81)
    assert (rows, columns) == (range(40 - 33, 40 + 34), range(40 - 33, 40 + 34))


def test_the_context_module_passes_its_input_on_at_first() -> None:
    torch.manual_seed(0)
    module = ContextModule(8)
    features = torch.rand(2, 8, 12, 12)
    assert (module(features) - features).abs().mean() < 0.2
    for layer in module:
        if isinstance(layer, nn.Conv2d):
            noise = layer.weight.detach().clone()
            middle = noise.shape[-1] // 2
            noise[range(8), range(8), middle, middle] -= 1
            assert 0.008 < noise.std() < 0.012
            assert noise.abs().max() < 0.06
            assert not layer.bias.any()
            with torch.no_grad():
                layer.weight -= noise
    torch.testing.assert_close(module(features), features)


def test_the_context_module_keeps_the_sign_of_its_last_layer() -> None:
    module = ContextModule(3)
    assert isinstance(module[-1], nn.Conv2d)
    assert module[-1].kernel_size == (1, 1)
    assert sum(isinstance(layer, nn.ReLU) for layer in module) == 7


@pytest.mark.parametrize("size", [(89, 89), (64, 64), (33, 50), (4, 7)])
def test_shapes(size: tuple[int, int]) -> None:
    images = torch.randn(2, 3, *size)
    compact = build_extractor(ModelConfig(channels=12))
    dilated = build_extractor(ModelConfig(extractor="dilated", channels=5))
    assert isinstance(compact, CompactExtractor)
    assert isinstance(dilated, DilatedExtractor)
    assert (compact.channels, dilated.channels) == (12, 5)
    assert compact(images).shape == (2, 12, *(-(-side // 4) for side in size))
    assert dilated(images).shape == (2, 5, *(side // 2 // 2 for side in size))
    for extractor in (compact, dilated):
        features = extractor(images)
        assert features.min() >= 0
        assert features.max() > 0


def test_depth_adds_layers_at_the_features_resolution() -> None:
    images = torch.randn(1, 3, 32, 32)
    counts = []
    for depth in (0, 2):
        extractor = build_extractor(ModelConfig(channels=8, depth=depth))
        assert extractor(images).shape == (1, 8, 8, 8)
        counts.append(sum(isinstance(part, nn.Conv2d) for part in extractor.modules()))
    assert counts == [3, 5]


def test_alone_the_normalisation_is_pytorchs() -> None:
    torch.manual_seed(0)
    ours, theirs = BatchNorm(4).double(), nn.BatchNorm2d(4).double()
    features = 3 + 2 * torch.randn(5, 4, 3, 2, dtype=torch.float64)
    for _ in range(2):
        torch.testing.assert_close(ours(features), theirs(features))
    torch.testing.assert_close(ours.state_dict(), theirs.state_dict())
    torch.testing.assert_close(ours.eval()(features), theirs.eval()(features))


def test_shared_the_normalisation_is_that_of_the_global_batch(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Two processes with the same images: each sum over processes is twice one's own."""
    torch.manual_seed(0)
    ours, theirs = BatchNorm(4).double(), nn.BatchNorm2d(4).double()
    with torch.no_grad():
        for parameter, other in zip(ours.parameters(), theirs.parameters(), strict=True):
            other.copy_(parameter.normal_())
    features = 3 + 2 * torch.randn(5, 4, 3, 2, dtype=torch.float64)
    one, both = features.clone().requires_grad_(), features.clone().requires_grad_()
    expected = theirs(torch.cat([both, both]))[:5]
    monkeypatch.setattr(distributed, "world_size", lambda: 2)
    monkeypatch.setattr(distributed, "differentiable_sum", lambda tensor: 2 * tensor)
    found = ours(one)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(ours.state_dict(), theirs.state_dict())
    arriving = torch.randn_like(features)
    found.backward(arriving)
    # the gradient of one's own copy where both processes send the same gradient back
    theirs(torch.cat([both, both])).backward(torch.cat([arriving, arriving]) / 2)
    torch.testing.assert_close(one.grad, both.grad)


def test_shared_the_normalisation_keeps_the_type_of_the_features(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(distributed, "world_size", lambda: 2)
    monkeypatch.setattr(distributed, "differentiable_sum", lambda tensor: 2 * tensor)
    assert BatchNorm(4)(torch.randn(5, 4, 3, 2).bfloat16()).dtype == torch.bfloat16
