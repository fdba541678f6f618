import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from maskatlas.cache import PackedImages
from maskatlas.evaluation.localization import TOLERANCE, PointingGame, pointing_game, points_into
from maskatlas.inference import labels_for
from networks import make_dataset, make_network
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


def blobs(images: int, attributes: int, size: tuple[int, int], seed: int) -> list:
    """Regions of some of the attributes, unknown, empty or not there for others."""
    random = np.random.default_rng(seed)
    regions: list[np.ndarray | None] = []
    for index in range(images):
        known = np.zeros((attributes, *size), np.uint8)
        for k in range(attributes):
            top, left = random.integers(-6, size[0] - 4), random.integers(-6, size[1] - 4)
            known[k, max(top, 0) : top + 11, max(left, 0) : left + 11] = 1
            if random.random() < 0.3:
                known[k, :, : size[1] // 2] = 255
            if random.random() < 0.2:
                known[k] = random.choice([0, 255])
        regions.append(None if index % 4 == 3 else known)
    return regions


@pytest.mark.parametrize("method", ["contribution", "mask"])
@pytest.mark.parametrize("size", [(16, 16), (22, 17)])
def test_the_game_is_that_of_the_slow_twin(method: str, size: tuple[int, int]) -> None:
    network = make_network(["Smiling", "Male", "Absent", "Young"], channels=3, image_size=16)
    names = ("Young", "Other", "Male", "Smiling")
    regions = blobs(24, 4, size, seed=2)
    data = make_dataset(24, names, size=size, seed=2, regions=regions)
    images = PackedImages(data, network.preprocessing)
    game = pointing_game(network, images, labels_for(network, data), method=method)
    hits, played = slow.pointing_game(network, data, method, 16 * TOLERANCE)
    assert (list(game.hits), list(game.images)) == (hits, played)
    assert 0 < sum(hits) < sum(played)
    assert played[2] == 0
    assert game.method == method
    assert game.tolerance_pixels == pytest.approx(16 * 15 / 178)


def test_attributes_that_were_not_played_are_left_out_of_mean_and_json() -> None:
    game = PointingGame("contribution", 1.5, ("A", "B", "C"), (3, 0, 1), (4, 0, 4))
    np.testing.assert_array_equal(game.accuracy, [0.75, np.nan, 0.25])
    assert game.mean == 0.5
    assert json.loads(json.dumps(game.to_json(), allow_nan=False)) == {
        "method": "contribution",
        "tolerance_pixels": 1.5,
        "mean": 0.5,
        "attributes": {
            "A": {"hits": 3, "images": 4, "accuracy": 0.75},
            "C": {"hits": 1, "images": 4, "accuracy": 0.25},
        },
    }


def test_a_game_that_nobody_played_has_no_mean() -> None:
    game = PointingGame("mask", 1.5, ("A",), (0,), (0,))
    assert math.isnan(game.mean)
    assert game.to_json()["mean"] is None
    json.dumps(game.to_json(), allow_nan=False)
