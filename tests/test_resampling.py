import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from maskatlas.resampling import (
    benjamini_hochberg,
    half_weights,
    mean_interval,
    percentile_interval,
    poisson_weights,
    random_groups,
    resampling_units,
)
from reference import resampling as slow

WORDS = st.integers(-(2**63), 2**63 - 1)


@settings(max_examples=50, deadline=None)
@given(units=st.lists(WORDS, max_size=6), replicates=st.integers(0, 8), seed=WORDS)
def test_weights_equal_the_slow_twin(units, replicates, seed):
    found = poisson_weights(np.array(units, np.int64), replicates, seed)
    assert found.dtype == np.uint8
    assert found.shape == (len(units), replicates)
    assert found.tolist() == [
        [slow.poisson_weight(unit, replicate, seed) for replicate in range(replicates)]
        for unit in units
    ]


@settings(max_examples=25, deadline=None)
@given(units=st.lists(WORDS, min_size=1, max_size=9), cut=st.integers(0, 9), seed=WORDS)
def test_weights_are_the_same_in_any_part_order_and_number_of_replicates(units, cut, seed):
    array = np.array(units, np.int64)
    whole = poisson_weights(array, 12, seed)
    parts = [poisson_weights(part, 12, seed) for part in (array[:cut], array[cut:])]
    np.testing.assert_array_equal(np.concatenate(parts), whole)
    np.testing.assert_array_equal(poisson_weights(array[::-1], 12, seed), whole[::-1])
    np.testing.assert_array_equal(poisson_weights(array, 5, seed), whole[:, :5])


def test_weights_are_poisson_and_independent_of_unit_replicate_and_seed():
    weights = poisson_weights(np.arange(-1000, 1000), 200, seed=3)
    counts = np.bincount(weights.ravel(), minlength=8)
    shares = [math.exp(-1) / math.factorial(k) for k in range(8)]
    expected = np.array(shares) * weights.size
    assert (abs(counts[:8] - expected) < 5 * np.sqrt(expected)).all()
    centred = weights.astype(float) - 1
    for other in (
        np.roll(centred, 1, axis=0),
        np.roll(centred, 1, axis=1),
        np.roll(centred, (1, -1), axis=(0, 1)),
        poisson_weights(np.arange(-1000, 1000), 200, seed=4) - 1.0,
    ):
        assert abs((centred * other).mean()) < 5 / math.sqrt(weights.size)


def test_halves_are_even_apart_and_keep_units_together():
    units = np.repeat(np.arange(500), 2)
    halves = half_weights(units, 10, seed=1).reshape(1000, 10, 2)
    assert (halves.sum(2) == 1).all()
    np.testing.assert_array_equal(halves[::2], halves[1::2])
    assert (abs(halves[..., 0].mean(0) - 0.5) < 0.1).all()
    assert len(np.unique(halves[..., 0], axis=1).T) == 10
    np.testing.assert_array_equal(half_weights(units[7:9], 10, seed=1), halves[7:9].reshape(2, 20))


@settings(max_examples=50, deadline=None)
@given(units=st.lists(WORDS, max_size=30), most=st.integers(1, 12), seed=WORDS)
def test_groups_are_even_and_depend_on_nothing_but_the_units(units, most, seed):
    distinct, groups = random_groups(np.array(units, np.int64), most, seed)
    assert distinct.tolist() == sorted({*units})
    sizes = np.bincount(groups, minlength=min(most, len(distinct)))
    assert len(sizes) == min(most, len(distinct))
    assert not units or sizes.max() - sizes.min() <= 1
    again = random_groups(np.array(units[::-1] * 2, np.int64), most, seed)
    np.testing.assert_array_equal(again, (distinct, groups))


def test_groups_are_at_random():
    units = np.arange(1000)
    groups = random_groups(units, 10, seed=1)[1]
    others = random_groups(units, 10, seed=2)[1]
    for one, other in ((units, groups), (units, others), (groups, others)):
        assert abs(np.corrcoef(one, other)[0, 1]) < 0.15


def test_an_unknown_identity_is_an_image_by_itself_and_nobody_else():
    units = resampling_units(5, np.array([7, -1, 7, -1, 1]))
    assert units.tolist() == [7, -2, 7, -4, 1]
    assert resampling_units(3, None).tolist() == [-1, -2, -3]


