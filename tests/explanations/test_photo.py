import json

import numpy as np
import pytest
import torch
from PIL import Image

from maskatlas.comparison.abn import AttentionBranchNetwork
from maskatlas.config import ModelConfig
from maskatlas.dissection import dissect
from maskatlas.errors import ConfigError
from maskatlas.explanations import explain, explain_image
from networks import NAMES, make_dataset, make_network
from reference import explanations as slow

NETWORK = make_network(4, channels=5)


def noise(rows: int = 40, columns: int = 40, seed: int = 0) -> Image.Image:
    random = np.random.default_rng(seed)
    return Image.fromarray(random.integers(0, 256, (rows, columns, 3), dtype=np.uint8))


def test_an_image_is_explained_as_by_the_slow_twin() -> None:
    picture = noise(45, 38)
    found = explain_image(NETWORK, picture, "photo.png", top=3)
    image = NETWORK.preprocess(picture)
    output = NETWORK(image[None])
    assert (torch.from_numpy(found.image) == (image * 255).round().permute(1, 2, 0)).all()
    assert sorted(found.attributes) == sorted(NAMES[:4])
    assert (np.diff(found.logits) <= 0).all()
    for row, name in enumerate(found.attributes):
        k = NETWORK.attributes.index(name)
        assert found.logits[row] == pytest.approx(output.logits[0, k].item())
        assert found.scores[row] == pytest.approx(1 / (1 + np.exp(-found.logits[row])))
        bias = NETWORK.subnetworks.bias[k].item()
        assert found.biases[row] == bias
        total = slow.contribution_map(NETWORK, image.double(), k)
        np.testing.assert_allclose(found.contributions[row], total, atol=1e-6)
        assert found.contributions[row].sum() + bias == pytest.approx(found.logits[row], abs=1e-6)
        best = slow.strongest(NETWORK, image.double(), k)[:3]
        assert found.channels[row].tolist() == [channel for channel, _ in best]
        np.testing.assert_allclose(found.channel_contributions[row], [v for _, v in best])
        masks = NETWORK.masks(output.features, [name], found.channels[row].tolist())[0, 0]
        np.testing.assert_allclose(found.masks[row], masks.detach())


def test_the_numbers_of_an_image_are_json_in_the_order_of_the_scores() -> None:
    found = explain_image(NETWORK, noise(), "dir/photo.png", attributes=["Male", "Smiling"], top=2)
    numbers = json.loads(json.dumps(found.to_json(), allow_nan=False))
    assert list(numbers) == ["image", "method", "attributes"]
    assert numbers["image"] == "dir/photo.png"
    assert set(numbers["attributes"]) == {"Male", "Smiling"}
    scores = [entry["score"] for entry in numbers["attributes"].values()]
    assert scores == sorted(scores, reverse=True)
    for row, entry in enumerate(numbers["attributes"].values()):
        assert list(entry) == ["score", "logit", "bias", "channels", "peak"]
        assert [set(channel) for channel in entry["channels"]] == [{"channel", "contribution"}] * 2
        height, width = found.contributions[row].shape
        y, x = int(entry["peak"]["y"] * height), int(entry["peak"]["x"] * width)
        assert found.contributions[row, y, x] == found.contributions[row].max()
        assert entry["peak"]["value"] == found.contributions[row].max()


@pytest.mark.parametrize("method", ["contribution", "contribution-traced", "mask"])
def test_the_evidence_is_the_map_of_a_method(method: str) -> None:
    found = explain_image(NETWORK, noise(), "a", method=method)
    assert found.method == found.to_json()["method"] == method
    if method == "contribution":
        np.testing.assert_array_equal(found.evidence, found.contributions)
        return
    maps = explain(NETWORK, NETWORK.preprocess(noise())[None], method, found.attributes)[0]
    np.testing.assert_allclose(found.evidence, maps)
    peak = found.to_json()["attributes"]["Smiling"]["peak"]
    assert peak["value"] == maps[found.attributes.index("Smiling")].max()


def test_more_channels_than_there_are_means_all() -> None:
    found = explain_image(NETWORK, noise(), "a", attributes=["Male"], top=99)
    assert sorted(found.channels[0]) == list(range(5))
    shares = found.channel_contributions[0]
    assert shares.sum() + found.biases[0] == pytest.approx(found.logits[0], abs=1e-6)
    with pytest.raises(ConfigError, match=r"top.*at least 1"):
        explain_image(NETWORK, noise(), "a", top=0)


def test_without_sub_networks_there_are_maps_but_no_channels() -> None:
    network = make_network(subnetworks=False)
    found = explain_image(network, noise(), "a")
    assert found.channels.shape == found.channel_contributions.shape == (3, 0)
    assert found.masks.shape[:2] == (3, 0)
    np.testing.assert_allclose(found.contributions.sum((1, 2)) + found.biases, found.logits)
    assert found.to_json()["attributes"]["Male"]["channels"] == []
    words = dissect(NETWORK, make_dataset(4, regions=[np.ones((3, 40, 36), np.uint8)] * 4))
    with pytest.raises(ConfigError, match="sub-networks alone"):
        explain_image(network, noise(), "a", words=words)


def test_a_network_that_answers_in_its_own_way_is_explained_by_its_own_maps() -> None:
    config = ModelConfig(channels=8, image_size=16)
    network = AttentionBranchNetwork(config, ("A", "B"), residual=True).eval()
    found = explain_image(network, noise(), "a", method="abn")
    assert found.contributions is None
    with torch.no_grad():
        logits = network(network.preprocess(noise())[None]).scores[0]
    np.testing.assert_allclose(found.logits, logits.sort(descending=True).values)
    maps = explain(network, network.preprocess(noise())[None], "abn", found.attributes)[0]
    np.testing.assert_allclose(found.evidence, maps)
    with pytest.raises(ConfigError, match=r"neither contributions nor masks; choose one of"):
        explain_image(network, noise(), "a")


def test_a_network_in_bfloat16_is_explained() -> None:
    network = make_network(2, channels=4, dtype=torch.bfloat16)
    found = explain_image(network, noise(), "a", method="contribution-traced")
    for array in (found.logits, found.biases, found.masks, found.contributions, found.evidence):
        assert array.dtype == np.float32
