import itertools

import numpy as np
import pytest

from maskatlas import association
from maskatlas.association import interval_p, label_p, row_p
from maskatlas.resampling import resampling_units

UPPER = np.triu_indices(5, 1)


def assert_uniform(p: np.ndarray) -> None:
    """A share of about x of the p-values is below x."""
    p = np.sort(p)
    assert len(p) >= 200
    assert abs(p - (np.arange(len(p)) + 0.5) / len(p)).max() < 1.63 / np.sqrt(len(p))
    assert np.mean(p <= 0.05) < 0.05 + 3 * np.sqrt(0.05 * 0.95 / len(p))


@pytest.fixture(autouse=True)
def _few_shuffles(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("maskatlas.association._NULL", 2000)


@pytest.mark.parametrize("centred", [False, True])
@pytest.mark.parametrize("shape", ["normal", "skewed"])
def test_rows_that_have_nothing_in_common_have_uniform_p(centred, shape):
    random = np.random.default_rng(0)
    draw = random.normal if shape == "normal" else random.standard_exponential
    shared = 5 * random.random(16) if centred else 0
    tables = [draw(size=(5, 16)) + shared for _ in range(30)]
    assert_uniform(np.concatenate([row_p(table, centred=centred)[UPPER] for table in tables]))


def test_what_all_rows_share_is_no_evidence_once_centred():
    random = np.random.default_rng(1)
    shared = 3 * random.random(30)
    table = shared + 0.3 * random.random((5, 30))
    table[1] = table[0] + 0.05 * random.random(30)
    assert row_p(table, centred=False)[UPPER].max() < 0.01
    p = row_p(table, centred=True)
    assert p[0, 1] < 0.01
    assert p[2, 3] > 0.05
    np.testing.assert_array_equal(p, p.T)
    np.testing.assert_array_equal(p, row_p(table, centred=True))


def test_p_is_that_of_all_permutations_of_two_rows():
    table = np.array([[1.0, 2.0, 3.0, 4.0, 7.0], [2.0, 1.0, 4.0, 3.0, 9.0]])
    found = row_p(table, centred=False)[0, 1]
    observed = np.corrcoef(table)[0, 1]
    every = [np.corrcoef(table[0], order)[0, 1] for order in itertools.permutations(table[1])]
    assert found == pytest.approx(np.mean(np.abs(every) >= abs(observed) - 1e-12), abs=0.02)


def test_a_constant_row_is_undefined_and_alone_has_no_pair():
    table = np.random.default_rng(2).random((4, 9))
    table[2] = 0.1
    p = row_p(table, centred=False)
    assert np.isnan(p[2]).all()
    assert np.isfinite(p[0, [1, 3]]).all()
    assert np.isnan(row_p(table[:1], centred=True)).all()
    assert np.isnan(row_p(np.full((3, 4), 0.1), centred=True)).all()
    assert row_p(table[:2], centred=True)[0, 1] == 1  # two alone are always opposite


@pytest.mark.parametrize("people", [False, True])
def test_labels_that_have_nothing_in_common_have_uniform_p(people):
    random = np.random.default_rng(3)
    found = []
    for _ in range(25):
        identities = np.repeat(np.arange(30), 4) if people else None
        # a person's images are alike, and a label is often unknown where another is
        labels = (random.random((30, 5))[:, None] > 0.4).astype(float).repeat(4, 1).reshape(120, 5)
        if not people:
            labels = (random.random((120, 5)) > 0.4).astype(float)
        labels[random.random(120) < 0.3] = np.nan
        labels[random.random((120, 5)) < 0.1] = np.nan
        found.append(label_p(labels, resampling_units(120, identities))[UPPER])
    found = np.concatenate(found)
    # a few hundred values of a discrete statistic: many share a p
    assert np.mean(found <= 0.05) < 0.05 + 3 * np.sqrt(0.05 / len(found))
    assert 0.38 < np.mean(found <= 0.5) < 0.62


def test_labels_that_go_together_are_found_and_unknown_ones_are_not():
    random = np.random.default_rng(4)
    labels = random.integers(0, 2, (80, 4)).astype(float)
    labels[:, 1] = np.where(random.random(80) < 0.8, labels[:, 0], labels[:, 1])
    labels[:, 3] = np.nan
    p = label_p(labels, np.arange(80))
    assert p[0, 1] < 1e-3
    assert np.isnan(p[3]).all()
    assert np.isnan(np.diagonal(p)).all()
    # the same image many times is no more evidence, if it is known to be the same
    twice = label_p(labels[:10].repeat(8, axis=0), np.arange(10).repeat(8))
    np.testing.assert_allclose(twice, label_p(labels[:10], np.arange(10)))


@pytest.mark.parametrize("people", [False, True])
def test_where_all_is_known_the_statistic_is_that_of_what_is_known(people):
    random = np.random.default_rng(6)
    shares = random.random((4, 30)) if people else random.integers(0, 2, (4, 30)).astype(float)
    shares[2] = 0.25  # constant: undefined
    order = random.permutation(30)
    found = association._all_known(shares)(order)
    np.testing.assert_allclose(found, association._where_known(shares)(order), atol=1e-12)
    expected = np.corrcoef(shares[0][order], shares[1])[0, 1] * np.sqrt(29)
    assert found[0, 1] == pytest.approx(expected)


def test_p_of_replicates_is_uniform_under_the_null_and_small_off_it():
    random = np.random.default_rng(5)
    observed = random.normal(size=(40, 40)) * 0.1
    replicates = observed + 0.1 * random.normal(size=(200, 40, 40))
    assert_uniform(interval_p(observed, replicates).ravel())
    assert interval_p(observed / 4 + 0.4, replicates / 4 + 0.4).max() < 1e-3
    replicates[5, 3] = np.nan  # a replicate in which it is undefined does not count
    assert np.isfinite(interval_p(observed, replicates)[3]).all()
    observed[2, 2], replicates[:, 1, 1] = np.nan, 0.25
    p = interval_p(observed, replicates)
    assert np.isnan(p[2, 2])
    assert np.isnan(p[1, 1])
