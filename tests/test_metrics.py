import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import (
    average_precision_score,
    balanced_accuracy_score,
    f1_score,
    roc_auc_score,
)

from maskatlas.errors import MaskatlasError
from maskatlas.metrics import (
    METRICS,
    _draws,
    attribute_metrics,
    auroc,
    mean_defined,
    paired_interval,
)
from reference import metrics as reference


def random_case(seed: int, images: int = 40, attributes: int = 5, levels: int = 6):
    random = np.random.default_rng(seed)
    scores = random.integers(-levels, levels, (images, attributes)) / 2
    labels = random.choice([0.0, 1.0, np.nan], (images, attributes), p=[0.5, 0.35, 0.15])
    return scores, labels


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000), images=st.integers(1, 30), levels=st.integers(1, 9))
def test_equals_the_slow_twin_with_ties_and_unknown_labels(seed, images, levels):
    scores, labels = random_case(seed, images, 4, levels)
    found = attribute_metrics(scores, labels)
    for name, expected in reference.attribute_metrics(scores, labels).items():
        np.testing.assert_allclose(getattr(found, name), expected, rtol=1e-12, err_msg=name)


def test_equals_scikit_learn_where_it_is_defined():
    random = np.random.default_rng(3)
    labels = (random.random((500, 3)) < [0.5, 0.1, 0.02]).astype(np.float64)
    scores = (random.normal(size=(500, 3)) + labels).astype(np.float32)
    scores[:, 1] = np.round(scores[:, 1], 1)
    found = attribute_metrics(scores, labels)
    for k in range(3):
        y, s = labels[:, k], scores[:, k]
        assert found.auroc[k] == pytest.approx(roc_auc_score(y, s), abs=1e-12)
        assert found.average_precision[k] == pytest.approx(average_precision_score(y, s), abs=1e-12)
        assert found.f1[k] == pytest.approx(f1_score(y, s > 0), abs=1e-12)
        balanced = balanced_accuracy_score(y, s > 0)
        assert found.balanced_accuracy[k] == pytest.approx(balanced, abs=1e-12)
        assert found.accuracy[k] == pytest.approx(np.mean((s > 0) == y), abs=1e-12)


def test_a_missing_class_is_undefined_and_left_out_of_the_means():
    scores = np.array([[1.0, 1.0, -1.0, 2.0], [-1.0, 2.0, -2.0, -2.0]])
    labels = np.array([[1.0, 1.0, 0.0, np.nan], [0.0, 1.0, 0.0, np.nan]])
    found = attribute_metrics(scores, labels)
    for name in ("balanced_accuracy", "f1", "average_precision", "auroc"):
        assert np.isnan(getattr(found, name)).tolist() == [False, True, True, True], name
        assert found.mean()[name] == 1.0
    assert found.accuracy[:3].tolist() == [1, 1, 1]
    assert math.isnan(found.accuracy[3])
    assert found.undefined().tolist() == [1, 2, 3]
    assert found.positives.tolist() == [1, 2, 0, 0]
    assert found.negatives.tolist() == [1, 0, 2, 0]


def test_means_without_anything_defined_are_nan_without_a_warning():
    found = attribute_metrics(np.zeros((0, 2)), np.zeros((0, 2)))
    assert all(math.isnan(value) for value in found.mean().values())
    assert set(found.mean()) == set(METRICS)


def test_rows_are_json_with_null_where_undefined():
    found = attribute_metrics(np.array([[1.0, 1.0], [-1.0, 1.0]]), np.array([[1.0, 1.0], [0, 1.0]]))
    rows = json.loads(json.dumps(found.rows(["a", "b"]), allow_nan=False))
    assert rows["a"]["auroc"] == 1.0
    assert rows["b"]["auroc"] is None
    assert rows["b"]["positives"] == 2


def test_a_score_of_zero_is_a_no():
    found = attribute_metrics(np.array([[0.0], [0.0]]), np.array([[1.0], [0.0]]))
    assert found.accuracy[0] == 0.5
    assert found.f1[0] == 0.0
    assert found.auroc[0] == 0.5


@given(seed=st.integers(0, 1000))
@settings(max_examples=20, deadline=None)
def test_ranking_figures_do_not_change_under_a_monotone_map(seed):
    scores, labels = random_case(seed)
    np.testing.assert_array_equal(auroc(scores, labels), auroc(np.exp(scores), labels))


