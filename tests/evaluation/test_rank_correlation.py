import numpy as np
from scipy.stats import spearmanr

from maskatlas.evaluation.rank_correlation import rank_correlation


def test_it_is_spearmans_with_ties() -> None:
    random = np.random.default_rng(0)
    a, b = random.integers(0, 5, (2, 4, 30)).astype(float)
    expected = [spearmanr(x, y).statistic for x, y in zip(a, b, strict=True)]
    np.testing.assert_allclose(rank_correlation(a, b), expected)
    np.testing.assert_allclose(rank_correlation(a, np.exp(a)), 1)
    np.testing.assert_allclose(rank_correlation(a, -a), -1)


def test_a_constant_row_has_none() -> None:
    found = rank_correlation(np.array([[1.0, 1, 1], [1, 2, 3]]), np.array([[1.0, 2, 3]] * 2))
    np.testing.assert_allclose(found, [np.nan, 1])
