import json
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from linear_networks import LinearNetwork, examine
from maskatlas.evaluation.simplicity import channel_simplicity, entropy, gini, map_simplicity
from networks import make_dataset, make_network

NAMES = ("Smiling", "Male", "Young")


def test_one_point_and_no_shape_are_the_extremes() -> None:
    values = np.zeros((3, 8))
    values[0, 5] = -3
    values[1] = 0.2
    np.testing.assert_allclose(gini(values), [1 - 1 / 8, 0, np.nan], atol=1e-12)
    np.testing.assert_allclose(entropy(values), [0, 1, np.nan], atol=1e-12)


@settings(deadline=None)
@given(st.integers(0, 2**31), st.integers(2, 9))
def test_both_are_those_of_their_definitions(seed: int, count: int) -> None:
    random = np.random.default_rng(seed)
    values = random.integers(-3, 4, count).astype(float)
    values[0] = 2
    sizes = [abs(value) for value in values.tolist()]
    differences = sum(abs(a - b) for a in sizes for b in sizes)
    assert gini(values[None])[0] == pytest.approx(differences / (2 * count * sum(sizes)))
    shares = [size / sum(sizes) for size in sizes if size]
    expected = -sum(share * math.log(share) for share in shares) / math.log(count)
    assert entropy(values[None])[0] == pytest.approx(expected)


def test_maps_are_measured_by_their_absolute_values() -> None:
    data = make_dataset([[1, 0, 1], [0, 1, 0]], NAMES)
    given = examine(LinearNetwork(NAMES, 8), data, ("exact", "against", "ones", "zeros"))
    found = map_simplicity(given)
    means = {
        method: [measures[name].overall.mean for name in ("gini", "entropy")]
        for method, measures in found.methods.items()
    }
    assert means["exact"] == pytest.approx(means["against"])
    assert means["ones"] == pytest.approx([0, 1])
    assert 0.2 < means["exact"][0] < 1
    assert np.isnan(means["zeros"]).all()
    json.dumps(found.to_json(), allow_nan=False)


def test_dead_and_duplicate_channels_are_named() -> None:
    network = make_network(NAMES, channels=6, image_size=8)
    norm = network.extractor[2][-2]
    with torch.no_grad():
        network.subnetworks.weight[:, 4] = 0
        for tensor in (*network.extractor[-1].state_dict().values(),):
            if tensor.ndim:
                tensor[5] = tensor[1]
        norm.weight.abs_()
    result = channel_simplicity(examine(network, make_dataset(12, NAMES, seed=1)))
    assert 4 in result.dead
    assert (1, 5) in [pair[:2] for pair in result.duplicates]
    assert all(value >= 0.99 for _, _, value in result.duplicates)
    assert result.gini["contribution"].shape == (3,)
    found = json.loads(json.dumps(result.to_json(), allow_nan=False))
    assert set(found["gini"]) == {"mask", "contribution"}
    assert found["channels"] == 6


def test_a_channel_that_one_attribute_uses_is_not_dead() -> None:
    network = make_network(NAMES, channels=4, image_size=8)
    with torch.no_grad():
        network.subnetworks.weight.fill_(0.3)
        network.subnetworks.weight[:, 2] = 0
        network.extractor[-1][-2].bias.fill_(1)  # no feature is silent
    given = examine(network, make_dataset(6, NAMES))
    assert channel_simplicity(given).dead == (2,)
    with torch.no_grad():
        network.subnetworks.weight[1, 2] = 0.3
    assert channel_simplicity(given).dead == ()
