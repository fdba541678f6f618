import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import silhouette_score

from maskatlas import clustering
from maskatlas.errors import MaskatlasError
from reference import clustering as reference


def random_correlation(seed: int, items: int = 8, samples: int = 12) -> np.ndarray:
    return np.corrcoef(np.random.default_rng(seed).normal(size=(items, samples)))


def blocks(*sizes: int, inside: float = 0.9) -> np.ndarray:
    """Groups that correlate by `inside` within and by 0 between, up to a little noise."""
    member = np.repeat(np.arange(len(sizes)), sizes)
    noise = np.random.default_rng(0).normal(size=(len(member),) * 2) * 1e-3
    table = np.where(member[:, None] == member, inside, 0.0) + noise + noise.T
    np.fill_diagonal(table, 1)
    return table


def as_sets(groups) -> set[frozenset[int]]:
    return {frozenset(group) for group in groups}


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), items=st.integers(2, 9), data=st.data())
def test_a_cut_by_count_equals_the_slow_twin(seed, items, data):
    table = random_correlation(seed, items)
    count = data.draw(st.integers(1, items))
    found = clustering.cut(clustering.linkage(table), table, count=count)
    assert len(found) == count
    assert as_sets(found) == reference.groups(table, count)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), threshold=st.floats(-0.5, 0.9))
def test_a_cut_by_threshold_equals_the_slow_twin(seed, threshold):
    table = random_correlation(seed)
    found = clustering.cut(clustering.linkage(table), table, threshold=threshold)
    assert as_sets(found) == reference.groups_above(table, threshold)


def test_groups_stand_in_the_order_of_the_leaves():
    table = random_correlation(3)
    merges = clustering.linkage(table)
    found = clustering.cut(merges, table, count=3)
    assert sum(found, ()) == clustering.leaf_order(merges)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_groups_do_not_depend_on_the_order_of_the_items(seed):
    table = random_correlation(seed)
    order = np.random.default_rng(seed).permutation(len(table))
    moved = table[np.ix_(order, order)]
    found = clustering.cut(clustering.linkage(moved), moved)
    back = [[int(order[item]) for item in group] for group in found]
    assert as_sets(back) == as_sets(clustering.cut(clustering.linkage(table), table))


def test_the_natural_cut_finds_what_was_planted():
    table = blocks(4, 3, 5)
    found = clustering.cut(clustering.linkage(table), table)
    assert as_sets(found) == {frozenset(range(4)), frozenset(range(4, 7)), frozenset(range(7, 12))}


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), groups=st.integers(2, 5))
def test_the_silhouette_equals_its_slow_twin_and_scikit_learn(seed, groups):
    table = random_correlation(seed)
    member = np.random.default_rng(seed).permutation(np.arange(8) % groups)
    apart = clustering.distances(table)
    found = clustering.silhouette(apart, member)
    assert found == pytest.approx(reference.silhouette(apart, member), abs=1e-12)
    assert found == pytest.approx(silhouette_score(apart, member, metric="precomputed"), abs=1e-12)


def test_items_without_a_defined_correlation_stand_alone_and_nothing_warns():
    table = blocks(3, 3)
    table[2], table[:, 2] = np.nan, np.nan
    merges = clustering.linkage(table)
    found = clustering.cut(merges, table, threshold=0.5)
    assert as_sets(found) == {frozenset({0, 1}), frozenset({2}), frozenset({3, 4, 5})}
    nothing = np.full((4, 4), np.nan)
    assert sorted(sum(clustering.cut(clustering.linkage(nothing), nothing), ())) == [0, 1, 2, 3]


@pytest.mark.parametrize("items", [1, 2])
def test_one_or_two_items_are_groups_of_their_own(items):
    table = np.eye(items)
    merges = clustering.linkage(table)
    assert as_sets(clustering.cut(merges, table)) == {frozenset({i}) for i in range(items)}
    assert sorted(clustering.leaf_order(merges)) == list(range(items))
    assert clustering.cut(merges, table, count=1) == (clustering.leaf_order(merges),)


def test_a_cut_that_cannot_be_is_refused():
    table = blocks(2, 2)
    merges = clustering.linkage(table)
    with pytest.raises(MaskatlasError, match="found both"):
        clustering.cut(merges, table, count=2, threshold=0.1)
    for count in (0, 5):
        with pytest.raises(MaskatlasError, match="from 1 to 4"):
            clustering.cut(merges, table, count=count)
