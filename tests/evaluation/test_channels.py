import numpy as np
import pytest
import torch

from linear_networks import examine, seen
from maskatlas.evaluation.channels import channel_correlation, channel_readings, feature_pairs
from networks import draw_images, make_dataset, make_network
from reference import channel_removal as slow

NAMES = ("Smiling", "Male", "Young")


def test_readings_are_those_of_the_slow_twin() -> None:
    network = make_network(NAMES, channels=3, image_size=8)
    data = make_dataset(5, NAMES)
    given = examine(network, data)
    found = channel_readings(network, given.images, torch.tensor([0, 2, 4]))
    expected = slow.readings(network, [seen(network, data)[i] for i in (0, 2, 4)])
    for name, values in expected.items():
        np.testing.assert_allclose(found[name], values, atol=1e-6)


def test_correlation_runs_over_all_positions_of_all_images() -> None:
    a, b = (torch.randn(9, channels, 4, 5, dtype=torch.float64) for channels in (3, 2))
    b[:, 0] = a[:, 1] * -2 + 5
    a[:, 2] = 0.7
    batches = list(zip(a.split(4), b.split(4), strict=True))
    found = channel_correlation(batches, 3, 2)
    rows = [f.transpose(0, 1).flatten(1).numpy() for f in (a[:, :2], b)]
    np.testing.assert_allclose(found[:2], np.corrcoef(*rows)[:2, 2:])
    assert found[1, 0] == pytest.approx(-1)
    assert np.isnan(found[2]).all()


def test_features_of_other_sides_are_resized() -> None:
    a = draw_images(2, 4)
    b = torch.nn.functional.interpolate(a, (8, 8), mode="nearest")
    assert np.diag(channel_correlation([(a, b)], 3, 3)) == pytest.approx(1)


def test_two_networks_see_the_same_images() -> None:
    first, second = (make_network(NAMES, channels=3, image_size=8, seed=seed) for seed in (0, 1))
    given = examine(first, make_dataset(70, NAMES))
    pairs = list(feature_pairs(first, second, given.images, torch.arange(70)))
    assert [len(a) for a, _ in pairs] == [64, 6]
    whole = given.images.batch(torch.arange(64, 70)).images / 255
    with torch.no_grad():
        torch.testing.assert_close(pairs[1][1], second(whole.double()).features)
