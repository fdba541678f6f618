import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch import nn

from maskatlas.comparison import backbone, open_network
from maskatlas.comparison.backbone import (
    BackboneExtractor,
    BackboneSystem,
    Stages,
    backbone_network,
)
from maskatlas.comparison.catalogue import find_systems
from maskatlas.config import Config, ModelConfig
from maskatlas.errors import CheckpointError, ConfigError
from maskatlas.subnetworks import Supervision
from maskatlas.tensorfile import save_tensors
from networks import draw_images, make_dataset

NAMES = ("Smiling", "Male")
CONFIG = ModelConfig(channels=4, image_size=32)


class Pyramid(nn.Module):
    """Maps of 16, 8 and 4 rows for an image of 32."""

    def __init__(self) -> None:
        super().__init__()
        self.stages = nn.ModuleList(
            nn.Sequential(nn.Conv2d(i, o, 3, 2, 1), nn.BatchNorm2d(o), nn.ReLU())
            for i, o in ((3, 4), (4, 6), (6, 8))
        )

    def forward(self, images: torch.Tensor) -> list[torch.Tensor]:
        found = []
        for stage in self.stages:
            images = stage(images)
            found.append(images)
        return found


class Residual(nn.Module):
    """What torchvision's residual networks look like from outside."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 4, 3, 2, 1)
        self.relu = nn.ReLU(inplace=True)
        self.layer1 = nn.Conv2d(4, 5, 3, 2, 1)
        self.layer2 = nn.Conv2d(5, 6, 3, 2, 1)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(6, 10)


def test_the_deepest_map_with_eight_rows_is_taken_of_images_as_the_backbone_expects_them() -> None:
    module = Pyramid().double().eval()
    network = backbone_network(CONFIG, NAMES, module).double().eval()
    assert (network.channels, network.config.channels) == (6, 6)
    images = draw_images(2, 32)
    mean, deviation = (
        torch.tensor(v).double()[:, None, None]
        for v in (backbone.IMAGENET_MEAN, backbone.IMAGENET_DEVIATION)
    )
    expected = module((images - mean) / deviation)[1]
    output = network(images)
    torch.testing.assert_close(output.features, expected, atol=1e-6, rtol=1e-6)
    assert output.reconstruction.shape == images.shape
    assert network.masks(output.features).shape == (2, 2, 6, 8, 8)
    small = BackboneExtractor(Pyramid(), 16)
    assert (small.place, small.channels) == (0, 4)


def test_frozen_it_stays_as_it_is_while_masks_are_trained() -> None:
    network = backbone_network(CONFIG, NAMES, Pyramid(), frozen=True)
    assert network.reconstructor is None
    before = {name: tensor.clone() for name, tensor in network.extractor.state_dict().items()}
    network.train()
    labels = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    network.supervised(
        draw_images(2, 32, dtype=torch.float32), Supervision(labels, 1.0, 0.0)
    ).loss.backward()
    assert all(parameter.grad is None for parameter in network.extractor.parameters())
    assert network.subnetworks.mask_weight.grad.abs().max() > 0
    torch.testing.assert_close(before, dict(network.extractor.state_dict()))
    trained = backbone_network(CONFIG, NAMES, Pyramid()).train()
    trained.supervised(
        draw_images(2, 32, dtype=torch.float32), Supervision(labels, 1.0, 0.0)
    ).loss.backward()
    assert all(p.grad is not None for p in trained.extractor.module.stages[:2].parameters())


def test_a_network_of_torchvision_is_taken_apart_and_keeps_the_names_of_its_weights() -> None:
    whole = Residual().eval()
    stages = Stages(whole)
    images = torch.rand(1, 3, 32, 32)
    assert [one.shape[2] for one in stages(images)] == [16, 16, 8, 4]
    stages.cut(2)
    assert set(stages.state_dict()) == {
        n for n in whole.state_dict() if n.startswith(("conv1", "layer1"))
    }
    torch.testing.assert_close(stages(images)[-1], whole.layer1(whole.conv1(images).relu()))
    vgg = nn.Module()
    vgg.features = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.MaxPool2d(2))
    cut = Stages(vgg)
    cut.cut(1)
    assert list(cut.state_dict()) == ["features.0.weight", "features.0.bias"]
    assert len(cut(images)) == 2
    with pytest.raises(ValueError, match="stages of a Linear"):
        Stages(nn.Linear(2, 2))


class ChannelsLast(Pyramid):
    """A pyramid whose maps have their channels last, and which says so as timm's networks do."""

    output_fmt = "NHWC"

    def forward(self, images: torch.Tensor) -> list[torch.Tensor]:
        return [one.permute(0, 2, 3, 1) for one in super().forward(images)]


def test_maps_with_channels_last_are_turned_round() -> None:
    module = ChannelsLast()
    extractor = BackboneExtractor(module, 32).eval()
    assert (extractor.place, extractor.channels) == (1, 6)
    images = torch.rand(1, 3, 32, 32)
    found = extractor(images)
    normalised = (images * 0.25 + 0.5 - extractor.mean) / extractor.deviation
    torch.testing.assert_close(found, Pyramid.forward(module, normalised)[1])
    swin = nn.Module()
    swin.features, swin.permute = nn.Sequential(nn.Conv2d(3, 4, 3)), nn.Identity()
    assert Stages(swin).output_fmt == "NHWC"


