import json

import numpy as np
import pytest
import torch

from linear_networks import LinearNetwork, examine, seen
from maskatlas.errors import ConfigError
from maskatlas.evaluation.faithfulness import MEASURES, Faithfulness, faithfulness, infidelity
from maskatlas.evaluation.perturbations import BLUR, image_seed, pixel_ranks, random_squares
from maskatlas.explanations import explain
from networks import make_dataset, make_network
from reference import faithfulness as slow

NAMES = ("Smiling", "Male", "Young")
LABELS = [[1, 0, 1], [0, 0, 0], [1, 1, np.nan], [np.nan, 1, 0]]


def compare(found: Faithfulness, network: torch.nn.Module, methods: tuple[str, ...]) -> None:
    """Every mean over pairs is that of the slow twins."""
    data = make_dataset(LABELS, NAMES, seed=1)
    size = network.config.image_size
    for method in methods:
        means: dict[str, list[list[float]]] = {name: [[], [], []] for name in MEASURES}
        for index, row in enumerate(LABELS):
            image = seen(network, data)[index]
            squares = random_squares(found.squares, (size, size), image_seed(0, index))
            for k in np.flatnonzero(np.array(row) == 1).tolist():
                values = explain(network, image[None], method, [NAMES[k]])[0, 0].double().numpy()
                score = slow.scorer(network, k)
                equals = pixel_ranks(torch.zeros(size, size), image_seed(0, index)).numpy()
                ranks = np.stack([-values, equals], axis=2)
                areas = [
                    slow.area(
                        slow.curve(score, image.numpy(), ranks, found.steps, kind, size * BLUR)
                    )
                    for kind in ("insertion", "deletion")
                ]
                errors = slow.infidelity(score, image.numpy(), values, squares)
                figures = (*areas, areas[0] - areas[1], *errors)
                for name, value in zip(MEASURES, figures, strict=True):
                    means[name][k].append(value)
        for name in MEASURES:
            measured = found.methods[method][name]
            expected = [sum(values) / len(values) for values in means[name]]
            for k, attribute in enumerate(NAMES):
                mean = measured.attributes[attribute].mean
                assert mean == pytest.approx(expected[k], abs=2e-5)
            assert measured.overall.mean == pytest.approx(sum(expected) / 3, abs=2e-5)


@pytest.mark.parametrize("context", [False, True])
def test_all_measures_are_those_of_the_slow_twins(context: bool) -> None:
    parts = {"mask_rank": 2, "mask_context": True} if context else {}
    network = make_network(NAMES, channels=3, image_size=8, **parts)
    methods = ("contribution", "random")
    given = examine(network, make_dataset(LABELS, NAMES, seed=1), methods)
    compare(faithfulness(given, steps=3, squares=5), network, methods)


def test_a_network_of_another_system_is_asked_as_a_whole() -> None:
    network = LinearNetwork(NAMES, 8)
    given = examine(network, make_dataset(LABELS, NAMES, seed=1), ("exact",))
    compare(faithfulness(given, steps=4, squares=6), network, ("exact",))


def test_the_true_effect_of_each_pixel_is_the_best_map_and_its_negative_the_worst() -> None:
    network = LinearNetwork(NAMES, 16, seed=2)
    methods = ("exact", "doubled", "zeros", "against")
    given = examine(network, make_dataset([[1, 1, 1]] * 12, NAMES, seed=2), methods)
    found = faithfulness(given)
    overall = {
        method: {name: measured.overall.mean for name, measured in measures.items()}
        for method, measures in found.methods.items()
    }
    assert overall["exact"]["infidelity"] == pytest.approx(0, abs=1e-9)
    assert overall["exact"]["relative_infidelity"] == pytest.approx(0, abs=1e-8)
    assert overall["zeros"]["relative_infidelity"] == overall["against"]["relative_infidelity"] == 1
    for better, worse in (("exact", "zeros"), ("zeros", "against")):
        assert overall[better]["deletion"] < overall[worse]["deletion"]
        assert overall[better]["insertion"] > overall[worse]["insertion"]
    assert found.methods["against"]["gain"].difference.high < 0
    assert overall["doubled"] == pytest.approx(overall["exact"], abs=1e-7)


