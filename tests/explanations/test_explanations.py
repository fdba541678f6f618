import numpy as np
import pytest
import torch
from torch import Tensor

from maskatlas.errors import ConfigError
from maskatlas.explanations import FLOORS, METHODS, SLOW, explain, explainers
from networks import NAMES, draw_images, make_network
from reference import explanations as slow

NETWORK = make_network(3, channels=4, image_size=16, mask_context=True, mask_rank=3)
QUICK = [method for method in METHODS if method not in SLOW]


def test_there_is_a_twin_for_every_method() -> None:
    assert set(METHODS) == set(explainers(NETWORK)) == set(slow.METHODS)
    assert set(FLOORS) < set(METHODS)
    assert set(SLOW) < set(METHODS)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("size", [(16, 16), (13, 18)])
def test_maps_equal_their_slow_twins(method: str, size: tuple[int, int]) -> None:
    images = draw_images(2, size)
    maps = explain(NETWORK, images, method, ["Wearing_Hat", "Smiling"])
    assert maps.shape == (2, 2, *size)
    for place, image in enumerate(images):
        for row, attribute in enumerate((2, 0)):
            small = slow.METHODS[method](NETWORK, image, attribute)
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
    assert images.grad is None
    one = explain(network, images, method=method, attributes=["Male"])
    torch.testing.assert_close(one, maps[:, [1]])


@pytest.mark.parametrize("method", QUICK)
def test_the_map_of_an_image_does_not_depend_on_its_batch(method: str) -> None:
    images = draw_images(3, 16)
    together = explain(NETWORK, images, method)
    alone = explain(NETWORK, images[[1]], method)
    torch.testing.assert_close(together[[1]], alone)
    assert not torch.allclose(together[0], together[1]) or method == "centre"


def test_contribution_is_the_default_and_is_signed_and_not_rescaled() -> None:
    images = draw_images(2)
    maps = explain(NETWORK, images)
    assert torch.equal(maps, explain(NETWORK, images, "contribution", list(NAMES[:3])))
    assert maps.min() < 0 < maps.max()
    output = NETWORK(images)
    small = NETWORK.contributions(output.features).sum(2)
    # resizing keeps the sum, but for what lies at the border
    means = maps.mean((2, 3)) * 64
    torch.testing.assert_close(means, small.sum((2, 3)).float(), rtol=0.2, atol=0.05)


def test_the_mask_map_stays_between_0_and_1() -> None:
    maps = explain(NETWORK, draw_images(2), "mask")
    assert 0 < maps.min() < maps.max() < 1


@pytest.mark.parametrize("method", QUICK)
def test_without_sub_networks_the_multi_label_classifier_is_explained(method: str) -> None:
    network = make_network(2, channels=4, image_size=16, subnetworks=False)
    images = draw_images(1, 16)
    if method in ("mask", "contribution-flat-masks"):
        assert method not in explainers(network)
        with pytest.raises(ConfigError, match="no masks to show it by"):
            explain(network, images, method)
        return
    maps = explain(network, images, method)
    for k in range(2):
        expected = slow.resize(slow.METHODS[method](network, images[0], k), 16, 16)
        np.testing.assert_allclose(maps[0, k], expected, rtol=1e-5, atol=1e-6)


class Elsewhere:
    """A network of another system, with a method that needs gradients."""

    attributes = ("A", "B")

    @property
    def explanation_methods(self) -> dict:
        return {"steep": self.steep}

    def steep(self, images: Tensor, names: list[str]) -> Tensor:
        pixels = images.clone().requires_grad_()
        (slope,) = torch.autograd.grad(pixels.square().sum(), pixels)
        return torch.stack([self.attributes.index(name) * slope.sum(1) for name in names], dim=1)


def test_another_systems_network_is_explained_by_its_own_methods() -> None:
    images = draw_images(2, 8)
    assert list(explainers(Elsewhere())) == ["steep", "random", "centre"]
    maps = explain(Elsewhere(), images, "steep", ["B", "A"])
    torch.testing.assert_close(maps[:, 0], 2 * images.sum(1).float())
    assert not maps[:, 1].any()
    with pytest.raises(ConfigError, match="expected one of steep, random, centre, found 'contrib"):
        explain(Elsewhere(), images)
    with pytest.raises(ConfigError, match="'C': the network does not know it; it has A, B"):
        explain(Elsewhere(), images, "steep", ["A", "C"])


def test_what_is_not_known_is_told_with_what_is_near() -> None:
    images = draw_images(1)
    with pytest.raises(ConfigError, match=r"contribution, mask.*'contributions'.*mean contrib"):
        explain(NETWORK, images, "contributions")
    with pytest.raises(ConfigError, match=r"expected one of contribution, mask.*, found 'zzz'$"):
        explain(NETWORK, images, "zzz")
    with pytest.raises(ConfigError, match="did you mean Smiling"):
        explain(NETWORK, images, attributes=["Smilling"])
    with pytest.raises(ConfigError, match="at least one name"):
        explain(NETWORK, images, attributes=[])


@pytest.mark.parametrize(("side", "size"), [(7, 64), (8, 64), (16, 109), (4, 12)])
def test_a_map_that_is_the_same_everywhere_stays_so_when_it_is_resized(side, size) -> None:
    class Constant:
        attributes = ("Smiling", "Male", "Young")

        @property
        def explanation_methods(self):
            return {"even": self.even}

        def even(self, images, names):
            maps = torch.full((len(images), 3, side, side), 0.1234567)
            maps[:, 1, 0, 0] *= 1 + 2e-7  # rounding
            maps[:, 2, 0, 0] *= 1 + 1e-4  # a place
            return maps * torch.linspace(0.01, 40, len(images))[:, None, None, None]

    maps = explain(Constant(), torch.rand(60, 3, size, size), "even").flatten(2)
    spread = maps.amax(2) - maps.amin(2)
    assert (spread[:, :2] == 0).all()
    assert (spread[:, 2] > 0).all()
