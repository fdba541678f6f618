import pytest
import torch
from torch import nn

from maskatlas.explanations import activation, explain, traced
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
    images = draw_images(2, (16, 20))
    maps = traced.traced_contribution_map(network, images, ["Wearing_Hat", "Smiling"])
    for place, image in enumerate(images):
        for row, attribute in enumerate((2, 0)):
            expected = torch.from_numpy(slow.traced_contribution_map(network, image, attribute))
            torch.testing.assert_close(maps[place, row], expected)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("at_once", [1, 2])
def test_what_is_held_is_the_contribution_for_each_unit_of_a_feature(kind, at_once, monkeypatch):
    network = network_of(kind)
    features = network(draw_images(2, 16)).features.detach()
    monkeypatch.setattr(activation, "MOST_NUMBERS", at_once * features.numel())
    parts = list(activation.held_gradients(network, features, network.attributes))
    assert [part.shape[1] for part in parts] == [at_once] * (3 // at_once) + [1] * (3 % at_once)
    maps = (torch.cat(parts, 1) * features[:, None]).sum(2)
    expected = activation.contribution_map(network, features, network.attributes)
    torch.testing.assert_close(maps, expected)


@pytest.mark.parametrize("depth", [1, 3])
def test_every_layer_of_the_features_size_counts_once(depth):
    network = make_network(2, channels=4, depth=depth)
    layers = traced._layers(network, draw_images(1))
    assert len(layers) == depth + 1
    assert {layer.shape for layer in layers} == {layers[-1].shape}
    torch.testing.assert_close(layers[-1], network(draw_images(1)).features)


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


def test_an_extractor_that_is_no_chain_gives_the_contribution():
    network = make_network(2, channels=8)
    network.extractor = Branched(8).double().eval()
    images = draw_images(2)
    found = explain(network, images, "contribution-traced")
    torch.testing.assert_close(found, explain(network, images, "contribution"))


def test_blocks_of_a_chain_count_as_layers():
    network = make_network(2, channels=8)
    network.extractor = nn.Sequential(Branched(8), nn.Conv2d(8, 8, 1), nn.ReLU()).double().eval()
    layers = traced._layers(network, draw_images(1))
    torch.testing.assert_close(layers[0], network.extractor[0](network.normalised(draw_images(1))))
    assert len(layers) == 2


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
    torch.testing.assert_close(found.sum(), alone.sum())  # nothing is normalised: both add up


@pytest.mark.parametrize("inplace", [False, True])
def test_a_block_and_its_activation_are_one_layer(inplace):
    network = make_network(2, channels=8)
    network.extractor = nn.Sequential(
        Branched(8), nn.ReLU(inplace=inplace), nn.Conv2d(8, 8, 1), nn.ReLU()
    )
    network.extractor.double().eval()
    layers = traced._layers(network, draw_images(1))
    assert len(layers) == 2
    assert layers[0].min() >= 0


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


class Doubled(nn.Sequential):
    """A chain that does more than its parts."""

    def forward(self, images):
        return 2 * super().forward(images)


def test_a_chain_with_a_pass_of_its_own_is_not_taken_apart():
    network = make_network(2, channels=8)
    network.extractor = Doubled(*CompactExtractor(8, 1)).double().eval()
    images = draw_images(2)
    found = explain(network, images, "contribution-traced")
    torch.testing.assert_close(found, explain(network, images, "contribution"))