def test_curves_begin_and_end_at_the_same_images() -> None:
    network = LinearNetwork(NAMES, 8)
    given = examine(network, make_dataset(LABELS, NAMES, seed=1), ("exact", "against"))
    found = faithfulness(given, steps=4)
    for curves in (found.insertion, found.deletion):
        np.testing.assert_allclose(curves["exact"][[0, -1]], curves["against"][[0, -1]])
    assert found.insertion["exact"][-1] == pytest.approx(found.deletion["exact"][0])
    assert found.insertion["exact"].shape == (5,)


def test_infidelity_is_that_of_captum() -> None:
    metrics = pytest.importorskip("captum.metrics")
    network = LinearNetwork(("Smiling",), 8, seed=3)
    with torch.no_grad():
        network.bias.add_(4)
    image = torch.rand((1, 3, 8, 8), dtype=torch.float64)
    values = network.explanation_methods["exact"](image, ["Smiling"]) + 0.02
    squares = torch.from_numpy(random_squares(40, (8, 8), seed=1))

    def logit(images: torch.Tensor) -> torch.Tensor:
        return network(images).scores[:, 0].square()  # no longer linear

    def perturb(images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        gone = squares[: len(images), None].expand(-1, 3, -1, -1)
        return gone.double(), torch.where(gone, image.mean((2, 3), keepdim=True), images)

    with torch.no_grad():
        spread = values.expand(-1, 3, -1, -1) / 3
        expected = metrics.infidelity(
            logit,
            perturb,
            image,
            spread,
            n_perturb_samples=40,
            max_examples_per_batch=40,
            normalize=True,
        )
        _, replaced = perturb(image.expand(40, -1, -1, -1))
        change = (logit(image) - logit(replaced)).numpy()
    promised = (squares * values[0]).sum((1, 2)).detach().numpy()
    assert infidelity(promised[None], change[None])[0] == pytest.approx(float(expected), rel=1e-9)
    assert float(expected) > 1e-6


def test_a_network_that_does_not_change_has_no_relative_infidelity() -> None:
    error, relative = infidelity(np.ones((2, 3)), np.zeros((2, 3)))
    np.testing.assert_array_equal(error, [0, 0])
    assert np.isnan(relative).all()


def test_weights_and_labels_that_are_not_positive_play_no_part() -> None:
    network = make_network(NAMES, channels=3, image_size=8)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    given = examine(network, make_dataset(LABELS, NAMES, seed=1), ("mask",))
    found = faithfulness(given, limit=2, steps=2, squares=2)
    assert found.images == 2
    measured = found.methods["mask"]["insertion"].images
    assert measured == {"Smiling": 1, "Male": 1, "Young": 1}
    for name, tensor in network.state_dict().items():
        assert torch.equal(tensor, before[name])


def test_it_fits_into_json_also_where_nobody_has_an_attribute() -> None:
    network = make_network(NAMES, channels=3, image_size=8)
    some = faithfulness(examine(network, make_dataset(LABELS, NAMES), ("mask",)), steps=2)
    found = json.loads(json.dumps(some.to_json(), allow_nan=False))
    assert list(found["methods"]["mask"]) == list(MEASURES)
    assert len(found["curves"]["mask"]["deletion"]) == 3
    none = faithfulness(examine(network, make_dataset([[0, 0, 0]], NAMES), ("mask",)), steps=2)
    found = json.loads(json.dumps(none.to_json(), allow_nan=False))
    assert found["images"] == 0
    assert found["methods"]["mask"]["insertion"]["mean"] is None


def test_an_unknown_method_is_told() -> None:
    network = make_network(NAMES, channels=3, image_size=8)
    with pytest.raises(ConfigError, match="graf-cam"):
        faithfulness(examine(network, make_dataset(LABELS, NAMES), ("graf-cam",)))
