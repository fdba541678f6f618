"""Statistics in draws, against images repeated as often as they are drawn."""

import numpy as np
import pytest

from maskatlas.evaluation import draws
from maskatlas.evaluation.draws import bounds_of_mean, draw_weights, drawn_auroc, drawn_mean
from maskatlas.evaluation.specificity import drawn_scores
from reference.metrics import auroc


@pytest.fixture
def drawn() -> tuple[np.ndarray, np.ndarray, np.ndarray, list[np.ndarray]]:
    """Scores with ties, labels some of which are unknown, weights, and the images of each draw."""
    random = np.random.default_rng(1)
    scores = np.round(random.normal(size=(14, 3)), 1)
    labels = random.choice([0.0, 1.0, np.nan], 14, p=[0.5, 0.3, 0.2])
    weights = random.poisson(1, (9, 14)).astype(float)
    weights[8] = 0
    weights[7] = labels == 1
    chosen = [np.repeat(np.arange(14), weight.astype(int)) for weight in weights]
    return scores, labels, weights, chosen


def test_areas_and_means_are_those_of_repeated_images(drawn) -> None:
    scores, labels, weights, chosen = drawn
    areas, means = drawn_auroc(scores, labels, weights), drawn_mean(scores, weights)
    for draw, images in enumerate(chosen):
        truth = labels[images].tolist()
        expected = [auroc(scores[images, k].tolist(), truth) for k in range(3)]
        assert areas[draw] == pytest.approx(expected, nan_ok=True)
        mean = scores[images].mean(0) if len(images) else [np.nan] * 3
        assert means[draw] == pytest.approx(mean, nan_ok=True)
    assert np.isnan(areas[7:]).all()  # nobody, and positives alone
    assert np.isfinite(areas[:6]).all()


def test_scores_by_each_mask_are_those_of_repeated_images(drawn) -> None:
    scores, labels, weights, chosen = drawn
    found = drawn_scores(scores, labels, weights)
    for draw, images in enumerate(chosen[:6]):
        some = images[labels[images] == 1]
        assert found["logit"][draw] == pytest.approx(scores[some].mean(0))
        known = images[~np.isnan(labels[images])]
        right = (scores[known] > 0) == (labels[known, None] == 1)
        assert found["accuracy"][draw] == pytest.approx(right.mean(0))


def test_images_of_one_unit_go_together_and_a_single_one_is_not_drawn() -> None:
    weights = draw_weights(np.array([4, 4, -1, 7]), seed=2)
    assert weights.shape == (draws.DRAWS, 4)
    np.testing.assert_array_equal(weights[:, 0], weights[:, 1])
    assert (weights[:, 0] != weights[:, 3]).any()
    assert draw_weights(np.array([4, 4]), seed=2).shape == (0, 2)


def test_bounds_are_of_the_mean_of_what_is_defined() -> None:
    random = np.random.default_rng(3)
    values = np.array([1.0, np.nan, 3.0])
    sampled = random.normal(2, 1, (40, 3))
    sampled[3, 1] = np.nan
    found = bounds_of_mean(values, sampled)
    assert found.mean == 2
    away = 1.95996 * np.std(np.nanmean(sampled, axis=1), ddof=1)
    assert [found.low, found.high] == pytest.approx([2 - away, 2 + away], rel=1e-5)
    none = bounds_of_mean(values, np.empty((0, 3)))
    assert none.mean == 2
    assert np.isnan([none.low, none.high]).all()