@pytest.mark.parametrize(
    ("source", "name", "size", "channels"),
    [
        ("timm", "swin_tiny_patch4_window7_224", 224, 384),
        ("timm", "vit_tiny_patch16_224", 224, 192),
        ("torchvision", "swin_t", 64, 192),
        ("torchvision", "alexnet", 64, 64),
        ("torchvision", "vgg11", 64, 512),
        ("torchvision", "resnet18", 64, 128),
    ],
)
def test_a_network_of_a_library_gives_its_channels(
    source: str, name: str, size: int, channels: int
) -> None:
    pytest.importorskip(source, exc_type=(ImportError, RuntimeError))
    module = backbone.open_backbone(source, name, size)
    network = backbone_network(ModelConfig(channels=4, image_size=size), NAMES, module).eval()
    output = network(draw_images(1, size, dtype=torch.float32))
    assert (network.channels, output.features.shape[1]) == (channels, channels)
    assert output.features.shape[2] == output.features.shape[3] >= 8


def test_what_is_no_backbone_is_refused() -> None:
    pooled = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1))
    with pytest.raises(ConfigError, match="a map of 1 rows"):
        backbone_network(CONFIG, NAMES, pooled)
    with pytest.raises(ConfigError, match=r"expected feature maps.*found \(1, 3072\)"):
        backbone_network(CONFIG, NAMES, nn.Flatten())
    with pytest.raises(ConfigError, match="does not take images of 32 x 32 pixels"):
        backbone_network(CONFIG, NAMES, nn.Conv2d(3, 4, 40))


def test_names_are_read_and_wrong_ones_explained(tmp_path: Path) -> None:
    found = BackboneSystem.named("backbone:timm/resnet18.a1_in1k:frozen", tmp_path / "w")
    assert (found.source, found.model, found.frozen) == ("timm", "resnet18.a1_in1k", True)
    assert found.title == "Sub-networks on resnet18.a1_in1k, frozen"
    asked = replace(Config(), train=replace(Config().train, pretraining=0.5))
    assert found._configured(asked).train.pretraining == 0
    moving = BackboneSystem.named("backbone:timm/resnet18")
    assert moving._configured(asked).train.pretraining == 0.5
    assert found.obstacle(make_dataset(4)) is None
    (lacking,) = find_systems(["backbone:timm/resnet18:frozen"])
    assert "frozen backbone needs weights" in str(lacking.obstacle(make_dataset(4)))
    with pytest.raises(ConfigError, match="expected backbone:timm/NAME"):
        find_systems(["backbone:keras/x"])


def test_a_library_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(
        ConfigError, match=r"timm cannot be imported.*pip install maskatlas\[timm\]"
    ):
        backbone.open_backbone("timm", "resnet18", 32)


def test_a_network_of_a_library_is_built_up_to_the_map_that_suits(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    library = ModuleType("torchvision.models")
    names = {"tiny": Residual}
    library.get_model = lambda name, weights: names[name]()
    monkeypatch.setitem(sys.modules, "torchvision", ModuleType("torchvision"))
    monkeypatch.setitem(sys.modules, "torchvision.models", library)
    built = backbone.open_backbone("torchvision", "tiny", 32)
    assert len(built(torch.rand(1, 3, 32, 32))) == 3
    with pytest.raises(ConfigError, match="backbone:torchvision/none: torchvision says"):
        backbone.open_backbone("torchvision", "none", 32)


@pytest.mark.parametrize("kind", ["", ":frozen"])
def test_what_was_trained_on_a_backbone_opens_without_its_weights_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setattr(backbone, "open_backbone", lambda *_: Pyramid())
    name = f"backbone:timm/x{kind}"
    config = replace(CONFIG, channels=6)
    network = BackboneSystem.named(name, tmp_path / "w")._trained().build
    monkeypatch.setattr(backbone, "load_weights", lambda *_: None)
    built = network(config, NAMES).eval()
    built.save_pretrained(tmp_path / "model")
    again = open_network(name, tmp_path / "model")
    images = draw_images(2, 32, dtype=torch.float32)
    torch.testing.assert_close(again(images).logits, built(images).logits)


def test_weights_come_from_a_file_that_fits(tmp_path: Path) -> None:
    one, other = Pyramid(), Pyramid()
    more = {**one.state_dict(), "fc.weight": torch.zeros(2)}
    save_tensors(tmp_path / "w.safetensors", more, {})
    backbone.load_weights(other, tmp_path / "w.safetensors")
    torch.testing.assert_close(dict(other.state_dict()), dict(one.state_dict()))
    with pytest.raises(CheckpointError, match=r"expected weight of shape \(2, 2\), found nothing"):
        backbone.load_weights(nn.Linear(2, 2), tmp_path / "w.safetensors")


def test_a_network_of_timm_becomes_a_backbone() -> None:
    pytest.importorskip("timm", exc_type=ImportError)
    module = backbone.open_backbone("timm", "resnet18", 64)
    network = backbone_network(ModelConfig(channels=4, image_size=64), NAMES, module)
    assert min(network(draw_images(2, 64)).features.shape[2:]) >= 8
