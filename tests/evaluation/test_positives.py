import numpy as np
import torch

from linear_networks import LinearNetwork, examine
from maskatlas.evaluation.positives import Positives, Tally, restricted_subnetworks, scorer
from networks import draw_images, make_dataset, make_network

NAMES = ("Smiling", "Male", "Young")
NAN = float("nan")
LABELS = [[1, 0, 1], [0, 0, NAN], [NAN, 1, 0], [1, 1, 1], [0, 0, 0], [0, 0, 1]]


def test_images_with_an_attribute_pass_with_what_they_have() -> None:
    network = make_network(NAMES, channels=3, image_size=8)
    given = examine(network, make_dataset(LABELS, NAMES))
    passed = list(Positives(given, limit=10).passing())
    assert [positive.place for positive in passed] == [0, 2, 3, 5]
    assert [positive.rows for positive in passed] == [[0, 2], [1], [0, 1, 2], [2]]
    assert passed[2].names == list(NAMES)
    expected = given.images.batch(torch.tensor([3])).images[0] / 255
    torch.testing.assert_close(passed[2].image, expected.double(), rtol=0, atol=1e-7)
    few = Positives(given, limit=2)
    assert [positive.place for positive in few.passing()] == [0, 5]
    assert len(few) == 2


def test_pairs_are_in_the_order_in_which_they_pass_and_know_who_they_show() -> None:
    network = make_network(NAMES, channels=3, image_size=8)
    data = make_dataset(LABELS, NAMES)
    object.__setattr__(data, "identities", torch.tensor([7, 7, -1, 7, 9, 9]))
    chosen = Positives(examine(network, data), limit=10)
    pairs = chosen.pairs()
    passed = [(p.place, row) for p in chosen.passing() for row in p.rows]
    assert list(zip(pairs.images.tolist(), pairs.attributes.tolist(), strict=True)) == passed
    assert pairs.units.tolist() == [7, 7, -3, 7, 7, 7, 9]


def test_a_tally_keeps_methods_measures_and_pairs_apart() -> None:
    network = make_network(NAMES, channels=3, image_size=8)
    chosen = Positives(examine(network, make_dataset(LABELS, NAMES)), limit=10)
    tally = Tally(chosen, ("a", "b"), ("x", "y"))
    number = 0.0
    for positive in chosen.passing():
        for method in ("a", "b"):
            for name in ("x", "y"):
                number += 1
                tally.add(method, name, np.full(len(positive.rows), number))
    np.testing.assert_array_equal(tally.values("x")[:, 0], [1, 1, 5, 9, 9, 9, 13])
    np.testing.assert_array_equal(tally.values("y")[:, 1], [4, 4, 8, 12, 12, 12, 16])
    found = tally.measured()
    assert found["a"]["x"].attributes["Male"].mean == 7
    assert found["b"]["y"].attributes["Smiling"].mean == 8


def test_restricted_sub_networks_answer_as_the_whole_do() -> None:
    for parts in ({}, {"mask_rank": 2, "mask_context": True, "mask_offset": 0.5}):
        network = make_network(NAMES, channels=4, image_size=8, **parts)
        images = draw_images(70, 8)
        with torch.no_grad():
            output = network(images)
            some = restricted_subnetworks(network.subnetworks, [2, 0])(output.features)
        torch.testing.assert_close(some.logits, output.logits[:, [2, 0]])
        torch.testing.assert_close(scorer(network, [2, 0])(images), output.logits[:, [2, 0]])
        assert not scorer(network, [1])(images).requires_grad
        assert not network.training
        assert all(parameter.requires_grad for parameter in network.parameters())


def test_making_a_scorer_draws_no_random_numbers() -> None:
    network = make_network(NAMES, channels=4, image_size=8)
    before = torch.get_rng_state()
    scorer(network, [1])
    assert torch.equal(torch.get_rng_state(), before)


def test_networks_without_sub_networks_and_of_other_systems_answer_as_a_whole() -> None:
    images = draw_images(3, 8)
    for network in (
        make_network(NAMES, channels=4, image_size=8, subnetworks=False),
        LinearNetwork(NAMES, 8),
    ):
        with torch.no_grad():
            expected = network(images).scores[:, [1, 2]]
        torch.testing.assert_close(scorer(network, [1, 2])(images), expected)
