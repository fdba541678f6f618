import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr

from linear_networks import examine, seen
from maskatlas.evaluation.channel_removal import (
    RANDOM,
    Removal,
    channel_faithfulness,
    completeness_error,
    drawn_areas,
)
from maskatlas.importance import spearman
from maskatlas.interventions import channel_effects, effects_of, removed_one_by_one
from maskatlas.metrics import mean_defined
from maskatlas.resampling import poisson_weights
from networks import make_dataset, make_network
from reference import channel_removal as slow
from reference.faithfulness import area
from reference.metrics import auroc

NAMES = ("Smiling", "Male", "Young")
STEPS = 2


def by_order(removals: tuple[Removal, ...]) -> dict[str, Removal]:
    return {removal.order: removal for removal in removals}


@pytest.mark.parametrize("context", [False, True])
def test_curves_and_areas_are_those_of_a_network_whose_channels_are_really_replaced(
    context: bool,
) -> None:
    parts = {"mask_rank": 2, "mask_context": True} if context else {}
    network = make_network(NAMES, channels=4, image_size=8, **parts)
    data = make_dataset(9, NAMES, seed=3)
    given = examine(network, data)
    found = by_order(channel_faithfulness(given, steps=STEPS).removals)
    labels = data.labels.numpy()
    images = seen(network, data)
    logits: dict[str, list[list[list[float]]]] = {}
    for order, values in slow.readings(network, images).items():
        logits[order] = [
            [slow.remaining(network, images, k, channels[:gone]) for gone in (0, 2, 4)]
            for k, channels in enumerate(np.argsort(-values, axis=1).tolist())
        ]
        check_curves(found[order], logits[order], labels)
    for order, part in logits.items():
        ours = found[order].logit_area.attributes
        theirs = found["mask"].logit_area.attributes
        for k, name in enumerate(NAMES):
            some = np.flatnonzero(labels[:, k] == 1)
            areas = [
                np.mean([area([step[i] for step in curves[k]]) for i in some])
                for curves in (part, logits["mask"])
            ]
            difference = ours[name].mean - theirs[name].mean
            assert difference == pytest.approx(areas[1] - areas[0], abs=1e-5)


def check_curves(found: Removal, logits: list[list[list[float]]], labels: np.ndarray) -> None:
    for step in range(STEPS + 1):
        kept, areas = [], []
        for k, curves in enumerate(logits):
            some = np.flatnonzero(labels[:, k] == 1)
            kept.append(np.mean([curves[step][i] - curves[-1][i] for i in some]))
            areas.append(auroc(curves[step], labels[:, k].tolist()))
        assert found.logit[step] == pytest.approx(np.mean(kept), abs=1e-5)
        assert found.auroc[step] == pytest.approx(np.mean(areas))


def test_all_orders_begin_and_end_alike_and_at_chance() -> None:
    network = make_network(NAMES, channels=4, image_size=8)
    result = channel_faithfulness(examine(network, make_dataset(15, NAMES, seed=5)), steps=STEPS)
    found = by_order(result.removals)
    assert list(found) == ["mask", "contribution", RANDOM]
    for removal in found.values():
        assert removal.logit[0] == pytest.approx(found[RANDOM].logit[0])
        assert removal.logit[-1] == 0
        assert removal.auroc[-1] == 0.5
    assert found[RANDOM].logit_area is None
    assert found["mask"].logit_area.difference is None
    assert found["contribution"].logit_area.difference is not None


def test_agreement_is_spearmans_with_what_is_lost() -> None:
    network = make_network(NAMES, channels=4, image_size=8)
    data = make_dataset(18, NAMES, seed=3)
    given = examine(network, data)
    result = channel_faithfulness(given, steps=STEPS)
    sample = torch.arange(18)
    effects = channel_effects(network, given.images, given.labels, sample, precision="float32")
    images = seen(network, data)
    for reading, values in slow.readings(network, images).items():
        for kind in ("logit", "auroc", "change"):
            for k in range(3):
                expected = spearmanr(values[k], getattr(effects, kind)[k]).statistic
                found = result.agreement[f"{reading}-{kind}"].attributes[k]
                assert found == pytest.approx(expected, nan_ok=True)


