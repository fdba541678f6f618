import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from maskatlas.errors import MaskatlasError
from maskatlas.statistics import MaskStatistics, MaskSummary
from reference import statistics as reference


def random_images(seed: int, images: int = 17, attributes: int = 4, channels: int = 5):
    random = np.random.default_rng(seed)
    level = random.random((attributes, channels))
    masks = np.clip(level + 0.1 * random.normal(size=(images, attributes, channels)), 0, 1)
    contributions = random.normal(size=masks.shape)
    labels = random.choice([0.0, 1.0, np.nan], (images, attributes), p=[0.5, 0.3, 0.2])
    return masks, contributions, labels


def one_pass(parts, attributes: int = 4, channels: int = 5) -> MaskStatistics:
    statistics = MaskStatistics(attributes, channels)
    for part in parts:
        statistics.update(*part)
    return statistics


def assert_same(found: MaskSummary, expected: dict, tolerance: float = 1e-9) -> None:
    assert {*expected} == {*vars(found)}
    for name, value in expected.items():
        np.testing.assert_allclose(
            getattr(found, name), value, rtol=tolerance, atol=tolerance, err_msg=name
        )


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    cuts=st.lists(st.integers(0, 17), max_size=4),
    order=st.randoms(use_true_random=False),
)
def test_batches_in_any_order_equal_the_slow_twin(seed, cuts, order):
    images = random_images(seed)
    shuffled = list(range(17))
    order.shuffle(shuffled)
    bounds = [0, *sorted(cuts), 17]
    parts = [tuple(array[shuffled[a:b]] for array in images) for a, b in itertools.pairwise(bounds)]
    assert_same(one_pass(parts).compute(), reference.summary(*images))


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), cut=st.integers(0, 17))
def test_merging_shards_equals_one_pass(seed, cut):
    images = random_images(seed)
    left = one_pass([tuple(array[:cut] for array in images)])
    right = one_pass([tuple(array[cut:] for array in images)])
    right.merge(MaskStatistics.from_arrays(left.to_arrays()))
    assert right.images == 17
    assert_same(right.compute(), vars(one_pass([images]).compute()))


def test_arrays_have_one_shape_on_every_rank_and_come_back_bit_for_bit():
    empty = MaskStatistics(4, 5).to_arrays()
    full = one_pass([random_images(1)])
    arrays = full.to_arrays()
    assert {n: a.shape for n, a in arrays.items()} == {n: a.shape for n, a in empty.items()}
    assert {a.dtype for a in arrays.values()} == {np.dtype(np.float64)}
    again = MaskStatistics.from_arrays(arrays)
    arrays["mask_mean"][:] = 7  # a copy was taken
    assert_same(again.compute(), vars(full.compute()), tolerance=0)


def test_a_large_common_offset_cancels_nothing():
    masks, contributions, labels = random_images(2, images=400)
    tiny = 0.5 + (masks - 0.5) * 1e-7
    parts = [(tiny[i : i + 16], contributions[i : i + 16] + 1e6, labels[i : i + 16])
             for i in range(0, 400, 16)]  # fmt: skip
    found = one_pass(parts).compute()
    expected = one_pass([(masks, contributions, labels)]).compute()
    for name in ("attribute_correlation", "channel_correlation", "attribute_correlation_centred"):
        np.testing.assert_allclose(getattr(found, name), getattr(expected, name), atol=1e-6)
    np.testing.assert_allclose(
        found.contribution_deviation, expected.contribution_deviation, rtol=1e-6
    )


def test_float32_batches_are_summed_in_float64():
    masks, contributions, labels = random_images(3, images=3000)
    narrow = [array.astype(np.float32) for array in (masks, contributions, labels)]
    found = one_pass([[a[i : i + 30] for a in narrow] for i in range(0, 3000, 30)]).compute()
    wide = [array.astype(np.float64) for array in narrow]
    assert_same(found, reference.summary(*wide), tolerance=1e-9)


def test_constant_masks_and_missing_labels_are_undefined_without_a_warning():
    masks, contributions, labels = random_images(4)
    masks[:, :, 2] = 0.1  # a number that binary rounds
    labels[:, 0] = np.nan
    labels[:, 3] = 1.0
    parts = [tuple(array[i : i + 3] for array in (masks, contributions, labels))
             for i in range(0, 17, 3)]  # fmt: skip
    found = one_pass(parts).compute()
    assert np.isnan(found.channel_correlation[2]).all()
    assert np.isfinite(np.delete(np.delete(found.channel_correlation, 2, 0), 2, 1)).all()
    assert np.isnan(found.label_correlation[[0, 3]]).all()
    assert found.label_correlation[1, 1] == pytest.approx(1)
    masks[:, :, 2] = 0.9
    masks[:, 1] = 0.1
    found = one_pass([(masks, contributions, labels)] * 2).compute()
    assert np.isnan(found.attribute_correlation[1]).all()
    assert np.isfinite(np.delete(np.delete(found.attribute_correlation, 1, 0), 1, 1)).all()
    constant = np.full_like(masks, 0.1)
    nothing = one_pass([(constant, contributions, labels)] * 2).compute()
    for name in ("channel_correlation", "attribute_correlation", "attribute_correlation_centred"):
        assert np.isnan(getattr(nothing, name)).all(), name


def test_nothing_seen_is_undefined_and_one_image_has_no_deviation():
    nothing = MaskStatistics(4, 5).compute()
    assert nothing.images == 0
    assert all(np.isnan(value).all() for name, value in vars(nothing).items() if name != "images")
    one = one_pass([random_images(5, images=1)]).compute()
    assert (one.mask_deviation == 0).all()
    assert np.isfinite(one.attribute_correlation).all()


def test_a_shared_offset_of_the_channels_is_what_the_centred_reading_takes_away():
    random = np.random.default_rng(6)
    offset = random.random(60) * 100
    pair = random.normal(size=60)
    own = np.stack([pair, pair, *random.normal(size=(6, 60))])
    masks = (offset + own)[None] / 200 + random.normal(size=(20, 8, 60)) * 1e-4
    statistics = one_pass([(masks, np.zeros_like(masks), np.zeros((20, 8)))], 8, 60)
    found = statistics.compute()
    assert found.attribute_correlation.min() > 0.99
    assert found.attribute_correlation_centred[0, 1] > 0.9
    assert abs(found.attribute_correlation_centred[2:, :2]).max() < 0.6


def test_two_attributes_alone_are_opposite_once_centred():
    masks, contributions, labels = random_images(7, attributes=2)
    found = one_pass([(masks, contributions, labels)], attributes=2).compute()
    np.testing.assert_allclose(found.attribute_correlation_centred, [[1, -1], [-1, 1]])


def test_damaged_masks_are_refused_and_leave_the_sums_alone():
    images = random_images(8)
    statistics = one_pass([images])
    before = statistics.to_arrays()
    masks = images[0].copy()
    masks[3, 1, 1] = np.nan
    with pytest.raises(MaskatlasError, match="earlier checkpoint"):
        statistics.update(masks, *images[1:])
    after = statistics.to_arrays()
    assert all(np.array_equal(before[name], after[name]) for name in before)


@pytest.mark.parametrize("count", [1, 3])
def test_update_leaves_the_callers_arrays_alone(count):
    images = random_images(9, images=count)
    copies = [array.copy() for array in images]
    one_pass([images])
    for array, copy in zip(images, copies, strict=True):
        np.testing.assert_array_equal(array, copy)
