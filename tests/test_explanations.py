import json

import numpy as np
import pytest
import torch
from PIL import Image

from maskatlas.errors import ConfigError
from maskatlas.explanations import METHODS, explain, explain_image
from networks import NAMES, draw_images, make_network
from reference import explanations as slow

NETWORK = make_network(4, channels=5)


def noise(rows: int = 40, columns: int = 40, seed: int = 0) -> Image.Image:
    random = np.random.default_rng(seed)
    return Image.fromarray(random.integers(0, 256, (rows, columns, 3), dtype=np.uint8))


def test_there_is_a_twin_for_every_method() -> None:
    assert set(METHODS) == {"contribution", "mask"}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("size", [(32, 32), (21, 30)])
def test_maps_equal_their_slow_twins(method: str, size: tuple[int, int]) -> None:
    images = draw_images(2, size)
    maps = explain(NETWORK, images, method, ["Eyeglasses", "Smiling"])
    assert maps.shape == (2, 2, *size)
    for place, image in enumerate(images):
        for row, attribute in enumerate((3, 0)):
            small = getattr(slow, f"{method}_map")(NETWORK, image, attribute)
            expected = slow.resize(small, *size)
            found = maps[place, row].numpy()
            np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_maps_are_float32_detached_and_as_large_as_the_images(
    method: str, dtype: torch.dtype
) -> None:
    network = make_network(4, channels=5, dtype=dtype)
    images = draw_images(1, (24, 37), dtype=torch.float32).to(dtype).requires_grad_()
    maps = explain(network, images, method=method)
    assert maps.dtype == torch.float32
    assert not maps.requires_grad
    assert maps.shape == (1, 4, 24, 37)
    assert maps.isfinite().all()
    assert all(parameter.grad is None for parameter in network.parameters())
    one = explain(network, images, method=method, attributes=["Male"])
    torch.testing.assert_close(one, maps[:, [1]])


def test_contribution_is_the_default_and_is_signed_and_not_rescaled() -> None:
    images = draw_images(2)
    maps = explain(NETWORK, images)
    assert torch.equal(maps, explain(NETWORK, images, "contribution", list(NAMES[:4])))
    assert maps.min() < 0 < maps.max()
    output = NETWORK(images)
    small = NETWORK.contributions(output.features).sum(2)
    # resizing keeps the sum, but for what lies at the border
    means = maps.mean((2, 3)) * 64
    torch.testing.assert_close(means, small.sum((2, 3)).float(), rtol=0.2, atol=0.05)


def test_the_mask_map_stays_between_0_and_1() -> None:
    maps = explain(NETWORK, draw_images(2), "mask")
    assert 0 < maps.min() < maps.max() < 1


def test_what_is_not_known_is_told_with_what_is_near() -> None:
    images = draw_images(1)
    with pytest.raises(ConfigError, match=r"contribution, mask.*'contributions'.*mean contrib"):
        explain(NETWORK, images, "contributions")
    with pytest.raises(ConfigError, match=r"expected one of contribution, mask, found 'zzz'$"):
        explain(NETWORK, images, "zzz")
    with pytest.raises(ConfigError, match="it has Smiling"):
        explain(NETWORK, images, attributes=["Smilling"])
    with pytest.raises(ConfigError, match="at least one name"):
        explain(NETWORK, images, attributes=[])
    with pytest.raises(ConfigError, match="without sub-networks"):
        explain(make_network(subnetworks=False), images)


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
    assert list(numbers) == ["image", "attributes"]
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
        assert entry["peak"]["contribution"] == found.contributions[row].max()


def test_more_channels_than_there_are_means_all() -> None:
    found = explain_image(NETWORK, noise(), "a", attributes=["Male"], top=99)
    assert sorted(found.channels[0]) == list(range(5))
    shares = found.channel_contributions[0]
    assert shares.sum() + found.biases[0] == pytest.approx(found.logits[0], abs=1e-6)
    with pytest.raises(ConfigError, match=r"top.*at least 1"):
        explain_image(NETWORK, noise(), "a", top=0)


def test_an_image_cannot_be_explained_without_sub_networks() -> None:
    with pytest.raises(ConfigError, match="without sub-networks"):
        explain_image(make_network(subnetworks=False), noise(), "a")
