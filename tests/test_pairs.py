from dataclasses import replace

import numpy as np
import pytest

from atlases import made_up_atlas
from maskatlas.confidence import Confidence, confidence
from maskatlas.pairs import RATE, attribute_pairs, channel_pairs
from maskatlas.replicates import ReplicateSums
from reference.resampling import benjamini_hochberg

NAMES = ("a", "b", "c", "d")
NOTHING = np.zeros((4, 4))


@pytest.fixture(scope="module")
def sure() -> Confidence:
    return made_up_atlas(list(NAMES), 5, replicates=6).confidence


def table(**pairs: float) -> np.ndarray:
    """A symmetric table; `ab=0.3` is the pair of a and b."""
    values = np.zeros((4, 4))
    for (first, second), value in pairs.items():
        row, column = NAMES.index(first), NAMES.index(second)
        values[row, column] = values[column, row] = value
    return values


def test_why_is_labels_network_both_or_neither(sure):
    labels = table(ab=0.5, ac=-0.4, bd=0.05, cd=np.nan)
    following = np.array(
        [[1, 0.0, 0.3, 0.05], [0.05, 1, 0, 0], [0.0, -0.4, 1, 0], [0.0, 0.02, 0.0, 1]]
    )
    sure = replace(
        sure,
        label_correlation_p=table(ab=1e-6, ac=1e-6, bd=1e-6, ad=0.9, bc=0.8, cd=np.nan),
        following=following,
        following_p=np.where(np.abs(following) > 0.01, 1e-6, 0.9),
    )
    found = {
        p.first + p.second: p for p in attribute_pairs(NAMES, NOTHING, labels, sure, centred=False)
    }
    assert {name: pair.why for name, pair in found.items()} == {
        "ab": "labels",
        "ac": "both",
        "ad": "neither",  # sure, but too small
        "bc": "network",
        "bd": "neither",
        "cd": "unknown",
    }
    assert found["ac"].follower == "a"
    assert found["bc"].follower == "c"
    assert found["bc"].following.value == -0.4
    assert found["bc"].following.p == 2e-6


def test_pairs_are_ordered_by_masks_and_corrected_among_each_other(sure):
    masks = table(ab=0.1, ac=0.9, ad=np.nan, bc=-0.5, bd=0.2, cd=0.3)
    p = table(ab=0.04, ac=0.001, ad=np.nan, bc=0.03, bd=0.9, cd=0.02)
    sure = replace(sure, attribute_correlation_p=p)
    found = attribute_pairs(NAMES, masks, NOTHING, sure, centred=False)
    assert [pair.first + pair.second for pair in found] == ["ac", "cd", "bd", "ab", "bc", "ad"]
    expected = benjamini_hochberg([pair.masks.p for pair in found])
    np.testing.assert_allclose([pair.masks.q for pair in found], expected)
    for pair in found:
        place = NAMES.index(pair.first), NAMES.index(pair.second)
        assert pair.masks.low == sure.attribute_correlation_interval[0][place]
        assert pair.labels.high == sure.label_correlation_interval[1][place]
        assert pair.apart == sure.attribute_correlation_apart[place]
    assert not found[-1].masks.known


def test_without_confidence_only_the_correlations_are_known():
    masks = table(ab=0.5)
    found = attribute_pairs(NAMES, masks, 2 * masks, None, centred=True)
    assert found[0].masks.value == 0.5
    assert found[0].labels.value == 1.0
    for pair in found:
        assert pair.why == "unknown"
        unknown = [pair.masks.low, pair.masks.q, pair.apart, pair.following.value, pair.labels.p]
        assert np.isnan(unknown).all()
    assert np.isnan([pair.masks.q for pair in channel_pairs(masks, None, centred=False)]).all()


def test_channels_have_their_own_table():
    atlas = made_up_atlas(3, 4, replicates=8)
    for centred, kind in ((False, ""), (True, "_centred")):
        correlation = getattr(atlas, f"channel_correlation{kind}")
        found = atlas.channel_pairs(centred=centred)
        assert len(found) == 6
        values = [pair.masks.value for pair in found]
        assert values == sorted(values, reverse=True)
        for pair in found:
            place = pair.first, pair.second
            assert pair.masks.value == correlation[place]
            assert (pair.masks.low, pair.masks.high) == tuple(
                getattr(atlas.confidence, f"channel_correlation{kind}_interval")[:, *place]
            )
    assert made_up_atlas(1, 1, replicates=4).attribute_pairs() == ()


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("planted", ["nothing", "labels", "network", "both"])
def test_a_planted_cause_is_named_and_no_other(planted, seed):
    random = np.random.default_rng(seed)
    labels = random.integers(0, 2, (1200, 4)).astype(float)
    if planted in ("labels", "both"):
        copied = random.random(1200) < 0.7
        labels[copied, 1] = labels[copied, 0]
    scores = labels + 0.5 * random.normal(size=labels.shape)
    if planted in ("network", "both"):
        scores[:, 1] += scores[:, 0]
    contribution = np.repeat(scores[:, :, None] / 5, 5, axis=2)
    masks = random.random((1200, 4, 5))
    sums = ReplicateSums(4, 5, np.arange(1200), replicates=60, splits=0, seed=seed)
    sums.update(masks, contribution, labels, np.arange(1200))
    sure = confidence(sums, labels, np.arange(1200))
    found = attribute_pairs(NAMES, NOTHING, sums.label_correlation()[0], sure, centred=False)
    why = {pair.first + pair.second: pair.why for pair in found}
    assert why.pop("ab") == ("neither" if planted == "nothing" else planted)
    assert {*why.values()} == {"neither"}
    assert RATE == 0.05
