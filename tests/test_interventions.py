import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from maskatlas import inference
from maskatlas.cache import PackedImages
from maskatlas.inference import labels_for
from maskatlas.interventions import channel_drops, evenly_spread
from maskatlas.model import AttributeNetwork
from networks import make_dataset, make_network
from reference import interventions as slow


@pytest.fixture(autouse=True)
def _uneven_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inference, "BATCH_SIZE", 4)


def drops(
    network: AttributeNetwork, labels: np.ndarray | int, sample: list[int], precision: str
) -> tuple[np.ndarray, np.ndarray]:
    """What is found, and what the slow twin finds."""
    data = make_dataset(labels, len(network.attributes), seed=3)
    images = PackedImages(data, network.preprocessing)
    truth = labels_for(network, data)
    found = channel_drops(network, images, truth, torch.tensor(sample), precision=precision)
    pixels = [network.preprocess(data.read(index)) for index in sample]
    expected = [
        slow.channel_drop(network, pixels, truth[sample].numpy(), channel)
        for channel in range(network.channels)
    ]
    return found, np.array(expected).T


def test_drops_equal_those_of_a_network_whose_channel_is_really_replaced() -> None:
    network = make_network(3, channels=4, image_size=16)
    found, expected = drops(network, 18, list(range(1, 18)), "float32")
    assert found.shape == (3, 4)
    np.testing.assert_allclose(found, expected, atol=1e-12)
    assert np.abs(found).max() > 0.01
    assert len(np.unique(found)) > 3


def test_a_channel_that_has_no_effect_drops_nothing() -> None:
    network = make_network(3, channels=4, image_size=16, dtype=torch.float32)
    with torch.no_grad():
        network.subnetworks.weight[:, 2] = 0
        network.subnetworks.mask_weight[:, :, 2] = 0
    for precision in ("float32", "bfloat16", "auto"):
        found, _ = drops(network, 12, list(range(12)), precision)
        assert not found[:, 2].any()
        assert found[:, [0, 1, 3]].any()


def test_an_attribute_of_one_class_has_no_drop() -> None:
    network = make_network(3, channels=4, image_size=16)
    labels = np.array([[1, 1, 0], [0, 1, np.nan], [1, 1, 1], [0, np.nan, np.nan]])
    found, _ = drops(network, labels, [0, 1, 2, 3], "float32")
    assert np.isnan(found[1]).all()
    assert not np.isnan(found[[0, 2]]).any()
    found, _ = drops(network, labels, [0, 1, 3], "float32")
    assert np.isnan(found[1:]).all()


def test_the_network_is_left_as_it_was() -> None:
    network = make_network(2, channels=3, image_size=16)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    drops(network, 6, [0, 1, 2, 3, 4, 5], "float32")
    for name, tensor in network.state_dict().items():
        assert torch.equal(tensor, before[name]), name
    assert not network.extractor._forward_hooks


@given(st.integers(1, 3000), st.integers(1, 1200))
def test_a_sample_is_spread_evenly(count: int, most: int) -> None:
    chosen = evenly_spread(count, most).tolist()
    assert len(chosen) == min(count, most)
    assert chosen[0] == 0
    assert all(0 <= index < count for index in chosen)
    gaps = np.diff(chosen)
    if len(gaps):
        assert chosen[-1] == count - 1
        assert gaps.min() >= 1
        assert gaps.max() - gaps.min() <= 1


def test_a_sample_of_a_large_dataset_is_spread_evenly_too() -> None:
    gaps = evenly_spread(202_599, 1000).diff()
    assert gaps.max() - gaps.min() <= 1
