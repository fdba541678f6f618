import json

import numpy as np
import pytest
import torch

from maskatlas.cache import PackedImages
from maskatlas.data import AttributeDataset
from maskatlas.errors import DataError
from maskatlas.evaluation.examination import Examination
from maskatlas.evaluation.localization import MEASURES, TOLERANCE, Localization, localize
from maskatlas.evaluation.overlap import LEVELS
from maskatlas.inference import labels_for
from networks import make_dataset, make_network
from reference import localization as slow

NETWORK = make_network(["Smiling", "Male", "Absent", "Young"], channels=3, image_size=16)
METHODS = ("contribution", "centre", "mask")


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


def some_data(size: tuple[int, int] = (16, 16), identities: bool = False) -> AttributeDataset:
    names = ("Young", "Other", "Male", "Smiling")
    regions = blobs(24, 4, size, seed=2)
    data = make_dataset(24, names, size=size, seed=2, regions=regions)
    if identities:
        object.__setattr__(data, "identities", torch.arange(24) // 3 - 1)
    return data


def localized(data: AttributeDataset) -> Localization:
    images = PackedImages(data, NETWORK.preprocessing)
    return localize(Examination(NETWORK, images, labels_for(NETWORK, data), METHODS))


@pytest.mark.parametrize("size", [(16, 16), (22, 17)])
def test_every_measure_is_that_of_the_slow_twin(size: tuple[int, int]) -> None:
    data = some_data(size, identities=size == (16, 16))
    found = localized(data)
    tolerance = 16 * TOLERANCE
    assert found.tolerance_pixels == pytest.approx(16 * 15 / 178)
    for method in METHODS:
        pairs = slow.judged(NETWORK, data, method)
        assert found.images == len({index for index, *_ in pairs})
        values = {
            "pointing": [slow.points_into(v, r, tolerance) for *_, v, r in pairs],
            "energy_ratio": [slow.energy_ratio(v, r) for *_, v, r in pairs],
            "attention_iou": [slow.attention_iou(v, r) for *_, v, r in pairs],
            "iou": ious(data, pairs),
        }
        assert set(values) == set(MEASURES) == set(found.methods[method])
        for name, expected in values.items():
            measured = found.methods[method][name]
            means = []
            for k, attribute in enumerate(NETWORK.attributes):
                row = [
                    v
                    for (_, a, *_), v in zip(pairs, expected, strict=True)
                    if a == k and v is not None
                ]
                assert measured.images.get(attribute, 0) == len(row)
                if row:
                    means.append(sum(row) / len(row))
                    assert measured.attributes[attribute].mean == pytest.approx(means[-1], rel=1e-5)
            mean = np.prod(means) ** (1 / len(means)) if name == "energy_ratio" else np.mean(means)
            assert measured.overall.mean == pytest.approx(mean, rel=1e-5)
            assert (measured.difference is None) == (method == "contribution")


def ious(data: AttributeDataset, pairs: list) -> list[float]:
    """IoU of each pair at the level that is best on the other half of the people."""
    tables = [(k, [slow.iou(v, r, level) for level in LEVELS]) for _, k, v, r in pairs]
    known = data.identities
    units = [
        int(known[index]) if known is not None and known[index] >= 0 else -1 - index
        for index, *_ in pairs
    ]
    second = [sorted(set(units)).index(unit) % 2 == 1 for unit in units]
    found = []
    for (_, table), half in zip(tables, second, strict=True):
        others = [t for t, other in zip(tables, second, strict=True) if other != half]
        found.append(table[slow.best_level(others)])
    return found


def test_people_are_what_intervals_draw_from() -> None:
    alone, people = localized(some_data()), localized(some_data(identities=True))
    assert alone.units == alone.images == people.images
    assert people.units < people.images
    one, other = (found.methods["mask"]["energy_ratio"] for found in (alone, people))
    assert one.overall.mean == pytest.approx(other.overall.mean)
    assert one.overall.low < one.overall.mean < one.overall.high
    assert one.overall != other.overall


def test_cases_are_the_clearest_hit_and_the_clearest_miss_of_each_attribute() -> None:
    data = some_data()
    found = localized(data)
    pairs = slow.judged(NETWORK, data, "contribution")
    rows = [
        (k, slow.points_into(v, r, found.tolerance_pixels), slow.energy_ratio(v, r), index)
        for index, k, v, r in pairs
    ]
    assert {case.hit for case in found.cases} == {True, False}
    expected = [
        (k, hit, (max if hit else min)((e, i) for a, h, e, i in rows if (a, h) == (k, hit)))
        for k in range(4)
        for hit in (True, False)
        if any((a, h) == (k, hit) for a, h, *_ in rows)
    ]
    assert len(found.cases) == len(expected)
    for case, (k, hit, (energy, index)) in zip(found.cases, expected, strict=True):
        assert (case.attribute, case.hit) == (NETWORK.attributes[k], hit)
        assert case.energy_ratio == pytest.approx(energy, rel=1e-5)
        assert case.image_name == data.names[index]
        image = NETWORK.preprocess(data.read(index)).permute(1, 2, 0)
        np.testing.assert_allclose(case.image / 255, image, atol=1e-6)
        (pair,) = ((v, r) for i, a, v, r in pairs if (i, a) == (index, k))
        np.testing.assert_allclose(case.map, pair[0], rtol=1e-5, atol=1e-6)
        np.testing.assert_array_equal(case.region, pair[1])


def test_the_record_is_json_and_the_pointing_game_is_told_in_hits() -> None:
    found = localized(some_data())
    told = json.loads(json.dumps(found.to_json(), allow_nan=False))
    assert list(told["methods"]) == list(METHODS)
    assert list(told["methods"]["mask"]) == list(MEASURES)
    assert len(told["cases"]) == len(found.cases)
    game = json.loads(json.dumps(found.pointing(), allow_nan=False))
    assert list(game) == ["method", "tolerance_pixels", "mean", "attributes"]
    assert game["method"] == "contribution"
    for row in game["attributes"].values():
        assert row["hits"] / row["images"] == pytest.approx(row["accuracy"])
    assert game["mean"] == found.methods["contribution"]["pointing"].overall.mean


def test_one_image_has_no_interval_and_no_other_half() -> None:
    regions = np.zeros((1, 16, 16), np.uint8)
    regions[:, 4:9, 4:9] = 1
    data = make_dataset([[1.0]], ["Smiling"], size=(16, 16), regions=[regions])
    found = localized(data)
    measures = found.methods["contribution"]
    assert np.isnan(measures["iou"].overall.mean)
    assert np.isnan(found.levels["mask"]).all()
    assert np.isnan([measures["pointing"].overall.low, measures["pointing"].overall.high]).all()
    json.dumps(found.to_json(), allow_nan=False)


def test_where_no_right_place_is_known_nothing_is_judged() -> None:
    data = make_dataset(3, 2, regions=[None, np.zeros((2, 40, 36), np.uint8), None])
    with pytest.raises(DataError, match="no image has an attribute of the network and a known reg"):
        localized(data)
