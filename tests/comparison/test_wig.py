import pytest
import torch
from torch import nn

from maskatlas.comparison import wig
from maskatlas.comparison.wig import WeightedSigmoidGate, replace_rectifiers
from maskatlas.config import ModelConfig
from maskatlas.errors import ConfigError
from networks import draw_images

NAMES = ("Smiling", "Male")


@pytest.mark.parametrize("side", [1, 3])
def test_the_gate_against_its_equation(side: int) -> None:
    torch.manual_seed(0)
    gate = WeightedSigmoidGate(3, side=side).double()
    for parameter in gate.parameters():
        nn.init.normal_(parameter)
    x = torch.randn(2, 3, 4, 5, dtype=torch.float64, requires_grad=True)
    padded = nn.functional.pad(x, (side // 2,) * 4)
    expected = torch.zeros_like(x)
    for c in range(3):
        for i in range(4):
            for j in range(5):
                window = padded[:, :, i : i + side, j : j + side]
                inner = (window * gate.gate.weight[c]).sum((1, 2, 3)) + gate.gate.bias[c]
                expected[:, c, i, j] = x[:, c, i, j] / (1 + torch.exp(-inner))
    torch.testing.assert_close(gate(x), expected)
    assert torch.autograd.gradcheck(gate, x)


@pytest.mark.parametrize("side", [1, 3])
def test_it_begins_as_silu_or_as_relu(side: int) -> None:
    x = torch.randn(2, 4, 5, 5)
    silu = nn.functional.silu(x)
    torch.testing.assert_close(WeightedSigmoidGate(4, side=side)(x), silu)
    torch.testing.assert_close(
        WeightedSigmoidGate(4, side=side, scale=1e4)(x), x.relu(), atol=1e-3, rtol=0
    )


@pytest.mark.parametrize("extractor", ["compact", "dilated"])
def test_it_takes_the_place_of_every_relu(extractor: str) -> None:
    config = ModelConfig(extractor=extractor, channels=4, depth=1, image_size=16)
    counts = {
        activation: {
            kind: sum(
                isinstance(part, kind) for part in wig.build(config, NAMES, activation).modules()
            )
            for kind in (nn.ReLU, nn.SiLU, WeightedSigmoidGate)
        }
        for activation in wig.ACTIVATIONS
    }
    places = counts["relu"][nn.ReLU]
    assert places >= 4
    assert counts["relu"] == {nn.ReLU: places, nn.SiLU: 0, WeightedSigmoidGate: 0}
    assert counts["silu"] == {nn.ReLU: 0, nn.SiLU: places, WeightedSigmoidGate: 0}
    assert counts["wig"] == {nn.ReLU: 0, nn.SiLU: 0, WeightedSigmoidGate: places}
    assert wig.build(config, NAMES)(draw_images(2, 16)).scores.shape == (2, 2)


def test_at_first_it_answers_as_with_silu() -> None:
    config = ModelConfig(channels=4, depth=1, image_size=16)
    networks = []
    for activation in ("wig", "silu"):
        torch.manual_seed(3)
        networks.append(wig.build(config, NAMES, activation).eval())
    gated, smooth = networks
    gated.load_state_dict(smooth.state_dict(), strict=False)
    images = draw_images(2, 16, dtype=torch.float32)
    torch.testing.assert_close(gated(images).scores, smooth(images).scores)


def test_it_knows_the_channels_inside_other_modules() -> None:
    module = nn.Sequential(
        nn.ReLU(), nn.Sequential(nn.Conv2d(3, 7, 1), nn.BatchNorm2d(7)), nn.ReLU()
    )
    widths = []
    assert replace_rectifiers(module, lambda width: widths.append(width) or nn.Identity()) == 7
    assert widths == [3, 7]


def test_what_is_no_gate_is_refused() -> None:
    with pytest.raises(ConfigError, match="side: expected an odd number of 1 or more, found 2"):
        WeightedSigmoidGate(3, side=2)
    with pytest.raises(ConfigError, match="wig: expected wig, silu, relu, found 'tanh'"):
        wig.build(ModelConfig(channels=4), NAMES, "tanh")
