import warnings

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from maskatlas.comparison import no_masks, shared_mask
from maskatlas.config import ModelConfig
from maskatlas.errors import ConfigError
from maskatlas.evaluation import evaluate_explanations
from maskatlas.explanations import caveat, explain, explainers, traced
from maskatlas.explanations.activation import contribution_map
from maskatlas.extractors import CompactExtractor
from maskatlas.subnetworks import SubNetworks
from networks import draw_images, make_dataset, make_network
from reference import explanations as slow

KINDS = {
    "plain": {"subnetworks": False},
    "paper": {},
    "context": {"mask_rank": 3, "mask_context": True, "mask_offset": 0.0},
    "dilated": {"extractor": "dilated"},
    "deep": {"depth": 3},
}


def network_of(kind):
    return make_network(3, channels=4, image_size=16, **KINDS[kind])


@pytest.mark.parametrize("kind", KINDS)
def test_the_map_is_that_of_its_slow_twin(kind):
    network = network_of(kind)
    slowest = kind == "dilated"  # 64 channels at first
    images = draw_images(1, (8, 8)) if slowest else draw_images(2, (14, 20))
    maps = traced.traced_contribution_map(network, images, ["Wearing_Hat", "Smiling"])
    for place, image in enumerate(images):
        for row, attribute in enumerate((2,) if slowest else (2, 0)):
            expected = torch.from_numpy(slow.traced_contribution_map(network, image, attribute))
            torch.testing.assert_close(maps[place, row], expected)


class Scores(nn.Module):
    """A plain network from normalised pixels to logits, as captum wants one."""

    def __init__(self, network):
        super().__init__()
        self.extractor, self.classifier = network.extractor, network.classifier

    def forward(self, pixels):
        return self.classifier(self.extractor(pixels).mean((2, 3)))


def test_at_the_pixels_it_is_what_captums_deeplift_finds():
    captum = pytest.importorskip("captum.attr")
    network, images = network_of("plain"), draw_images(2, 16)
    layers = traced._layers(network, images)
    reference = network.normalised(network.average_image[None]).detach()
    theirs = captum.DeepLift(Scores(network))
    for row, total in enumerate(traced._sums(network, layers[-1], network.attributes)):
        (slope,) = torch.autograd.grad(total, layers[0].images, retain_graph=True)
        pixels = network.normalised(images).requires_grad_()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of hooks and gradients that it sets
            expected = theirs.attribute(pixels, reference, target=row)
        torch.testing.assert_close(slope * layers[0].difference, expected.detach())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("known", [True, False])
def test_every_layer_adds_up_to_the_logit_less_that_of_the_reference(kind, known):
    network, images = network_of(kind), draw_images(3, 16)
    if not known:
        network.average_image = None
    reference = network.average_image if known else torch.full_like(images[0], traced.GREY)
    expected = (network(images).scores - network(reference[None]).scores).detach()
    layers = traced._layers(network, images)
    assert len(layers) == len([part for part in network.extractor.modules() if is_relu(part)]) + 1
    for row, total in enumerate(traced._sums(network, layers[-1], network.attributes)):
        for part in traced._summands(total, layers):
            torch.testing.assert_close(part.sum((1, 2)), expected[:, row])
    maps = traced.traced_contribution_map(network, images, network.attributes)
    torch.testing.assert_close(maps.sum((2, 3)), expected)


def is_relu(module):
    return isinstance(module, nn.ReLU)


@pytest.mark.parametrize("build", [shared_mask.build, no_masks.build])
def test_other_sub_networks_add_up_too(build):
    config = ModelConfig(channels=4, image_size=16, mask_context=True, mask_rank=3)
    network, images = build(config, ("A", "B")).double().eval(), draw_images(2, 16)
    expected = network(images).logits - network(torch.full_like(images[:1], 0.5)).logits
    maps = traced.traced_contribution_map(network, images, network.attributes)
    torch.testing.assert_close(maps.sum((2, 3)), expected.detach())


def test_the_reference_itself_has_a_map_of_zeros():
    network = network_of("context")
    maps = explain(network, network.average_image[None], "contribution-traced")
    torch.testing.assert_close(maps, torch.zeros_like(maps))


@pytest.mark.parametrize(("count", "cells"), [(16, 4), (5, 5), (18, 5), (5, 7)])
def test_sums_stay_on_another_grid(count, cells):
    values = draw_images(2, (3, count))[:, 0]
    found = traced._regridded(values, 2, cells)
    torch.testing.assert_close(found.sum(2), values.sum(2))
    flat = traced._regridded(torch.ones(1, 1, count, dtype=torch.float64), 2, cells)
    torch.testing.assert_close(flat, torch.full_like(flat, count / cells))


