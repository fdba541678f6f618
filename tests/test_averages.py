import numpy as np
import pytest
import torch

from maskatlas.averages import average_contribution, average_image
from maskatlas.cache import PackedImages
from maskatlas.errors import CheckpointError, ConfigError
from maskatlas.explanations import activation, explain, explainers
from maskatlas.interventions import evenly_spread
from maskatlas.model import AVERAGES, AttributeNetwork
from networks import draw_images, make_dataset, make_network
from reference import explanations as slow

KINDS = {
    "plain": {"subnetworks": False},
    "paper": {},
    "context": {"mask_rank": 3, "mask_context": True, "mask_offset": 0.0},
}


def network_of(kind: str) -> AttributeNetwork:
    return make_network(3, channels=4, image_size=18, **KINDS[kind])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("limit", [3, 100])
def test_the_average_is_the_mean_of_every_images_contribution(kind: str, limit: int) -> None:
    network = network_of(kind)
    images = PackedImages(make_dataset(7), network.preprocessing)
    found = average_contribution(network, images, limit=limit)
    chosen = evenly_spread(7, limit).tolist()
    assert found.shape == network.average_shapes()[0]
    for k in range(3):
        maps = [
            slow.contribution_map(network, image.double() / 255, k)
            for image in images.batch(torch.tensor(chosen)).images
        ]
        np.testing.assert_allclose(found[k], np.mean(maps, axis=0), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("limit", [3, 100])
def test_the_average_image_is_the_mean_of_the_images_as_the_network_takes_them(limit: int) -> None:
    network = network_of("paper")
    data = make_dataset(7)
    found = average_image(PackedImages(data, network.preprocessing), limit=limit)
    images = [network.preprocess(data.read(i)) for i in evenly_spread(7, limit).tolist()]
    assert tuple(found.shape) == network.average_shapes()[1]
    torch.testing.assert_close(found, torch.stack(images).mean(0))


@pytest.mark.parametrize("kind", KINDS)
def test_the_centred_map_adds_up_to_the_logit_less_its_mean(kind: str) -> None:
    network = network_of(kind)
    images = PackedImages(make_dataset(7), network.preprocessing)
    network.average_contribution = average_contribution(network, images)
    output = network(images.batch(torch.arange(7)).images.double() / 255)
    maps = activation.centred_contribution_map(network, output.features, network.attributes)
    expected = output.scores - output.scores.mean(0)
    torch.testing.assert_close(maps.sum((2, 3)), expected)


def test_an_image_of_another_size_is_compared_with_the_average_resized() -> None:
    network = network_of("paper")
    large = network(draw_images(2, (40, 28)))
    assert large.features.shape[2:] != network.average_contribution.shape[1:]
    flat = torch.full_like(network.average_contribution, 0.5)
    network.average_contribution = flat
    maps = activation.centred_contribution_map(network, large.features, network.attributes)
    logits = large.scores - network.subnetworks.bias
    torch.testing.assert_close(maps.sum((2, 3)), logits - flat.sum((1, 2)))


def test_without_an_average_nothing_is_centred() -> None:
    network = network_of("paper")
    network.average_contribution = None
    assert "contribution-centred" not in explainers(network)
    with pytest.raises(ConfigError, match=r"on average is not known.*choose one of contribution,"):
        explain(network, draw_images(1, 18), "contribution-centred")


@pytest.mark.parametrize("name", AVERAGES)
def test_an_average_comes_back_with_the_model_and_may_be_missing(tmp_path, name: str) -> None:
    network = network_of("context").float()
    network.save_pretrained(tmp_path / "with")
    again = AttributeNetwork.from_pretrained(tmp_path / "with")
    assert torch.equal(getattr(again, name), getattr(network, name))
    setattr(network, name, None)
    network.save_pretrained(tmp_path / "without")
    assert getattr(AttributeNetwork.from_pretrained(tmp_path / "without"), name) is None


def test_an_average_of_another_shape_is_refused(tmp_path) -> None:
    network = network_of("context").float()
    network.average_image = torch.zeros(3, 4, 4)
    network.save_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match="average_image"):
        AttributeNetwork.from_pretrained(tmp_path)
