import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from maskatlas import replicates
from maskatlas.replicates import ReplicateSums
from maskatlas.resampling import half_weights, percentile_interval, random_groups
from reference import replicates as slow

STATISTICS = (
    "mask_mean",
    "contribution_magnitude",
    "attribute_correlation",
    "channel_correlation",
    "label_correlation",
    "following",
)


def random_images(seed: int, images: int = 40, attributes: int = 3, channels: int = 4):
    random = np.random.default_rng(seed)
    level = random.random((attributes, channels))
    masks = np.clip(level + 0.1 * random.normal(size=(images, attributes, channels)), 0, 1)
    contributions = random.normal(size=masks.shape)
    labels = random.choice([0.0, 1.0, np.nan], (images, attributes), p=[0.5, 0.35, 0.15])
    return masks, contributions, labels, random.integers(-6, 25, images)


def one_pass(
    parts, attributes: int = 3, channels: int = 4, units=range(-6, 25), **draws
) -> ReplicateSums:
    units = np.array(units, np.int64)
    sums = ReplicateSums(attributes, channels, units, **{"replicates": 4, "splits": 2, **draws})
    for part in parts:
        sums.update(*part)
    return sums


def assert_same(found, expected, tolerance: float = 1e-9) -> None:
    for name in STATISTICS:
        pairs = getattr(found, name)(), getattr(expected, name)()
        np.testing.assert_allclose(*pairs, rtol=tolerance, atol=tolerance, err_msg=name)


@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_every_draw_equals_the_slow_twin(seed):
    *images, units = random_images(seed)
    sums = one_pass([(*images, units)], replicates=3, splits=1, seed=seed)
    halves = half_weights(units, 1, seed)
    draws = [
        np.arange(40),
        *(slow.drawn(units, replicate, seed) for replicate in range(3)),
        *(np.flatnonzero(half) for half in halves.T),
    ]
    for draw, chosen in enumerate(draws):
        expected = slow.summary(*(array[chosen] for array in images))
        for name in STATISTICS:
            found, wanted = np.array(getattr(sums, name)()), np.array(expected[name])
            np.testing.assert_allclose(
                found[..., draw, :, :], wanted, atol=1e-7, err_msg=f"{name}, draw {draw}"
            )


@settings(max_examples=20, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    cuts=st.lists(st.integers(0, 40), max_size=4),
    order=st.randoms(use_true_random=False),
)
def test_parts_in_any_order_merged_from_any_process_equal_one_pass(seed, cuts, order):
    images = random_images(seed)
    shuffled = list(range(40))
    order.shuffle(shuffled)
    bounds = [0, *sorted(cuts), 40]
    parts = [[a[shuffled[i:j]] for a in images] for i, j in itertools.pairwise(bounds)]
    whole = one_pass([images])
    merged = one_pass([])
    for part in parts:
        merged.merge(one_pass([part]))
    assert_same(merged, whole)
    gathered = one_pass([parts[0]])
    gathered.replace([one_pass([part]).to_arrays() for part in parts])
    assert_same(gathered, whole)
    assert_same(one_pass(parts), whole)


@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_units_of_one_group_are_drawn_together(seed):
    *images, units = random_images(seed)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(replicates, "GROUPS", 5)
        found = one_pass([(*images, units)], units=units, seed=seed)
    distinct, groups = random_groups(units, 5, seed)
    firsts = distinct[np.unique(groups, return_index=True)[1]]
    stands_for = dict(zip(distinct.tolist(), firsts[groups].tolist(), strict=True))
    drawn_as = np.array([stands_for[unit] for unit in units.tolist()])
    assert_same(found, one_pass([(*images, drawn_as)], units=drawn_as, seed=seed))


def test_memory_of_the_caller_may_be_used_again():
    images = random_images(3)
    sums = one_pass([])
    memory = [np.empty_like(array[:5]) for array in images]
    for start in range(0, len(images[0]), 5):
        for kept, array in zip(memory, images, strict=True):
            kept[:] = array[start : start + 5]
        sums.update(*memory)
    assert_same(sums, one_pass([images]))


def test_a_unit_that_was_not_announced_is_refused():
    masks, contributions, labels, units = random_images(3)
    for stranger in (-7, 25):
        units[3] = stranger
        with pytest.raises(AssertionError, match="not announced"):
            one_pass([(masks, contributions, labels, units)])


def test_masks_apart_are_those_of_images_with_one_label_only():
    masks, contributions, labels, units = random_images(6)
    sums = one_pass([(masks[:7], contributions[:7], labels[:7], units[:7])])
    sums.merge(one_pass([(masks[7:], contributions[7:], labels[7:], units[7:])]))
    plain, centred, images = sums.apart()
    for k, other in ((0, 1), (2, 0)):
        chosen = labels[:, k] + labels[:, other] == 1
        assert images[k, other] == chosen.sum() > 3
        for found, values in (
            (plain, masks),
            (centred, masks - masks.mean(1, keepdims=True)),
        ):
            pair = values[chosen, k].ravel(), values[chosen, other].ravel()
            assert found[k, other] == pytest.approx(np.corrcoef(*pair)[0, 1])
    assert np.isnan(np.diagonal(plain)).all()


