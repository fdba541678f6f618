import copy
import json

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr

from linear_networks import LinearNetwork, examine, seen
from maskatlas.errors import ConfigError
from maskatlas.evaluation.randomization import (
    MASKS,
    NETWORKS,
    layers,
    randomise,
    randomization,
)
from maskatlas.explanations import explain
from maskatlas.model import AVERAGES
from networks import make_dataset, make_network

NAMES = ("Smiling", "Male", "Young")
LABELS = [[1, 0, 1], [0, 1, 0], [1, 1, float("nan")], [1, 0, 0]]


def test_randomising_nothing_leaves_every_map() -> None:
    network = make_network(NAMES, channels=4, image_size=16)
    given = examine(network, make_dataset(LABELS, NAMES), ("contribution", "mask"))
    found = randomization(given, fresh=lambda: copy.deepcopy(network))
    assert len(found.stages) == 2 * (len(layers(network)) + 1)
    for stage in found.stages:
        assert stage.correlation == pytest.approx(1, abs=1e-5)
        assert stage.magnitude.overall.mean == pytest.approx(1, abs=1e-5)
        assert stage.chance < 1


def test_the_end_of_the_cascade_is_a_network_that_has_learned_nothing() -> None:
    network = make_network(NAMES, channels=4, image_size=16)
    fresh = make_network(NAMES, channels=4, image_size=16, seed=9)
    data = make_dataset(LABELS, NAMES)
    given = examine(network, data, ("contribution",))
    stages = randomization(given, fresh=lambda: fresh).of("contribution")
    values: list[list[float]] = [[], [], []]
    for image, row in zip(seen(network, data), LABELS, strict=True):
        maps = [explain(part, image[None])[0].flatten(1) for part in (network, fresh)]
        for k in np.flatnonzero(np.array(row) == 1).tolist():
            values[k].append(spearmanr(maps[0][k], maps[1][k]).statistic)
    whole = stages[-2]
    assert whole.layer == "extractor.0.0"
    assert whole.correlation == pytest.approx(np.mean([np.mean(v) for v in values]), abs=1e-3)
    magnitude = np.mean([np.mean(np.abs(v)) for v in values])
    assert whole.magnitude.overall.mean == pytest.approx(magnitude, abs=1e-3)
    assert stages[0].layer == "subnetworks"
    assert stages[-1].layer == MASKS


def test_what_is_expected_is_the_absolute_mean_over_random_networks() -> None:
    network = make_network(NAMES, channels=4, image_size=16)
    fresh = [make_network(NAMES, channels=4, image_size=16, seed=9 + n) for n in range(NETWORKS)]
    data = make_dataset(LABELS, NAMES)
    in_turn = iter(fresh)
    given = examine(network, data, ("contribution",))
    found = randomization(given, fresh=lambda: next(in_turn))
    values: list[list[float]] = [[], [], []]
    for image, row in zip(seen(network, data), LABELS, strict=True):
        before, *after = (explain(n, image[None])[0].flatten(1) for n in (network, *fresh))
        for k in np.flatnonzero(np.array(row) == 1).tolist():
            mean = np.mean([spearmanr(before[k], maps[k]).statistic for maps in after])
            values[k].append(abs(mean))
    expected = np.mean([np.mean(v) for v in values])
    assert found.expected["contribution"].magnitude.overall.mean == pytest.approx(
        expected, abs=1e-3
    )
    written = found.to_json()
    assert written["networks"] == NETWORKS
    assert written["expected"]["contribution"]["mean"] == pytest.approx(expected, abs=1e-3)


def test_what_knows_nothing_of_the_network_stays_whatever_its_weights() -> None:
    network = make_network(NAMES, channels=4, image_size=16)
    found = randomization(examine(network, make_dataset(LABELS, NAMES), ("mask", "centre")))
    assert found.expected["centre"].magnitude.overall.mean == pytest.approx(1, abs=1e-5)
    assert found.expected["centre"].chance == pytest.approx(1, abs=1e-5)
    left = found.expected["mask"].magnitude.overall.mean
    assert left < found.of("mask")[0].magnitude.overall.mean


