import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from maskatlas.evaluation.overlap import (
    LEVELS,
    attention_iou,
    best_level,
    iou_at_others_level,
    iou_by_level,
)
from reference import localization as slow

REGION = np.zeros((4, 4), np.uint8)
REGION[1:3, 1:3] = 1


def test_equal_maps_have_1_and_maps_that_do_not_meet_0() -> None:
    maps = np.stack([5.0 * REGION, 1.0 - REGION, np.ones((4, 4)), np.zeros((4, 4)), -1.0 - REGION])
    regions = np.stack([REGION] * 5)
    # uniform: p = 1/16, q = 1/4 on 4 pixels: 4/64 over 4 (5/32)^2 + 12 (1/32)^2
    expected = [1, 0, (1 / 16) / (112 / 1024), 0, 0]
    np.testing.assert_allclose(attention_iou(maps, regions), expected)
    overlaps = iou_by_level(maps, regions)
    np.testing.assert_allclose(overlaps, np.array([[1, 0, 1 / 4, 0, 0]]).T.repeat(19, axis=1))


def test_a_level_is_a_share_of_the_highest_value() -> None:
    values = np.zeros((4, 4))
    values[1:3, 1:3] = [[2.0, 1.0], [1.0, 1.0]]
    found = iou_by_level(values[None], REGION[None])[0]
    np.testing.assert_allclose(found, np.where(LEVELS <= 0.5, 1, 1 / 4))


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**31), st.integers(1, 5), st.integers(2, 6))
def test_overlaps_equal_their_slow_twins(seed: int, count: int, side: int) -> None:
    random = np.random.default_rng(seed)
    maps = random.normal(random.normal(), 1, (count, side, side + 1)).astype(np.float32)
    regions = random.choice([0, 1, 255], maps.shape).astype(np.uint8)
    regions[:, 0, 0] = 1
    pairs = list(zip(maps, regions, strict=True))
    expected = [[slow.iou(*pair, level) for level in LEVELS] for pair in pairs]
    np.testing.assert_allclose(iou_by_level(maps, regions), expected)
    expected = [slow.attention_iou(*pair) for pair in pairs]
    np.testing.assert_allclose(attention_iou(maps, regions), expected)


def test_every_half_is_judged_at_the_level_that_is_best_on_the_other() -> None:
    overlaps = np.zeros((4, len(LEVELS)))
    overlaps[:2, 3] = 0.9  # best on the first half
    overlaps[2:, 3] = 0.2
    overlaps[2:, 7] = 0.6  # best on the second
    second = np.array([False, False, True, True])
    found, levels = iou_at_others_level(overlaps, np.array([0, 1, 0, 1]), second)
    np.testing.assert_array_equal(found, [0, 0, 0.2, 0.2])
    assert levels == (LEVELS[7], LEVELS[3])
    found, levels = iou_at_others_level(overlaps[:2], np.array([0, 1]), second[:2])
    assert np.isnan(found).all()
    assert np.isnan(levels).all()


def test_the_best_level_weighs_attributes_alike() -> None:
    random = np.random.default_rng(0)
    overlaps, attributes = random.random((30, len(LEVELS))), random.integers(0, 3, 30) ** 2
    tables = list(zip(attributes.tolist(), overlaps.tolist(), strict=True))
    assert best_level(overlaps, attributes) == slow.best_level(tables)
    many = np.zeros((10, len(LEVELS)))
    many[:9, 2] = 0.5
    many[9, 5] = 0.9
    assert best_level(many, np.array([0] * 9 + [1])) == 5
    assert best_level(many, np.zeros(10, int)) == 2
    assert best_level(np.zeros((1, len(LEVELS))), np.zeros(1, int)) == 0


def test_a_constant_map_marks_everything_and_is_no_good() -> None:
    assert iou_by_level(np.ones((1, 4, 4)), REGION[None]).max() == pytest.approx(4 / 16)