def test_arrays_are_copies_of_one_shape():
    empty, full = one_pass([]), one_pass([random_images(1)])
    arrays = full.to_arrays()
    assert {n: a.shape for n, a in arrays.items()} == {
        n: a.shape for n, a in empty.to_arrays().items()
    }
    arrays["groups"][:] = 7
    assert (full.to_arrays()["groups"] != 7).any()


def test_images_of_one_person_are_drawn_together():
    masks, contributions, labels, _ = random_images(2)
    alone = one_pass([(masks, contributions, labels, np.zeros(40, int))], units=[0], replicates=30)
    for name in ("mask_mean", "attribute_correlation"):
        values = np.array(getattr(alone, name)())[..., alone.bootstrap, :, :]
        seen = ~np.isnan(values)
        assert 0 < seen.mean() < 1  # in some replicates nobody is drawn
        assert np.nanstd(values, axis=-3).max() < 1e-9


def test_what_is_undefined_is_nan_without_a_warning():
    masks, contributions, labels, units = random_images(3)
    masks[:, :, 2] = 0.1
    masks[:, 1] = 0.1
    labels[:, 0], labels[:, 1] = np.nan, 1.0
    found = one_pass([(masks, contributions, labels, units)])
    plain, _ = found.attribute_correlation()
    assert np.isnan(plain[:, 1]).all()
    assert np.isfinite(plain[0, 0, 2])
    plain, _ = found.channel_correlation()
    assert np.isnan(plain[:, 2]).all()
    assert np.isnan(found.label_correlation()[:, :2]).all()
    assert np.isnan(found.following()[:, :2]).all()
    assert np.isfinite(found.following()[0, 2]).all()
    for name in STATISTICS:
        assert np.isnan(getattr(one_pass([]), name)()).all()


def test_a_score_that_follows_another_attribute_is_told_from_labels_that_go_together():
    random = np.random.default_rng(4)
    first = random.integers(0, 2, 4000)
    second = np.where(random.random(4000) < 0.8, first, 1 - first)
    labels = np.stack([first, second, random.integers(0, 2, 4000)], axis=1).astype(float)
    scores = 2 * labels + random.normal(size=labels.shape)
    scores[:, 2] += scores[:, 0]  # the third looks at the first
    contributions = np.repeat(scores[:, :, None] / 4, 4, axis=2)
    masks = random.random(contributions.shape)
    sums = one_pass([(masks, contributions, labels, np.arange(4000))], units=range(4000))
    following = sums.following()[0]
    assert sums.label_correlation()[0, 0, 1] > 0.5
    assert abs(following[0, 1]) < 0.05
    assert abs(following[1, 0]) < 0.05
    assert abs(following[1, 2]) < 0.05 + abs(sums.label_correlation()[0, 0, 1])
    assert following[2, 0] > 0.5
    assert abs(following[2, 1]) > abs(following[0, 1])


@pytest.mark.parametrize("people", [60, 400])  # 400 are drawn in groups
def test_intervals_of_correlations_hold_the_truth_as_often_as_they_say(people):
    random = np.random.default_rng(5)
    level = random.random((3, 4))
    units = np.repeat(np.arange(people), 3)
    held = []
    for _ in range(60):
        shared = random.normal(size=(people, 1, 4)) * np.array([1, 1, 0])[:, None]
        own = random.normal(size=(people, 3, 4))
        masks = (level + 0.2 * shared + 0.2 * own)[units]
        masks = masks + 0.05 * random.normal(size=masks.shape)
        labels = np.zeros((len(units), 3))
        sums = one_pass([(masks, masks, labels, units)], units=units, replicates=100, splits=0)
        low, high = percentile_interval(sums.attribute_correlation()[0][sums.bootstrap])
        held.append((low, high))
    spread = level.var(1) + np.array([0.08, 0.08, 0.04]) + 0.0025
    between = level - level.mean(1, keepdims=True)
    covariance = between @ between.T / 4
    covariance[0, 1] += 0.04
    truth = covariance / np.sqrt(np.outer(spread, spread))
    low, high = np.array(held).swapaxes(0, 1)
    for pair in ((0, 1), (0, 2), (1, 2)):
        inside = (low[:, *pair] <= truth[pair]) & (truth[pair] <= high[:, *pair])
        assert 0.84 <= inside.mean() <= 1, pair
        assert (high[:, *pair] - low[:, *pair]).max() < 0.5


def test_intervals_of_means_are_as_wide_in_groups_as_of_single_units():
    random = np.random.default_rng(6)
    masks, units = random.random((3000, 3, 4)), np.arange(3000)
    labels = np.zeros((3000, 3))
    sums = one_pass([(masks, masks, labels, units)], units=units, replicates=400, splits=0)
    low, high = percentile_interval(sums.mask_mean()[sums.bootstrap])
    expected = 2 * 1.96 * np.sqrt(1 / 12 / 3000)
    np.testing.assert_allclose(high - low, expected, rtol=0.25)
    assert (high - low).mean() == pytest.approx(expected, rel=0.1)
