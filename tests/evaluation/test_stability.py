import copy
import json

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr

from linear_networks import LinearNetwork, examine
from maskatlas.errors import ConfigError
from maskatlas.evaluation import draws
from maskatlas.evaluation.perturbations import image_seed
from maskatlas.evaluation.stability import match_channels, max_sensitivity, seed_agreement
from maskatlas.model import AttributeNetwork
from maskatlas.resampling import poisson_weights, resampling_units
from networks import make_dataset, make_network

NAMES = ("Smiling", "Male", "Young")
LABELS = [[1, 0, 1], [0, 1, 0], [1, 1, float("nan")]]


def test_sensitivity_is_the_largest_change_over_the_copies() -> None:
    network = LinearNetwork(NAMES, 8)
    given = examine(network, make_dataset(LABELS, NAMES), ("exact",), seed=3)
    found = max_sensitivity(given, samples=4, radius=0.1)
    explain = network.explanation_methods["exact"]
    values = []
    for index in (0, 2):  # those who smile
        image = given.images.batch(torch.tensor([index])).images[0].double() / 255
        generator = torch.Generator().manual_seed(image_seed(3, index))
        noise = torch.rand((4, 3, 8, 8), generator=generator, dtype=torch.float64)
        own = explain(image[None], ["Smiling"])[0, 0].detach().float().numpy()
        largest = 0.0
        for part in noise:
            copy_ = (image + (part - 0.5) * 0.2).clamp(0, 1)
            other = explain(copy_[None], ["Smiling"])[0, 0].detach().float().numpy()
            largest = max(largest, float(np.linalg.norm(other - own) / np.linalg.norm(own)))
        values.append(largest)
    measured = found.methods["exact"]["max_sensitivity"].attributes["Smiling"]
    assert measured.mean == pytest.approx(np.mean(values), rel=1e-4)
    assert measured.mean > 0.01


def test_a_map_that_never_changes_has_none_and_a_map_of_zeros_is_not_judged() -> None:
    given = examine(LinearNetwork(NAMES, 8), make_dataset(LABELS, NAMES), ("ones", "zeros"))
    found = max_sensitivity(given, samples=2)
    assert found.methods["ones"]["max_sensitivity"].overall.mean == 0
    assert np.isnan(found.methods["zeros"]["max_sensitivity"].overall.mean)
    json.dumps(found.to_json(), allow_nan=False)


def test_a_permutation_is_recovered() -> None:
    random = np.random.default_rng(0)
    order = random.permutation(7)
    table = random.uniform(-0.5, 0.5, (7, 7))
    table[order, np.arange(7)] = 0.9
    table[3, 3] = np.nan
    pairs = match_channels(table)
    assert {(int(order[i]), i) for i in range(7)} == {(a, b) for a, b in pairs.tolist()}
    assert len(match_channels(table[:3])) == 3


def permuted(network: AttributeNetwork, order: torch.Tensor) -> AttributeNetwork:
    """The same network with its channels in another order."""
    other = copy.deepcopy(network)
    parts = other.subnetworks
    with torch.no_grad():
        for tensor in other.extractor[-1].state_dict().values():
            if tensor.ndim:
                tensor.copy_(tensor[order])
        parts.mask_weight.copy_(parts.mask_weight[:, order][:, :, order])
        parts.mask_bias.copy_(parts.mask_bias[:, order])
        parts.weight.copy_(parts.weight[:, order])
    return other


def test_a_network_whose_channels_are_permuted_agrees_in_everything() -> None:
    network = make_network(NAMES, channels=5, image_size=16)
    with torch.no_grad():
        network.extractor[-1][-2].bias.fill_(1)  # no feature is silent
    order = torch.tensor([3, 0, 4, 1, 2])
    other = permuted(network, order)
    given = examine(network, make_dataset(9, NAMES, seed=1), ("contribution", "mask"))
    found = seed_agreement(given, other)
    pairs = {tuple(pair) for pair in found.channels.tolist()}
    assert pairs == {(int(order[i]), i) for i in range(5)}
    np.testing.assert_allclose(found.correlation, 1)
    for agreement in found.readings.values():
        np.testing.assert_allclose(agreement.attributes, 1)
        assert agreement.overall.low == pytest.approx(1)
    assert found.overall.low == pytest.approx(1)
    for measures in found.maps.values():
        assert measures["agreement"].overall.mean == pytest.approx(1, abs=1e-3)
    json.dumps(found.to_json(), allow_nan=False)


def test_an_unrelated_network_agrees_less() -> None:
    network = make_network(NAMES, channels=5, image_size=16)
    given = examine(network, make_dataset(9, NAMES, seed=1), ("contribution",))
    found = seed_agreement(given, make_network(NAMES, channels=4, image_size=16, seed=1))
    assert found.channels.shape == (4, 2)
    assert found.maps["contribution"]["agreement"].overall.mean < 0.9
    assert np.nanmean(found.correlation) < 0.95


def test_bounds_are_those_of_repeated_images(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(draws, "DRAWS", 6)
    network = make_network(NAMES, channels=12, image_size=16)
    other = make_network(NAMES, channels=10, image_size=16, seed=1)
    with torch.no_grad():
        for part in (network, other):
            part.extractor[-1][-2].bias.fill_(1)  # no feature is silent
    given = examine(network, make_dataset(9, NAMES, seed=1), ("contribution",), seed=2)
    found = seed_agreement(given, other)
    images = given.images.batch(torch.arange(9)).images.double() / 255
    seen = [part(images) for part in (network, other)]
    features = [
        output.features.movedim(1, 0)[ids].flatten(2).detach().numpy()
        for output, ids in zip(seen, found.channels.T, strict=True)
    ]
    used = [
        {"mask": output.mask_mean, "contribution": (output.pooled * part.subnetworks.weight).abs()}
        for part, output in zip((network, other), seen, strict=True)
    ]
    means: dict[str, list[float]] = {"features": [], "mask": [], "contribution": []}
    for weights in poisson_weights(resampling_units(9, None), 6, 2).T:
        repeated = np.repeat(np.arange(9), weights)
        rows = [f[:, repeated].reshape(10, -1) for f in features]
        r = [np.corrcoef(*row)[0, 1] for row in zip(*rows, strict=True)]
        means["features"].append(np.mean(r))
        for name in ("mask", "contribution"):
            both = [
                part[name].detach().numpy()[repeated][:, :, ids].mean(0)
                for part, ids in zip(used, found.channels.T, strict=True)
            ]
            rho = [spearmanr(*row).statistic for row in zip(*both, strict=True)]
            means[name].append(np.mean(rho))
    for name, overall in (
        ("features", found.overall),
        *((name, agreement.overall) for name, agreement in found.readings.items()),
    ):
        away = 1.959963985 * np.std(means[name], ddof=1)
        assert overall.high - overall.mean == pytest.approx(away, rel=1e-5)
        assert overall.mean - overall.low == pytest.approx(away, rel=1e-5)
        assert away > 1e-5


def test_networks_that_cannot_be_compared_are_told_apart() -> None:
    network = make_network(NAMES, channels=4, image_size=16)
    given = examine(network, make_dataset(3, NAMES), ("contribution",))
    with pytest.raises(ConfigError, match="same attributes"):
        seed_agreement(given, make_network(2, channels=4, image_size=16))
    with pytest.raises(ConfigError, match="16 and 8 pixels"):
        seed_agreement(given, make_network(NAMES, channels=4, image_size=8))
