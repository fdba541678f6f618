import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from maskatlas.evaluation.energy import energy_ratios
from reference import localization as slow

REGION = np.zeros((4, 4), np.uint8)
REGION[1:3, 1:3] = 1


def ratio(values: np.ndarray, region: np.ndarray = REGION) -> float:
    return float(energy_ratios(values[None], region[None])[0])


def test_known_cases() -> None:
    assert ratio(np.ones((4, 4))) == 1
    assert ratio(np.full((4, 4), 7.0)) == 1
    assert ratio(REGION.astype(float)) == 4
    assert ratio(1.0 - REGION) == 0
    assert ratio(REGION - 0.5) == 4  # what is negative does not count


def test_a_map_that_is_nowhere_positive_has_0_and_not_the_best() -> None:
    assert ratio(np.zeros((4, 4))) == 0
    assert ratio(REGION - 2.0) == 0


def test_what_is_unknown_is_left_out() -> None:
    region = REGION.copy()
    region[3] = 255
    assert ratio(np.ones((4, 4)), region) == 1
    outside = np.zeros((4, 4))
    outside[3] = 100
    assert ratio(REGION + outside, region) == pytest.approx(3)


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 2**31), st.integers(1, 6), st.integers(2, 7))
def test_ratios_equal_their_slow_twin_whatever_the_scale(seed: int, count: int, side: int) -> None:
    random = np.random.default_rng(seed)
    maps = random.normal(random.normal(), 1, (count, side, side + 1))
    regions = random.choice([0, 1, 255], maps.shape).astype(np.uint8)
    regions[:, 0, 0] = 1
    before = maps.copy()
    expected = [slow.energy_ratio(*pair) for pair in zip(maps, regions, strict=True)]
    np.testing.assert_allclose(energy_ratios(maps, regions), expected)
    np.testing.assert_allclose(energy_ratios(3 * maps, regions), expected)
    np.testing.assert_array_equal(maps, before)
