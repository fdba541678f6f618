import numpy as np
import pytest

from maskatlas.confidence import Confidence, confidence
from maskatlas.replicates import ReplicateSums
from maskatlas.resampling import resampling_units


def measured(people: bool = True, images: int = 60) -> tuple[ReplicateSums, Confidence]:
    random = np.random.default_rng(0)
    masks = np.clip(random.random((3, 4)) + 0.1 * random.normal(size=(images, 3, 4)), 0, 1)
    labels = random.integers(0, 2, (images, 3)).astype(float)
    units = resampling_units(images, np.arange(images) // 4 if people else None)
    sums = ReplicateSums(3, 4, units, replicates=50, splits=2)
    sums.update(masks, random.normal(size=masks.shape), labels, units)
    return sums, confidence(sums, labels, units)


@pytest.mark.parametrize("people", [True, False])
def test_what_was_drawn_is_told(people):
    draws = measured(people)[1].draws
    assert (draws.replicates, draws.units, draws.people) == (50, 15 if people else 60, people)


def test_intervals_are_percentiles_of_the_replicates_and_not_of_the_halves():
    sums, found = measured()
    for name, values in (
        ("mask_mean", sums.mask_mean()),
        ("contribution_magnitude", sums.contribution_magnitude()),
        ("attribute_correlation", sums.attribute_correlation()[0]),
        ("attribute_correlation_centred", sums.attribute_correlation()[1]),
        ("channel_correlation", sums.channel_correlation()[0]),
        ("channel_correlation_centred", sums.channel_correlation()[1]),
        ("label_correlation", sums.label_correlation()),
        ("following", sums.following()),
    ):
        expected = np.quantile(values[1:51], [0.025, 0.975], axis=0)
        np.testing.assert_allclose(getattr(found, f"{name}_interval"), expected, atol=1e-12)
    halves = found.attribute_correlation_halves
    np.testing.assert_allclose(halves, sums.attribute_correlation()[0][51:], atol=1e-6)
    assert halves.shape == (4, 3, 3)
    assert found.following.tolist() == sums.following()[0].tolist()


def test_places_are_whole_and_count_from_the_widest_open():
    sums, found = measured()
    masks = sums.mask_mean()[1:51]
    places = np.array([[[1 + sum(row > value) for value in row] for row in one] for one in masks])
    low, high = np.quantile(places, [0.025, 0.975], axis=0)
    np.testing.assert_array_equal(
        found.mask_rank_interval, np.stack([np.floor(low + 1e-9), np.ceil(high - 1e-9)])
    )


def test_every_matrix_of_pairs_is_symmetric_but_following():
    found = measured()[1]
    for name, value in vars(found).items():
        square = isinstance(value, np.ndarray) and value.shape[-1] == value.shape[-2]
        if square and not name.startswith("following"):
            np.testing.assert_allclose(value, value.swapaxes(-1, -2), atol=1e-12, err_msg=name)
    assert not np.allclose(found.following, found.following.T, atol=1e-3)