@given(seed=st.integers(0, 1000))
@settings(max_examples=20, deadline=None)
def test_order_of_images_does_not_matter(seed):
    scores, labels = random_case(seed)
    order = np.random.default_rng(seed).permutation(len(scores))
    one, other = attribute_metrics(scores, labels), attribute_metrics(scores[order], labels[order])
    for name in METRICS:
        np.testing.assert_allclose(getattr(one, name), getattr(other, name), rtol=1e-13)


def test_infinite_scores_are_ranked():
    scores = np.array([[np.inf], [np.inf], [-np.inf], [0.5]])
    labels = np.array([[1.0], [0.0], [0.0], [1.0]])
    assert auroc(scores, labels)[0] == (0.5 + 1 + 0 + 1) / 4


def test_nan_scores_and_foreign_labels_are_refused():
    with pytest.raises(MaskatlasError, match="image 1, attribute 0"):
        attribute_metrics(np.array([[1.0], [np.nan]]), np.ones((2, 1)))
    with pytest.raises(MaskatlasError, match="found -1"):
        attribute_metrics(np.ones((2, 1)), np.array([[1.0], [-1.0]]))


def correctness(seed: int, images: int = 60, attributes: int = 3):
    random = np.random.default_rng(seed)
    a = (random.random((images, attributes)) < 0.9).astype(float)
    b = (random.random((images, attributes)) < 0.8).astype(float)
    unknown = random.random((images, attributes)) < 0.1
    a[unknown] = b[unknown] = np.nan
    return a, b, random.integers(0, 12, images)


def test_the_interval_holds_the_difference_and_shrinks_with_the_level():
    a, b, people = correctness(0)
    wide = paired_interval(a, b, people, resamples=500)
    narrow = paired_interval(a, b, people, resamples=500, level=0.5)
    assert wide.low < narrow.low < wide.difference < narrow.high < wide.high
    expected = reference.resampled_difference(a, b, people, np.unique(people))
    assert wide.difference == pytest.approx(expected, abs=1e-12)
    assert (wide.groups, wide.resamples) == (len(np.unique(people)), 500)


def test_a_draw_equals_the_slow_twin():
    a, b, people = correctness(1)
    people = np.unique(people, return_inverse=True)[1]
    count = people.max() + 1
    known = ~np.isnan(a)
    gains, sizes = np.zeros((2, count, 3))
    for image, person in enumerate(people):
        gains[person] += np.where(known[image], a[image] - b[image], 0)
        sizes[person] += known[image]
    found = _draws(gains, sizes, resamples=5, seed=9)
    random = np.random.default_rng(9)
    for value in found:
        weights = random.multinomial(count, np.full(count, 1 / count))
        drawn = np.repeat(np.arange(count), weights)
        expected = reference.resampled_difference(a, b, people, drawn)
        assert value == pytest.approx(expected, abs=1e-12)


def test_people_whose_images_agree_widen_the_interval():
    random = np.random.default_rng(5)
    a = np.repeat((random.random((20, 2)) < 0.8).astype(float), 5, axis=0)
    b = np.repeat((random.random((20, 2)) < 0.7).astype(float), 5, axis=0)
    people = np.repeat(np.arange(20), 5)
    clustered = paired_interval(a, b, people, resamples=800)
    alone = paired_interval(a, b, None, resamples=800)
    assert clustered.high - clustered.low > 1.5 * (alone.high - alone.low)
    assert (clustered.groups, alone.groups) == (20, 100)


def test_an_unknown_person_is_an_image_by_itself():
    a, b, _ = correctness(2, images=6)
    groups = np.array([7, 7, -1, -1, 3, -1])
    assert paired_interval(a, b, groups, resamples=50).groups == 5


def test_the_same_system_differs_by_nothing_and_a_seed_repeats():
    a, b, people = correctness(3)
    same = paired_interval(a, a, people, resamples=50)
    assert (same.low, same.difference, same.high) == (0, 0, 0)
    again = [paired_interval(a, b, people, resamples=50, seed=4) for _ in range(2)]
    assert again[0] == again[1]
    assert paired_interval(a, b, people, resamples=50, seed=5) != again[0]


def test_systems_scored_on_different_labels_are_refused():
    a, b, people = correctness(4)
    b[0, 0] = 1 - np.nan_to_num(b[0, 0])
    a[0, 0] = np.nan
    with pytest.raises(MaskatlasError, match="different labels"):
        paired_interval(a, b, people, resamples=10)
    with pytest.raises(MaskatlasError, match="at least one known"):
        paired_interval(np.full((2, 1), np.nan), np.full((2, 1), np.nan), resamples=10)


def test_mean_defined():
    assert mean_defined(np.array([1.0, np.nan, 3.0])) == 2.0