class Branched(nn.Module):
    """An extractor that is no chain."""

    def __init__(self, channels):
        super().__init__()
        self.left, self.right = CompactExtractor(channels, 1), CompactExtractor(channels, 2)
        self.channels = channels

    def forward(self, images):
        return self.left(images) + self.right(images)


class Signed(Branched):
    """A block whose output has both signs."""

    def forward(self, images):
        return self.left(images) - self.right(images)


def test_an_extractor_that_is_no_chain_has_one_layer_which_adds_up():
    network = make_network(2, channels=8, subnetworks=False)
    network.extractor = Branched(8).double().eval()
    images = draw_images(2)
    reference = network(network.average_image[None])
    assert len(traced._layers(network, images)) == 1
    found = traced.traced_contribution_map(network, images, network.attributes)
    both = (
        contribution_map(network, output.features, network.attributes)
        for output in (network(images), reference)
    )
    torch.testing.assert_close(found, next(both) - next(both))
    expected = network(images).scores - reference.scores
    torch.testing.assert_close(found.sum((2, 3)), expected.detach())


def assert_adds_up(network, images):
    expected = network(images).scores - network(network.average_image[None]).scores
    maps = traced.traced_contribution_map(network, images, network.attributes)
    torch.testing.assert_close(maps.sum((2, 3)), expected.detach())


def test_a_chain_is_followed_back_to_its_last_block():
    network = make_network(2, channels=8)
    network.extractor = nn.Sequential(
        nn.Conv2d(3, 3, 1), nn.ReLU(), Branched(8), nn.Conv2d(8, 8, 1), nn.ReLU()
    )
    network.extractor.double().eval()
    layers = traced._layers(network, draw_images(1))
    block = network.extractor[:3](network.normalised(draw_images(1)))
    torch.testing.assert_close(layers[0].images, block)
    assert len(layers) == 2
    assert_adds_up(network, draw_images(2))


class Turned(nn.Module):
    """Channels to the end, or back."""

    def __init__(self, *order):
        super().__init__()
        self.order = order

    def forward(self, images):
        return images.permute(self.order)


def test_maps_of_another_layout_are_no_layers():
    network = make_network(2, channels=8)
    last = [nn.Conv2d(8, 8, 3, padding=1), nn.Tanh()]
    turned = [Turned(0, 2, 3, 1), nn.ReLU(), Turned(0, 3, 1, 2)]
    network.extractor = nn.Sequential(*CompactExtractor(8, 1), *turned, *last).double().eval()
    layers = traced._layers(network, draw_images(1))
    assert [tuple(layer.images.shape[1:]) for layer in layers] == 2 * [(8, 8, 8)]
    assert_adds_up(network, draw_images(2))


class Frozen(CompactExtractor):
    """An extractor that computes without a graph, as one that is not trained may."""

    @torch.no_grad()
    def forward(self, images):
        return super().forward(images)


def test_a_frozen_extractor_still_has_its_features():
    network = make_network(2, channels=8)
    network.extractor = Frozen(8, 1).double().eval()
    assert len(traced._layers(network, draw_images(1))) == 1
    assert_adds_up(network, draw_images(2))


@pytest.mark.parametrize("guard", [torch.no_grad, torch.inference_mode])
def test_nobody_has_to_allow_gradients(guard):
    network = network_of("context").requires_grad_(False)
    images = draw_images(2, 16)
    expected = traced.traced_contribution_map(network, images, ["Male"])
    with guard():
        found = explain(network, images + 0, "contribution-traced", ["Male"])
    torch.testing.assert_close(found, explain(network, images, "contribution-traced", ["Male"]))
    assert not expected.requires_grad


@pytest.mark.parametrize("size", [(16, 16), (400, 36), (21, 530)])
def test_images_of_any_size_in_bfloat16_have_a_map(size):
    network = make_network(2, channels=4, image_size=16, dtype=torch.bfloat16)
    maps = explain(network, draw_images(1, size, dtype=torch.bfloat16), "contribution-traced")
    assert maps.isfinite().all()


