import numpy as np
import pytest

from maskatlas.evaluation import intervals
from maskatlas.evaluation.intervals import Pairs, measure
from reference import intervals as slow


def some_pairs(count: int = 40, people: int = 9) -> tuple[np.ndarray, Pairs]:
    random = np.random.default_rng(5)
    values = random.random((count, 3)) + 0.2
    values[random.random((count, 3)) < 0.1] = np.nan
    units = random.integers(-people, people, count)
    attributes = random.integers(0, 4, count) % 3
    return values, Pairs(np.arange(count), attributes, units, ("A", "B", "C", "D"))


@pytest.mark.parametrize("geometric", [False, True])
@pytest.mark.parametrize("block", [4, 512])
def test_means_and_bounds_are_those_of_the_slow_twin(
    geometric: bool, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(intervals, "REPLICATES", 60)
    monkeypatch.setattr(intervals, "_BLOCK", block)
    values, pairs = some_pairs()
    found = measure(values, ["x", "y", "z"], pairs, geometric=geometric, seed=3)
    attributes, units = pairs.attributes.tolist(), pairs.units.tolist()
    drawn = {}
    for m, method in enumerate("xyz"):
        column = values[:, m].tolist()
        mean = slow.mean_over_attributes(column, attributes, [1] * len(column), geometric)
        drawn[method] = slow.replicate_means(column, attributes, units, 60, 3, geometric)
        overall = found[method].overall
        assert overall.mean == pytest.approx(mean)
        assert (overall.low, overall.high) == pytest.approx(slow.bounds(drawn[method]))
        assert list(found[method].attributes) == ["A", "B", "C"]
        for k, name in enumerate("ABC"):
            rows = [(v, u) for v, a, u in zip(column, attributes, units, strict=True) if a == k]
            alone, their = (list(part) for part in zip(*rows, strict=True))
            replicates = slow.replicate_means(alone, [0] * len(alone), their, 60, 3)
            bounds = found[method].attributes[name]
            assert bounds.mean == pytest.approx(np.nanmean(alone))
            assert (bounds.low, bounds.high) == pytest.approx(slow.bounds(replicates))
            assert found[method].images[name] == np.isfinite(alone).sum()
    assert found["x"].difference is None
    for method in "yz":
        lost = [a - b for a, b in zip(drawn[method], drawn["x"], strict=True)]
        difference = found[method].difference
        assert difference is not None
        assert (difference.low, difference.high) == pytest.approx(slow.bounds(lost))
        mean = found[method].overall.mean - found["x"].overall.mean
        assert difference.mean == pytest.approx(mean)


def test_an_attribute_without_anything_makes_a_geometric_mean_of_0() -> None:
    values, pairs = some_pairs()
    values[pairs.attributes == 1, 0] = 0
    found = measure(values, ["x", "y", "z"], pairs, geometric=True)
    assert found["x"].overall.mean == found["x"].overall.high == 0
    assert found["y"].overall.mean > 0


def test_one_person_says_nothing_about_how_people_differ() -> None:
    values = np.array([[1.0], [0.0], [0.5]])
    pairs = Pairs(np.arange(3), np.array([0, 0, 1]), np.array([4, 4, 4]), ("A", "B"))
    found = measure(values, ["x"], pairs)["x"]
    assert found.overall.mean == 0.5
    assert found.to_json() == {
        "mean": 0.5,
        "low": None,
        "high": None,
        "difference": None,
        "attributes": {
            "A": {"mean": 0.5, "low": None, "high": None, "images": 2},
            "B": {"mean": 0.5, "low": None, "high": None, "images": 1},
        },
    }


def test_nobody_is_in_both_halves() -> None:
    _, pairs = some_pairs(200, 30)
    for unit in np.unique(pairs.units):
        assert len(set(pairs.second_half[pairs.units == unit].tolist())) == 1
    assert 0.3 < pairs.second_half.mean() < 0.7
