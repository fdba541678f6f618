import json

import pytest
import torch

from maskatlas.bench.growth import FORMS, Growth, Place, axes, growth
from maskatlas.bench.measuring import Timing
from maskatlas.bench.settings import Heads


def grown(seconds: list[float], axis: str = "attributes") -> Growth:
    places = tuple(Place(2**n, 3, 2**n) for n in range(len(seconds)))
    return Growth(axis, "float32", places, {"f": tuple(Timing((second,)) for second in seconds)})


@pytest.mark.parametrize("power", [0, 1, 2])
def test_the_exponent_of_a_power_is_that_power(power):
    known = grown([0.1 * 2 ** (power * n) for n in range(4)])
    assert known.exponent("f") == pytest.approx(power, abs=1e-9)
    assert f"f {power:.2f}" in known.text().replace("-0.00", "0.00")


def test_positions_grow_with_the_square_of_the_side():
    known = grown([4.0**n for n in range(3)], "positions")
    assert known.values == [1, 4, 16]
    assert known.exponent("f") == pytest.approx(1)
    assert known.points() == {"f": [(1, 1.0), (4, 4.0), (16, 16.0)]}


def test_one_place_has_no_exponent():
    assert grown([1.0]).exponent("f") is None
    assert grown([1.0]).text().endswith("f -")


def test_each_axis_moves_alone_around_what_is_asked_for():
    found = axes(Heads(batch=16, attributes=(160, 10, 40), sizes=(8, 16)))
    assert found["attributes"] == (Place(10, 16, 16), Place(40, 16, 16), Place(160, 16, 16))
    assert [place.images for place in found["images"]] == [4, 8, 16, 32]
    assert [place.side for place in found["positions"]] == [4, 8, 16, 32]
    assert {(p.attributes, p.images) for p in found["positions"]} == {(40, 16)}


def test_growth_is_measured_along_every_axis():
    settings = Heads(batch=2, attributes=(1, 3), channels=4, sizes=(2,), repeats=2, device="cpu")
    found = list(growth(settings))
    assert [one.axis for one in found] == ["attributes", "images", "positions"]
    for one in found:
        plain = json.loads(json.dumps(one.to_json(), allow_nan=False))
        assert list(plain["median_seconds"]) == list(FORMS)
        assert len(plain["places"]) == len(plain["values"]) > 1
        assert all(len(row) == len(plain["values"]) for row in plain["median_seconds"].values())
    assert torch.is_grad_enabled()