def test_a_map_that_is_constant_in_some_networks_is_compared_with_the_others() -> None:
    network = make_network(("Smiling",), channels=4, image_size=16)
    fresh = [make_network(("Smiling",), channels=4, image_size=16, seed=n) for n in range(NETWORKS)]
    for silent in fresh[1:3]:
        silent.subnetworks.weight.data.zero_()
    in_turn = iter(fresh)
    given = examine(network, make_dataset([[1]], ("Smiling",)), ("contribution",))
    found = randomization(given, fresh=lambda: next(in_turn)).expected["contribution"]
    (image,) = seen(network, make_dataset([[1]], ("Smiling",)))
    before, *after = (explain(n, image[None]).flatten() for n in (network, *fresh))
    left = [spearmanr(before, after[n]).statistic for n in (0, 3, 4)]
    assert found.magnitude.overall.mean == pytest.approx(abs(np.mean(left)), abs=1e-3)
    assert np.isnan(found.chance)  # of one image there is no other


def test_layers_go_from_the_heads_to_the_stem_and_leave_out_what_no_map_needs() -> None:
    network = make_network(
        NAMES, channels=4, image_size=16, depth=2, mask_rank=3, mask_context=True
    )
    found = layers(network)
    first = [names[0] for names in found]
    assert first == [
        "subnetworks.mask_weight",
        "subnetworks.guide.6.weight",
        "subnetworks.guide.3.weight",
        "subnetworks.guide.0.weight",
        "extractor.4.0.weight",
        "extractor.3.0.weight",
        "extractor.2.1.weight",
        "extractor.1.0.weight",
        "extractor.0.0.weight",
    ]
    every = [name for names in found for name in names]
    assert len(every) == len(set(every))
    idle = ("reconstructor.", "classifier.", *AVERAGES)
    assert {*every} == {n for n in network.state_dict() if not n.startswith(idle)}
    plain = layers(make_network(NAMES, channels=4, subnetworks=False))
    assert plain[0] == ["classifier.weight", "classifier.bias"]


def test_only_the_named_weights_change_and_only_in_the_copy() -> None:
    network = make_network(NAMES, channels=4, image_size=16)
    blank = make_network(NAMES, channels=4, image_size=16, seed=5)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    changed = copy.deepcopy(network)
    randomise(changed, blank, ["subnetworks.mask_bias", "extractor.0.0.weight"])
    for name, tensor in changed.state_dict().items():
        other = name in ("subnetworks.mask_bias", "extractor.0.0.weight")
        assert torch.equal(tensor, (blank.state_dict() if other else before)[name])
    random_before = torch.get_rng_state()
    randomization(examine(network, make_dataset(LABELS, NAMES), ("contribution",)))
    assert torch.equal(torch.get_rng_state(), random_before)
    for name, tensor in network.state_dict().items():
        assert torch.equal(tensor, before[name])


def test_the_masks_alone_do_not_touch_a_map_that_has_none() -> None:
    network = make_network(NAMES, channels=4, image_size=16)
    given = examine(network, make_dataset(LABELS, NAMES), ("mask", "centre"), seed=4)
    found = randomization(given)
    masks, centre = (found.of(method)[-1] for method in ("mask", "centre"))
    assert masks.layer == centre.layer == MASKS
    assert masks.magnitude.overall.mean < 0.9
    assert centre.correlation == pytest.approx(1, abs=1e-5)
    assert centre.chance == pytest.approx(1, abs=1e-5)
    again = randomization(given)
    assert again.to_json() == found.to_json()
    other = randomization(examine(network, make_dataset(LABELS, NAMES), ("mask", "centre"), seed=5))
    assert other.to_json() != found.to_json()
    json.dumps(found.to_json(), allow_nan=False)


def test_chance_is_the_map_of_the_image_before() -> None:
    network = make_network(("Smiling",), channels=4, image_size=16)
    fresh = make_network(("Smiling",), channels=4, image_size=16, seed=2)
    data = make_dataset([[1], [1]], ("Smiling",))
    given = examine(network, data, ("contribution",))
    stage = randomization(given, fresh=lambda: fresh).of("contribution")[-2]
    first, second = seen(network, data)
    maps = [explain(n, i[None]).flatten() for n, i in ((network, first), (fresh, second))]
    assert stage.chance == pytest.approx(abs(spearmanr(*maps).statistic), abs=1e-3)


def test_a_network_of_another_system_must_say_how_a_random_one_is_made() -> None:
    network = LinearNetwork(NAMES, 8)
    given = examine(network, make_dataset(LABELS, NAMES), ("exact",))
    with pytest.raises(ConfigError, match="`fresh`"):
        randomization(given)
    found = randomization(given, fresh=lambda: LinearNetwork(NAMES, 8, seed=1))
    assert [stage.layer for stage in found.stages] == ["classifier"]
    assert found.stages[0].magnitude.overall.mean < 0.9
