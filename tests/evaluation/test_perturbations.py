import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from maskatlas.evaluation.perturbations import (
    BLUR,
    blurred,
    image_seed,
    mean_colour,
    pixel_ranks,
    random_squares,
)
from networks import draw_images
from reference import perturbations as slow


def test_the_blurred_image_is_that_of_the_slow_twin() -> None:
    image = draw_images(1, (11, 8), seed=3)[0]
    expected = slow.blurred(image.numpy(), 11 * BLUR)
    np.testing.assert_allclose(blurred(image).numpy(), expected, atol=1e-12)
    assert blurred(image).std() < image.std() / 2


def test_a_flat_image_is_its_own_blur_and_its_own_mean() -> None:
    image = torch.full((3, 9, 12), 0.3, dtype=torch.float64)
    torch.testing.assert_close(blurred(image), image)
    torch.testing.assert_close(mean_colour(image), image)


def test_the_mean_colour_is_that_of_the_slow_twin() -> None:
    image = draw_images(1, (5, 7), seed=4)[0]
    np.testing.assert_allclose(mean_colour(image), slow.mean_colour(image.numpy()), rtol=1e-12)


@settings(deadline=None)
@given(st.integers(0, 2**31), st.integers(0, 2**31))
def test_ranks_follow_the_values_and_are_all_there(seed: int, ties: int) -> None:
    random = np.random.default_rng(seed)
    values = random.integers(-3, 4, (2, 3, 4)) / 2
    ranks = pixel_ranks(torch.from_numpy(values), ties).numpy()
    for map_, places in zip(values.reshape(2, -1), ranks.reshape(2, -1), strict=True):
        assert sorted(places) == list(range(12))
        assert (np.diff(map_[np.argsort(places)]) <= 0).all()


def test_equals_are_in_random_order_which_is_that_of_the_seed() -> None:
    flat = torch.zeros(8, 8)
    one, other = (pixel_ranks(flat, seed).flatten() for seed in (1, 2))
    assert torch.equal(one, pixel_ranks(flat, 1).flatten())
    assert not torch.equal(one, other)
    assert not torch.equal(one, torch.arange(64))


def test_squares_are_squares_of_the_sizes_that_are_promised() -> None:
    squares = random_squares(200, (16, 24), seed=5)
    sides = []
    for square in squares:
        rows, columns = (np.flatnonzero(square.any(axis)) for axis in (1, 0))
        side = len(rows)
        assert len(columns) == side
        assert square.sum() == side**2
        assert rows[-1] - rows[0] == columns[-1] - columns[0] == side - 1
        sides.append(side)
    assert (min(sides), max(sides)) == (2, 8)
    for edge in (squares[:, 0], squares[:, -1], squares[:, :, 0], squares[:, :, -1]):
        assert edge.any()
    np.testing.assert_array_equal(squares, random_squares(200, (16, 24), seed=5))
    assert (squares != random_squares(200, (16, 24), seed=6)).any()


def test_each_image_has_a_seed_of_its_own() -> None:
    seeds = {image_seed(seed, place) for seed in range(10) for place in range(10)}
    assert len(seeds) == 100
    assert image_seed(2**63 - 1, 5) == image_seed(2**63 - 1, 5) < 2**63
