import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from maskatlas.importance import agreement, findings, ranks, shared, spearman, top


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000), levels=st.integers(2, 30))
def test_ranks_and_their_correlation_equal_scipy_with_ties(seed, levels):
    random = np.random.default_rng(seed)
    a, b = random.integers(0, levels, (2, 3, 12)).astype(float)
    a[:, 0], b[:, 0] = -1, -2  # never constant
    a[:, 1], b[:, 1] = 40, 41
    np.testing.assert_array_equal(ranks(a), scipy.stats.rankdata(a, axis=1))
    expected = [scipy.stats.spearmanr(x, y).statistic for x, y in zip(a, b, strict=True)]
    np.testing.assert_allclose(spearman(a, b), expected, atol=1e-12)


def test_constant_or_undefined_rows_have_no_rank_correlation_and_do_not_warn():
    a = np.array([[1.0, 2, 3], [1, 1, 1], [1, np.nan, 3], [3, 2, 1]])
    b = np.array([[1.0, 2, 9], [1, 2, 3], [1, 2, 3], [1, 2, 3]])
    np.testing.assert_array_equal(spearman(a, b), [1, np.nan, np.nan, -1])


def test_top_puts_the_lower_id_of_equals_first_and_leaves_undefined_out():
    assert top(np.array([0.1, 0.9, np.nan, 0.9, 0.5]), 3) == (1, 3, 4)
    assert top(np.array([0.1, np.nan]), 5) == (0,)
    assert top(np.full(3, np.nan), 2) == ()


def test_agreement_names_every_pair_that_was_measured():
    one = np.random.default_rng(0).random((2, 6))
    both = agreement({"mask": one, "contribution": one})
    assert list(both) == ["mask-contribution"]
    three = agreement({"mask": one, "contribution": one, "drop": -one})
    assert list(three) == ["mask-contribution", "mask-drop", "contribution-drop"]
    np.testing.assert_allclose(three["mask-drop"], -1)


def test_findings_say_which_masks_are_out_and_which_disagree():
    mask = np.array(
        [
            [0.9, 0.8, 0.7, 0.3, 0.2, 0.1],  # agrees
            [0.9, 0.8, 0.7, 0.3, 0.2, 0.1],  # against the drop
            [0.01, 0.02, 0.01, 0.005, 0.004, 0.003],  # out
        ]
    )
    drop = np.array([mask[0], mask[1][::-1], [1.0, 2, 0.9, 0.5, 0.4, 0.3]])
    found = findings(["Hat", "Smile", "Beard"], {"mask": mask, "drop": drop}, n=2)
    assert [(f.attribute, f.kind) for f in found] == [("Beard", "out"), ("Smile", "against")]
    assert found[1].value == pytest.approx(-1)
    assert "-1.00" in found[1].text
    assert "none are the same" in found[1].text
    assert all(f.text.startswith(f.attribute) for f in found)


def test_agreement_on_the_whole_can_hide_disagreement_at_the_top():
    mask = np.arange(40, dtype=float)[None] / 40
    drop = mask.copy()
    drop[0, [39, 38]] = 0.5
    found = findings(["Hat"], {"mask": mask, "drop": drop}, n=2)
    assert [f.kind for f in found] == ["apart"]
    assert findings(["Hat"], {"mask": mask, "drop": mask}, n=2) == ()


def test_an_undefined_drop_is_no_finding():
    mask = np.random.default_rng(0).random((1, 6))
    assert findings(["Hat"], {"mask": mask, "drop": np.full((1, 6), np.nan)}) == ()


@given(a=st.permutations(range(6)), b=st.permutations(range(6)), n=st.integers(0, 6))
def test_shared_channels_split_both_rankings(a, b, n):
    found = shared(a[:n], b[:n])
    assert {*found.common, *found.only_a} == {*a[:n]}
    assert {*found.common, *found.only_b} == {*b[:n]}
    assert not {*found.only_a} & {*found.only_b}
    assert [c for c in a[:n] if c in found.common] == list(found.common)
