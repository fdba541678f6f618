import json

import numpy as np
import pytest

from maskatlas.errors import ConfigError, DataError
from maskatlas.evaluation import evaluate_explanations
from maskatlas.evaluation.explanations import SUBJECTS, chosen_methods
from maskatlas.explanations import METHODS, SLOW
from maskatlas.model import AttributeNetwork
from networks import make_dataset, make_network

NETWORK = make_network(2, channels=3, image_size=12)


def data_with_regions() -> object:
    regions = np.zeros((2, 14, 12), np.uint8)
    regions[:, 3:8, 4:9] = 1
    return make_dataset([[1, 1], [1, 0], [0, 1]], 2, size=(14, 12), regions=[regions] * 3)


def test_all_methods_are_judged_on_every_subject_but_those_that_take_long() -> None:
    found = evaluate_explanations(NETWORK, data_with_regions())
    assert found.methods == tuple(method for method in METHODS if method not in SLOW)
    assert list(found.subjects) == [name for name in SUBJECTS if name != "seed_agreement"]
    told = json.loads(json.dumps(found.to_json(), allow_nan=False))
    assert list(told) == ["pointing", *found.subjects]
    assert list(told["localization"]["methods"]) == list(found.methods)
    assert found.cases == found.localization.cases != ()


def test_methods_are_those_asked_for_in_that_order() -> None:
    assert chosen_methods(NETWORK, ["all"]) == METHODS
    assert chosen_methods(NETWORK, ["mask", "centre", "mask"]) == ("mask", "centre")
    rest = tuple(name for name in METHODS if name != "mask")
    assert chosen_methods(NETWORK, ["mask", "all"]) == ("mask", *rest)
    plain = make_network(2, subnetworks=False)
    assert chosen_methods(plain, None)[:4] == (
        *("contribution", "contribution-centred", "contribution-traced", "grad-cam"),
    )
    with pytest.raises(
        ConfigError,
        match=r"expected some of contribution, contr.*-centred, contr.*-traced, grad.*found 'mask'",
    ):
        chosen_methods(plain, ["mask"])
    with pytest.raises(ConfigError, match="found none"):
        chosen_methods(plain, [])


def test_attributes_that_are_not_asked_for_are_left_out_of_every_mean() -> None:
    data = data_with_regions()
    both = evaluate_explanations(NETWORK, data, methods=["centre"])
    one = evaluate_explanations(NETWORK, data, methods=["centre"], attributes=["Male"])
    assert list(both.localization.methods["centre"]["pointing"].attributes) == ["Smiling", "Male"]
    measured = one.localization.methods["centre"]["energy_ratio"]
    assert list(measured.attributes) == ["Male"]
    assert measured.overall.mean == measured.attributes["Male"].mean
    with pytest.raises(ConfigError, match="does not know it"):
        evaluate_explanations(NETWORK, data, attributes=["Mal"])
    written = one.to_json()
    for section, part in (("channel_faithfulness", "agreement"), ("channel_simplicity", "gini")):
        for value in written[section][part].values():
            assert value["attributes"]["Smiling"] is None
            assert value["mean"] == value["attributes"]["Male"]


def test_the_network_is_left_in_peace() -> None:
    before = {name: value.clone() for name, value in NETWORK.state_dict().items()}
    evaluate_explanations(NETWORK, data_with_regions(), methods=["all"])
    assert all(parameter.grad is None for parameter in NETWORK.parameters())
    assert all((NETWORK.state_dict()[name] == value).all() for name, value in before.items())
    assert not NETWORK.training


def test_subjects_are_those_asked_for_each_once() -> None:
    data, chosen = data_with_regions(), ["map_simplicity", "localization", "map_simplicity"]
    found = evaluate_explanations(NETWORK, data, methods=["centre"], subjects=chosen)
    assert list(found.subjects) == ["localization", "map_simplicity"]
    found = evaluate_explanations(NETWORK, data, methods=["centre"], subjects=chosen[:1])
    assert found.localization is None
    assert found.cases == ()
    assert list(found.to_json()) == ["map_simplicity"]


