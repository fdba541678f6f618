import json
from unittest.mock import Mock

import numpy as np
import pytest
import torch

from linear_networks import LinearNetwork, examine, seen
from maskatlas.analysis import Atlas
from maskatlas.errors import ConfigError, DataError
from maskatlas.evaluation.intervals import Bounds
from maskatlas.evaluation.shortcuts import (
    Moved,
    ShortcutPoint,
    planted_pair,
    shortcut_curve,
    shortcut_point,
    source_share,
)
from maskatlas.pairs import AttributePair, Estimate
from networks import make_dataset

NAMES = ("Smiling", "Male", "Young")
NAN = float("nan")
LABELS = [[1, 1, 0], [1, 0, 1], [0, 1, 0], [0, 0, 1], [1, 1, 1], [NAN, 1, 0], [1, NAN, 0]]


def regions(size: int = 8) -> np.ndarray:
    """Smiling above, Male below, Young nowhere."""
    found = np.zeros((3, size, size), np.uint8)
    found[0, : size // 2] = found[1, size // 2 :] = 1
    return found


def looking(rows: slice) -> LinearNetwork:
    """A network whose first attribute depends on some rows alone, and rises with them."""
    network = LinearNetwork(NAMES, 8)
    with torch.no_grad():
        network.weight[0] = 0
        network.weight[0, :, rows] = 1
        network.bias[0] = -6
    return network


def test_the_share_is_of_energy_per_pixel() -> None:
    own, source = np.zeros((2, 4, 4), bool)
    own[0, :2] = True
    source[1:] = True
    values = np.zeros((4, 4))
    values[0, 0], values[3, 3], values[0, 3], values[0, 1] = 3, 6, 100, -5
    assert source_share(values, own, source) == pytest.approx(0.5 / (1.5 + 0.5))
    assert source_share(np.ones((4, 4)), own, source) == 0.5
    assert source_share(source.astype(float), own, source) == 1
    assert source_share(own.astype(float), own, source) == 0
    assert np.isnan(source_share(-np.ones((4, 4)), own, source))
    assert np.isnan(source_share(values, own, own))


def test_what_belongs_to_both_counts_in_neither() -> None:
    own, source = np.zeros((2, 1, 3), bool)
    own[0, :2] = source[0, 1:] = True
    assert source_share(np.array([[1.0, 50, 3]]), own, source) == 0.75


def pair(first: str, second: str, labels: float, following: float) -> AttributePair:
    by_masks, by_labels, by_scores = (
        Estimate(0.4, 0.3, 0.5, NAN, q) for q in (NAN, labels, following)
    )
    return AttributePair(first, second, by_masks, NAN, 0, by_labels, by_scores, first, "both")


def test_the_planted_pair_has_a_place_among_the_suspects() -> None:
    pairs = [
        pair("Smiling", "Male", 0.01, 0.02),
        pair("Smiling", "Young", 0.04, 0.03),
        pair("Male", "Young", NAN, 0.2),
    ]
    atlas = Mock(spec=Atlas)
    atlas.attribute_pairs.return_value = tuple(pairs)
    atlas.suspected_shortcuts.return_value = (pairs[1], pairs[0])
    found = planted_pair(atlas, "Young", "Smiling")
    assert (found.place, found.suspected, found.q_value, found.first) == (1, 2, 0.04, True)
    found = planted_pair(atlas, "Male", "Smiling")
    assert (found.place, found.q_value, found.first) == (2, 0.02, False)
    found = planted_pair(atlas, "Male", "Young")
    assert found.to_json() == {"q_value": None, "place": None, "suspected": 2}


def test_a_network_that_looks_at_the_source_is_seen_to() -> None:
    data = make_dataset(LABELS, NAMES, size=(8, 8), regions=[regions()] * 7)
    methods = ("exact", "ones")
    own, source = (
        shortcut_point(examine(looking(rows), data, methods), ("Smiling", "Male", 0.9))
        for rows in (slice(0, 4), slice(4, 8))
    )
    assert own.methods[0].share.mean == 0
    assert source.methods[0].share.mean == 1
    assert own.methods[0].pointing_own.mean == source.methods[0].pointing_source.mean == 1
    for point in (own, source):
        assert point.methods[1].share.mean == 0.5
        assert point.methods[1].pointing_own.mean == point.methods[1].pointing_source.mean == 0
        assert point.pair is None
        first = point.sights[0]
        assert [sight.image_name for sight in point.sights] == [data.names[0], data.names[4]]
        np.testing.assert_array_equal([first.own, first.other], regions()[:2])
        inside = [abs(first.map[region == 1]).sum() for region in (first.own, first.other)]
        assert (inside[0] > inside[1]) == (point is own)


def test_accuracy_is_measured_where_the_two_agree_and_where_they_differ() -> None:
    data = make_dataset(LABELS, NAMES, size=(8, 8), regions=[regions()] * 7, seed=4)
    network = looking(slice(0, 8))
    with torch.no_grad():
        images = torch.stack(seen(network, data))
        network.bias[0] -= network(images).scores[:, 0].median()
        answers = (network(images).scores[:, 0] > 0).tolist()
    point = shortcut_point(examine(network, data, ("exact",)), ("Smiling", "Male", 0.5))
    right = [answer == (row[0] == 1) for answer, row in zip(answers, LABELS, strict=True)]
    assert point.accuracy == np.mean([right[i] for i in (0, 3, 4)])
    assert point.counter_accuracy == np.mean([right[i] for i in (1, 2)])


def test_images_without_a_region_do_not_count() -> None:
    empty = np.zeros((3, 8, 8), np.uint8)
    known = [regions(), *[None] * 3, empty, None, None]
    data = make_dataset(LABELS, NAMES, size=(8, 8), regions=known)
    given = examine(looking(slice(4, 8)), data, ("exact",))
    assert shortcut_point(given, ("Smiling", "Male", 0.5)).methods[0].share.mean == 1
    given = examine(looking(slice(4, 8)), data.subset([4]), ("exact",))
    assert np.isnan(shortcut_point(given, ("Smiling", "Male", 0.5)).methods[0].share.mean)


def point(probability: float, counter: float, share: float) -> ShortcutPoint:
    bounds = Bounds(share, NAN, NAN)
    moved = Moved("exact", bounds, bounds, bounds)
    return ShortcutPoint("A", "B", probability, 1.0, counter, None, (moved,))


def test_the_area_is_that_between_the_curve_and_where_it_begins() -> None:
    points = [point(1.0, 0.5, 0.9), point(0.0, 0.9, 0.1), point(0.5, 0.9, 0.3)]
    curve = shortcut_curve([*points, point(0.0, 0.7, 0.3)])
    np.testing.assert_array_equal(curve.probabilities, [0, 0.5, 1])
    np.testing.assert_allclose(curve.shares["exact"], [0.2, 0.3, 0.9])
    assert curve.moved("exact") == pytest.approx(0.25 * 0.1 + 0.25 * 0.8)
    assert curve.lost == pytest.approx(0.25 * -0.1 + 0.25 * 0.2)
    flat = shortcut_curve([point(0.0, 0.8, 0.4), point(0.95, 0.8, 0.4)])
    assert flat.moved("exact") == flat.lost == 0
    found = json.loads(json.dumps(curve.to_json(), allow_nan=False))
    assert [p["probability"] for p in found["points"]] == [0, 0, 0.5, 1]
    assert found["points"][0]["methods"]["exact"]["share"]["low"] is None


def test_what_cannot_be_judged_is_told() -> None:
    given = examine(looking(slice(0, 4)), make_dataset(LABELS, NAMES), ("exact",))
    with pytest.raises(DataError, match="regions and labels of Smiling and Male"):
        shortcut_point(given, ("Smiling", "Male", 0.5))
    data = make_dataset(LABELS, NAMES, size=(8, 8), regions=[regions()] * 7)
    given = examine(looking(slice(0, 4)), data, ("exact",))
    with pytest.raises(ConfigError, match="Smilin"):
        shortcut_point(given, ("Smilin", "Male", 0.5))
