import warnings

import pytest
import torch
from torch import nn

from maskatlas.comparison import no_masks, shared_mask
from maskatlas.config import ModelConfig
from maskatlas.explanations import explain, traced
from maskatlas.explanations.activation import contribution_map
from maskatlas.extractors import CompactExtractor
from networks import draw_images, make_network
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


def test_blocks_of_a_chain_count_as_layers():
    network = make_network(2, channels=8)
    network.extractor = nn.Sequential(Branched(8), nn.Conv2d(8, 8, 1), nn.ReLU()).double().eval()
    layers = traced._layers(network, draw_images(1))
    block = network.extractor[0](network.normalised(draw_images(1)))
    torch.testing.assert_close(layers[1].images, block)
    assert len(layers) == 3


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
    assert len(layers) == 3
    assert layers[1].images.min() >= 0


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