@given(st.lists(st.sampled_from(range(7)), min_size=1, max_size=5), st.integers(0, 99))
@settings(max_examples=25, deadline=None)
def test_whatever_the_chain_it_adds_up_in_float32(kinds, seed):
    torch.manual_seed(seed)
    parts = [nn.Conv2d(3, 4, 3, padding=1)]
    for kind in kinds:
        parts += (
            [nn.Conv2d(4, 4, 3, padding=1), nn.ReLU()],
            [nn.BatchNorm2d(4), nn.SiLU()],
            [nn.MaxPool2d(2, stride=1, padding=1)],
            [nn.AvgPool2d(2, stride=1), nn.Tanh()],
            [nn.PReLU(4)],
            [Branched4()],
            [nn.Conv2d(4, 4, 1), nn.GELU()],
        )[kind]
    network = make_network(2, channels=4, image_size=16, seed=seed)
    network.extractor = nn.Sequential(*parts).double()
    network = network.float().eval()
    images = draw_images(2, 11, seed=seed, dtype=torch.float32)
    average = nn.functional.interpolate(network.average_image[None], (11, 11), mode="bilinear")
    expected = network(images).scores - network(average).scores
    maps = traced.traced_contribution_map(network, images, network.attributes)
    size = float(maps.abs().sum((2, 3)).max())
    torch.testing.assert_close(maps.sum((2, 3)), expected.detach(), atol=1e-5 * (1 + size), rtol=0)


class Branched4(nn.Module):
    """A block of four channels."""

    def __init__(self):
        super().__init__()
        self.inside = nn.Sequential(nn.Conv2d(4, 4, 1), nn.ReLU())

    def forward(self, images):
        return images + self.inside(images)


def test_sub_networks_that_make_masks_in_their_own_way_are_refused():
    class Half(SubNetworks):
        def masks(self, features, attributes, channels):
            return super().masks(features, attributes, channels) / 2

    network = make_network(2, channels=4, image_size=16)
    network.subnetworks.__class__ = Half
    assert "contribution-traced" not in explainers(network)
    with pytest.raises(ConfigError, match="override `mask_logits`"):
        explain(network, draw_images(1, 16), "contribution-traced")


def test_a_reference_that_is_not_known_is_told(caplog):
    network = make_network(2, channels=4, image_size=16)
    assert caveat(network, "contribution-traced") is None
    network.average_image = None
    assert "mid grey" in caveat(network, "contribution-traced")
    assert caveat(network, "contribution") is None
    data = make_dataset([[1, 1]] * 2, 2)
    evaluate_explanations(
        network, data, methods=["contribution-traced"], subjects=["map_simplicity"]
    )
    assert "mid grey" in caplog.text


def test_finer_layers_find_what_the_last_one_sees_from_its_middle():
    """One bright pixel, layers that add up their 3 x 3 neighbours: only the last map is flat."""
    add = nn.Conv2d(1, 1, 3, padding=1, bias=False)
    nn.init.ones_(add.weight)
    network = make_network(["A"], channels=1, subnetworks=False, reconstructor=False)
    network.extractor = nn.Sequential(nn.ReLU(), add.double(), nn.ReLU()).eval()
    image = torch.full((1, 3, 9, 9), 0.5, dtype=torch.float64)
    image[0, :, 4, 4] = 1.0
    network.extractor.insert(0, nn.Conv2d(3, 1, 1, bias=False).double())
    nn.init.ones_(network.extractor[0].weight)
    nn.init.ones_(network.classifier.weight)
    found = explain(network, image, "contribution-traced")[0, 0]
    alone = explain(network, image, "contribution")[0, 0]
    assert alone[3:6, 3:6].unique().numel() == 1
    assert found.argmax() == 4 * 9 + 4


@pytest.mark.parametrize("inplace", [False, True])
def test_a_block_and_its_activation_are_one_layer(inplace):
    network = make_network(2, channels=8)
    network.extractor = nn.Sequential(
        Branched(8), nn.ReLU(inplace=inplace), nn.Conv2d(8, 8, 1), nn.ReLU()
    )
    network.extractor.double().eval()
    layers = traced._layers(network, draw_images(1))
    assert len(layers) == 2
    assert layers[0].images.min() >= 0


def test_an_activation_in_place_changes_no_map():
    network, images = make_network(2, channels=8), draw_images(2)
    block, last = Signed(8).double().eval(), nn.Conv2d(8, 8, 1)
    assert block(network.normalised(images)).min() < 0
    maps = []
    for inplace in (False, True):
        chain = nn.Sequential(block, nn.ReLU(inplace=inplace), last, nn.ReLU())
        network.extractor = chain.double().eval()
        maps.append(explain(network, images, "contribution-traced"))
    torch.testing.assert_close(*maps)
