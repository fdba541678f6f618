import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from linear_networks import LinearNetwork, examine, seen
from maskatlas.evaluation.specificity import map_correlation, mask_exchange, specificity
from maskatlas.explanations import explain
from maskatlas.metrics import mean_defined
from maskatlas.resampling import poisson_weights, resampling_units
from networks import draw_images, make_dataset, make_network
from reference import specificity as slow
from reference.metrics import auroc

NAMES = ("Smiling", "Male", "Young")


def test_correlation_of_maps_is_pearsons() -> None:
    maps = draw_images(1, (5, 6))[0]
    expected = np.corrcoef(maps.flatten(1).numpy())
    np.testing.assert_allclose(map_correlation(maps), expected)
    maps[1] = 3 - 2 * maps[0]
    maps[2] = 0.1
    found = map_correlation(maps)
    np.testing.assert_allclose(found, [[1, -1, 0], [-1, 1, 0], [0, 0, 0]], atol=1e-12)


def test_maps_are_compared_on_the_images_that_have_both() -> None:
    labels = [[1, 1, 0], [1, 1, np.nan], [0, 1, 0], [1, 0, 0]]
    network = make_network(NAMES, channels=3, image_size=8)
    data = make_dataset(labels, NAMES)
    found = specificity(examine(network, data, ("contribution", "centre")))
    table = found.similarity["contribution"]
    values = []
    for index in (0, 1):
        maps = explain(network, network.preprocess(data.read(index))[None])[0]
        values.append(np.corrcoef(maps[:2].flatten(1).double().numpy())[0, 1])
    assert table[0, 1] == table[1, 0] == pytest.approx(np.mean(values), abs=1e-6)
    assert np.isnan(table[2]).all()
    assert np.isnan(np.diag(table)).all()
    measured = found.methods["contribution"]
    assert measured.overall.mean == pytest.approx(table[0, 1])
    assert measured.overall.low == pytest.approx(min(values), abs=1e-6)
    assert measured.overall.high == pytest.approx(max(values), abs=1e-6)
    centre = found.methods["centre"]
    assert centre.overall.mean == pytest.approx(1)
    assert centre.difference.mean == pytest.approx(1 - table[0, 1])
    told = json.loads(json.dumps(found.to_json(), allow_nan=False))
    assert told["images"] == 4
    assert told["methods"]["centre"]["similarity"][0] == [None, pytest.approx(1), None]


def test_the_mean_is_over_pairs_of_attributes_and_people_are_drawn() -> None:
    labels = [[1, 1, 1], [1, 1, 0], [1, 1, 0], [0, 1, 1]]
    network = make_network(NAMES, channels=3, image_size=8)
    people = torch.tensor([5, 5, 5, 5])
    for identities in (None, people):
        data = replace(make_dataset(labels, NAMES), identities=identities)
        found = specificity(examine(network, data, ("contribution",)))
        overall = found.methods["contribution"].overall
        table = found.similarity["contribution"]
        assert overall.mean == pytest.approx(np.mean(table[np.triu_indices(3, 1)]))
        assert np.isnan(overall.low) == (identities is not None)  # one person: nobody to draw


def test_without_two_attributes_in_one_image_nothing_is_alike() -> None:
    data = make_dataset([[1, 0, 0], [0, 1, 0]], NAMES)
    network = make_network(NAMES, channels=3, image_size=8)
    found = specificity(examine(network, data, ("contribution", "mask")))
    assert np.isnan(found.similarity["mask"]).all()
    told = json.loads(json.dumps(found.to_json(), allow_nan=False))
    assert told["methods"]["mask"]["mean"] is None


def test_maps_of_a_constant_method_are_like_none() -> None:
    data = make_dataset([[1, 1, 1]] * 2, NAMES)
    found = specificity(examine(LinearNetwork(NAMES, 8), data, ("ones",)))
    assert found.methods["ones"].overall.mean == 0


