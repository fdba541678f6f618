import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from maskatlas.evaluation.pointing import distances, pointing_hits, points_into
from reference import localization as slow


def spot(row: int, column: int, size: int = 9) -> np.ndarray:
    """A map whose highest point is known; higher to its left than to its right."""
    values = np.zeros((size, size))
    values[row, column] = 1
    return values


def region(*places: tuple[int, int], size: int = 9) -> np.ndarray:
    inside = np.zeros((size, size), np.uint8)
    for place in places:
        inside[place] = 1
    return inside


def test_the_highest_point_hits_within_the_tolerance() -> None:
    goal = region((4, 4))
    assert points_into(spot(4, 4), goal, 0.0) is True
    assert points_into(spot(4, 5), goal, 0.0) is False
    assert points_into(spot(4, 6), goal, 2.0) is True
    assert points_into(spot(4, 6), goal, 1.99) is False
    assert points_into(spot(7, 8), goal, 5.0) is True  # 3, 4, 5
    assert points_into(spot(7, 8), goal, 4.99) is False


def test_the_highest_point_counts_not_the_largest_magnitude() -> None:
    values = spot(0, 0)
    values[4, 4] = -100
    assert points_into(values, region((4, 4)), 1.0) is False
    assert points_into(-np.abs(values) - 1, region((0, 0)), 0.0) is False


def test_a_constant_map_misses_even_if_the_region_is_everywhere() -> None:
    everywhere = np.ones((9, 9), np.uint8)
    assert points_into(np.full((9, 9), 0.3), everywhere, 5.0) is False
    assert points_into(spot(3, 3), everywhere, 0.0) is True


def test_without_a_known_region_nothing_can_be_said() -> None:
    assert points_into(spot(3, 3), region(), 5.0) is None
    assert points_into(spot(3, 3), np.full((9, 9), 255, np.uint8), 5.0) is None
    assert points_into(np.zeros((9, 9)), region(), 5.0) is None


def test_a_miss_on_an_unknown_pixel_does_not_count_but_a_hit_does() -> None:
    goal = region((4, 4))
    goal[:, 6:] = 255
    assert points_into(spot(4, 7), goal, 1.0) is None
    assert points_into(spot(4, 6), goal, 2.0) is True
    assert points_into(spot(4, 1), goal, 1.0) is False


@settings(max_examples=200, deadline=None)
@given(
    st.tuples(st.integers(1, 9), st.integers(1, 9)),
    st.integers(0, 2**31),
    st.floats(0, 6),
    st.floats(0, 1),
)
def test_one_round_is_that_of_the_slow_twin(
    size: tuple[int, int], seed: int, tolerance: float, share: float
) -> None:
    random = np.random.default_rng(seed)
    values = random.integers(-3, 4, size) / 2  # so that there are ties
    places = random.choice([0, 1, 255], size, p=[share, (1 - share) / 2, (1 - share) / 2])
    places = places.astype(np.uint8)
    assert points_into(values, places, tolerance) == slow.points_into(values, places, tolerance)


def test_many_rounds_at_once_are_those_one_by_one() -> None:
    random = np.random.default_rng(3)
    maps = random.integers(-2, 3, (40, 5, 7)).astype(float)
    maps[0] = 0.5
    regions = random.choice([0, 1, 255], maps.shape, p=[0.7, 0.1, 0.2]).astype(np.uint8)
    regions[:, 2, 2] = 1
    expected = [slow.points_into(*pair, 1.0) for pair in zip(maps, regions, strict=True)]
    found = pointing_hits(maps, regions, distances(regions), 1.0)
    assert found.tolist()[0] == 0
    np.testing.assert_array_equal(found, [np.nan if hit is None else hit for hit in expected])
    assert {None, True, False} == set(expected)