def test_loss_and_change_of_the_logit_are_those_of_the_slow_twin() -> None:
    network = make_network(NAMES, channels=3, image_size=8)
    data = make_dataset(11, NAMES, seed=6)
    given = examine(network, data)
    effects = channel_effects(
        network, given.images, given.labels, torch.arange(11), precision="float32"
    )
    images = seen(network, data)
    for k in range(3):
        some = np.flatnonzero(data.labels[:, k].numpy() == 1)
        whole = slow.remaining(network, images, k, [])
        for channel in range(3):
            less = slow.remaining(network, images, k, [channel])
            expected = np.mean([whole[i] - less[i] for i in some])
            assert effects.logit[k, channel] == pytest.approx(expected, abs=1e-6)
            change = np.mean([abs(one - other) for one, other in zip(whole, less, strict=True)])
            assert effects.change[k, channel] == pytest.approx(change, abs=1e-6)


def test_contributions_and_bias_add_up_to_the_logit() -> None:
    network = make_network(NAMES, channels=4, image_size=8)
    given = examine(network, make_dataset(5, NAMES))
    error = completeness_error(network, given.images, torch.arange(5))
    assert error < 1e-5
    network.contributions = lambda *_: torch.zeros(5, 1, 1, 1, 1)  # type: ignore[method-assign]
    assert completeness_error(network, given.images, torch.arange(5)) > 0.01


def test_intervals_are_those_of_images_repeated_as_often_as_they_are_drawn(monkeypatch) -> None:
    monkeypatch.setattr("maskatlas.evaluation.draws.DRAWS", 5)
    network = make_network(NAMES, channels=4, image_size=8)
    data = replace(make_dataset(18, NAMES, seed=3), identities=torch.arange(18) // 2)
    given = examine(network, data)
    result = channel_faithfulness(given, steps=STEPS)
    sample = torch.arange(18)
    scores = removed_one_by_one(network, given.images, sample, precision="float32")
    whole, *parts = scores
    by_image = [slow.readings(network, [image]) for image in seen(network, data)]
    labels = data.labels.numpy()
    agreements = {name: [] for name in result.agreement}
    for weights in poisson_weights(np.arange(18) // 2, 5, given.seed).T:
        chosen = np.repeat(np.arange(18), weights)
        effects = effects_of(whole[chosen], [part[chosen] for part in parts], labels[chosen])
        for name, drawn in agreements.items():
            reading, kind = name.split("-")
            values = np.mean([by_image[i][reading] for i in chosen], axis=0)
            drawn.append(mean_defined(spearman(values, getattr(effects, kind))))
    for name, drawn in agreements.items():
        found = result.agreement[name]
        assert found.overall.mean == pytest.approx(mean_defined(found.attributes), nan_ok=True)
        away = 1.95996 * np.nanstd(drawn, ddof=1)
        expected = found.overall.mean - away, found.overall.mean + away
        assert (found.overall.low, found.overall.high) == pytest.approx(expected, rel=1e-5), name


def test_areas_are_drawn_as_curves_are() -> None:
    random = np.random.default_rng(4)
    logits = np.round(random.normal(size=(2, 3, 12, 3)), 1)
    labels = random.choice([0.0, 1.0, np.nan], (12, 3), p=[0.5, 0.3, 0.2])
    weights = random.poisson(1, (6, 12)).astype(float)
    found = drawn_areas(logits, labels, weights)
    for draw, weight in zip(found, weights.astype(int), strict=True):
        chosen = np.repeat(np.arange(12), weight)
        for order, k in np.ndindex(2, 3):
            truth = labels[chosen, k].tolist()
            steps = [auroc(step[chosen, k].tolist(), truth) for step in logits[order]]
            assert draw[order, k] == pytest.approx(area(steps), nan_ok=True)


def test_one_person_alone_has_no_interval() -> None:
    network = make_network(NAMES, channels=4, image_size=8)
    data = replace(make_dataset(6, NAMES, seed=3), identities=torch.zeros(6, dtype=torch.int64))
    result = channel_faithfulness(examine(network, data), steps=STEPS)
    for bounds in (
        result.agreement["mask-change"].overall,
        by_order(result.removals)["mask"].auroc_area,
    ):
        assert math.isnan(bounds.low)
        assert math.isnan(bounds.high)


def test_the_network_is_left_as_it_was_and_json_is_json() -> None:
    network = make_network(NAMES, channels=4, image_size=8)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    data = make_dataset([[1, 0, np.nan], [1, 1, 0], [1, 0, 1]], NAMES)
    result = channel_faithfulness(examine(network, data), steps=STEPS)
    found = json.loads(json.dumps(result.to_json(), allow_nan=False))
    assert list(found) == ["images", "completeness_error", "removal", "agreement"]
    assert found["agreement"]["mask-auroc"]["attributes"]["Smiling"] is None
    assert not math.isnan(found["removal"]["mask"]["logit_area"]["mean"])
    assert "logit_area" not in found["removal"][RANDOM]
    for name, tensor in network.state_dict().items():
        assert torch.equal(tensor, before[name])