@pytest.mark.parametrize("context", [False, True])
def test_exchanged_masks_do_what_really_exchanged_masks_do(context: bool) -> None:
    parts = {"mask_rank": 2, "mask_context": True} if context else {}
    network = make_network(NAMES, channels=4, image_size=8, **parts)
    data = make_dataset(14, NAMES, seed=2)
    found = mask_exchange(examine(network, data))
    labels = data.labels.numpy()
    images = seen(network, data)
    for j in range(3):
        scores = [
            [slow.exchanged_logit(network, image, j, k) for image in images] for k in range(3)
        ]
        truth = labels[:, j].tolist()
        some = np.flatnonzero(labels[:, j] == 1)
        known = np.flatnonzero(~np.isnan(labels[:, j]))
        right = [np.mean([(row[i] > 0) == (truth[i] == 1) for i in known]) for row in scores]
        for k in range(3):
            change = np.mean([scores[k][i] - scores[j][i] for i in some])
            assert found.logit[j, k] == pytest.approx(change, abs=1e-5)
            assert found.accuracy[j, k] == pytest.approx(right[k] - right[j])
            expected = auroc(scores[k], truth) - auroc(scores[j], truth)
            assert found.auroc[j, k] == pytest.approx(expected)
    off = ~np.eye(3, dtype=bool)
    assert np.abs(found.logit[off]).max() > 0.01
    assert found.mean["logit"].mean == pytest.approx(found.logit[off].mean())
    for bounds in found.mean.values():
        assert bounds.low <= bounds.mean <= bounds.high
    assert found.mean["logit"].low < found.mean["logit"].high
    json.dumps(found.to_json(), allow_nan=False)


def test_bounds_of_exchanged_masks_are_those_of_repeated_images(monkeypatch) -> None:
    monkeypatch.setattr("maskatlas.evaluation.draws.DRAWS", 6)
    network = make_network(NAMES, channels=4, image_size=8)
    data = make_dataset(14, NAMES, seed=2)
    given = examine(network, data)
    found = mask_exchange(given)
    labels, images = data.labels.numpy(), seen(network, data)
    scores = np.array(
        [
            [[slow.exchanged_logit(network, image, j, k) for image in images] for k in range(3)]
            for j in range(3)
        ]
    )
    drawn: dict[str, list[float]] = {name: [] for name in found.mean}
    for weights in poisson_weights(resampling_units(14, None), 6, given.seed).T:
        changes: dict[str, list[float]] = {name: [] for name in found.mean}
        for j, k in ((j, k) for j in range(3) for k in range(3) if j != k):
            known = np.repeat(np.arange(14), weights * ~np.isnan(labels[:, j]))
            truth = labels[known, j]
            own, other = scores[j, j, known], scores[j, k, known]
            lost = other - own
            changes["logit"].append(mean_defined(lost[truth == 1]))
            right = ((row > 0) == (truth == 1) for row in (own, other))
            changes["accuracy"].append(-np.subtract(*map(np.mean, right)))
            areas = (auroc(row.tolist(), truth.tolist()) for row in (own, other))
            changes["auroc"].append(-np.subtract(*areas))
        for name, values in changes.items():
            drawn[name].append(mean_defined(np.array(values)))
    for name, bounds in found.mean.items():
        away = 1.95996 * np.std(drawn[name], ddof=1)
        expected = bounds.mean - away, bounds.mean + away
        assert (bounds.low, bounds.high) == pytest.approx(expected, rel=1e-4, abs=1e-6), name


def test_it_does_not_matter_whose_mask_it_is_where_all_are_the_same() -> None:
    network = make_network(NAMES, channels=4, image_size=8)
    with torch.no_grad():
        network.subnetworks.mask_weight[:] = network.subnetworks.mask_weight[0].clone()
        network.subnetworks.mask_bias[:] = network.subnetworks.mask_bias[0].clone()
    found = mask_exchange(examine(network, make_dataset(9, NAMES, seed=2)))
    np.testing.assert_allclose(found.logit, 0, atol=1e-6)
    np.testing.assert_array_equal(found.auroc, 0)