@settings(max_examples=50, deadline=None)
@given(
    shape=st.tuples(st.integers(2, 9), st.integers(1, 3)),
    level=st.sampled_from([0.5, 0.9, 0.95]),
    seed=st.integers(0, 9999),
)
def test_percentiles_are_those_of_the_defined_replicates(shape, level, seed):
    random = np.random.default_rng(seed)
    values = random.normal(size=shape)
    values[random.random(shape) < 0.2] = np.nan
    low, high = percentile_interval(values, level)
    for column in range(shape[1]):
        defined = values[~np.isnan(values[:, column]), column]
        expected = (
            np.quantile(defined, [(1 - level) / 2, (1 + level) / 2])
            if len(defined) > 1
            else (np.nan, np.nan)
        )
        np.testing.assert_allclose((low[column], high[column]), expected)


def test_no_replicates_is_no_interval():
    low, high = percentile_interval(np.full((4, 2), np.nan))
    assert np.isnan([low, high]).all()
    low, high = percentile_interval(np.ones((1, 3)))
    assert np.isnan([low, high]).all()


@settings(max_examples=25, deadline=None)
@given(
    values=st.lists(st.floats(-5, 5) | st.just(math.nan), min_size=2, max_size=9),
    seed=st.integers(0, 999),
    known=st.booleans(),
)
def test_mean_intervals_equal_the_slow_twin(values, seed, known):
    identities = np.random.default_rng(seed).integers(-1, 3, len(values)) if known else None
    units = resampling_units(len(values), identities)[~np.isnan(values)]
    found = mean_interval(np.array(values), identities, replicates=20, seed=seed, level=0.9)
    if len(np.unique(units)) < 2:
        assert math.isnan(found[1])
        assert math.isnan(found[2])
    else:
        np.testing.assert_allclose(
            found, slow.mean_interval(values, identities, 20, seed, 0.9), atol=1e-12
        )


def test_nothing_defined_has_no_mean():
    assert all(math.isnan(number) for number in mean_interval(np.full(3, np.nan)))


def test_blocks_of_units_do_not_change_the_interval(monkeypatch):
    values = np.random.default_rng(0).normal(size=100)
    whole = mean_interval(values, replicates=50)
    monkeypatch.setattr("maskatlas.resampling._BLOCK", 350)
    assert mean_interval(values, replicates=50) == pytest.approx(whole, rel=1e-12)


@pytest.mark.parametrize("people", [20, 60])
def test_intervals_hold_the_truth_as_often_as_they_say(people):
    random = np.random.default_rng(1)
    identities = np.repeat(np.arange(people), 5)
    draws = random.normal(size=(150, people, 1)) + random.normal(size=(150, people, 5)) / 2
    bounds = [mean_interval(draw.ravel(), identities, replicates=200) for draw in draws]
    held = np.mean([low <= 0 <= high for _, low, high in bounds])
    assert 0.87 <= held <= 0.99
    # as if each image were drawn alone, the interval is too narrow
    alone = [mean_interval(draw.ravel(), replicates=200) for draw in draws]
    assert np.mean([low <= 0 <= high for _, low, high in alone]) < 0.8


@settings(max_examples=100, deadline=None)
@given(st.lists(st.sampled_from([0.001, 0.01, 0.02, 0.3, 1.0, math.nan]) | st.floats(1e-6, 1)))
def test_benjamini_hochberg_equals_the_slow_twin(p_values):
    found = benjamini_hochberg(np.array(p_values, float))
    np.testing.assert_allclose(found, slow.benjamini_hochberg(p_values), rtol=1e-12)


def test_false_discoveries_are_as_rare_as_asked_for():
    random = np.random.default_rng(2)
    false, named_any = [], 0
    for _ in range(300):
        p = random.random(50)
        p[:10] = random.random(10) * 1e-3  # the true ones
        named = benjamini_hochberg(p.reshape(5, 10)).ravel() <= 0.1
        named_any += named.any()
        false.append(named[10:].sum() / max(1, named.sum()))
    assert named_any == 300
    assert np.mean(false) <= 0.1