@pytest.mark.parametrize("subnetworks", [True, False])
@pytest.mark.parametrize("regions", [True, False])
def test_by_default_all_that_network_and_data_allow(subnetworks: bool, regions: bool) -> None:
    network = make_network(2, channels=3, image_size=12, subnetworks=subnetworks)
    data = data_with_regions() if regions else make_dataset([[1, 1], [0, 1]], 2, size=(14, 12))
    found = evaluate_explanations(network, data, methods=["contribution"])
    assert list(found.subjects) == [
        name
        for name, subject in SUBJECTS.items()
        if (regions or not subject.needs_regions)
        and (subnetworks or not subject.needs_masks)
        and not subject.needs_others
    ]
    assert ("pointing" in found.to_json()) is regions


def test_a_network_of_another_system_is_judged_on_all_that_builds_none() -> None:
    class Other(AttributeNetwork):
        """As one of another system: nobody here knows how to begin it anew."""

    other = make_network(2, channels=3, image_size=12)
    other.__class__ = Other
    data = data_with_regions()
    found = evaluate_explanations(other, data, methods=["contribution"])
    left_out = ("randomization", "seed_agreement")
    assert list(found.subjects) == [name for name in SUBJECTS if name not in left_out]
    with pytest.raises(ConfigError, match="built anew"):
        evaluate_explanations(other, data, subjects=["randomization"])


def test_networks_of_other_seeds_are_compared_with_where_they_are_given() -> None:
    data, others = (
        data_with_regions(),
        {"itself": NETWORK, "b": make_network(2, channels=3, image_size=12, seed=4)},
    )
    asked = {"methods": ["mask", "contribution"], "subjects": ["seed_agreement"]}
    found = evaluate_explanations(NETWORK, data, others=others, **asked).to_json()["seed_agreement"]
    assert list(found) == ["itself", "b"]
    for value in found["itself"]["channel_correlation"].values():
        assert value == pytest.approx(1)
    assert found["itself"]["maps"]["mask"]["agreement"]["mean"] == pytest.approx(1)
    assert found["b"]["channel_correlation"]["mean"] < 1
    one = evaluate_explanations(NETWORK, data, others=others, attributes=["Male"], **asked)
    for value in one.to_json()["seed_agreement"]["b"]["readings"].values():
        assert value["attributes"]["Smiling"] is None
        assert value["mean"] == value["attributes"]["Male"]
    with pytest.raises(ConfigError, match="add it, or leave --other out"):
        evaluate_explanations(NETWORK, data, others=others, subjects=["map_simplicity"])
    with pytest.raises(ConfigError, match="none is given; name their runs with --other"):
        evaluate_explanations(NETWORK, data, **asked)
    for other, told in (
        (make_network(2, subnetworks=False, channels=3, image_size=12), "with sub-networks"),
        (make_network(2, channels=3, image_size=16), "12 and 16 pixels"),
        (make_network(3, channels=3, image_size=12), "same attributes"),
    ):
        with pytest.raises(ConfigError, match=told):
            evaluate_explanations(NETWORK, data, others={"other": other}, **asked)


def test_what_is_left_out_for_want_of_regions_is_told(caplog: pytest.LogCaptureFixture) -> None:
    asked = {"methods": ["mask"], "subjects": None}
    evaluate_explanations(NETWORK, make_dataset([[1, 1]], 2), **asked)
    assert "this data has none" in caplog.text


def test_what_cannot_be_judged_is_told() -> None:
    bare, data = make_dataset(3, 2), data_with_regions()
    with pytest.raises(DataError, match=r"regions.*judge other subjects"):
        evaluate_explanations(NETWORK, bare, subjects=["localization"])
    with pytest.raises(DataError, match="no image"):
        evaluate_explanations(NETWORK, data.subset([]))
    with pytest.raises(DataError, match="none of 1 images has one of the attributes"):
        evaluate_explanations(NETWORK, data.subset([1]), attributes=["Male"])
    with pytest.raises(ConfigError, match=r"expected some of localization, .*found 'beauty'"):
        evaluate_explanations(NETWORK, data, subjects=["localization", "beauty"])
    with pytest.raises(ConfigError, match="found none"):
        evaluate_explanations(NETWORK, data, subjects=[])
    for name in ("channel_faithfulness", "mask_exchange", "channel_simplicity"):
        with pytest.raises(ConfigError, match="no masks to judge"):
            evaluate_explanations(make_network(2, subnetworks=False), data, subjects=[name])
