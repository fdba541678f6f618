from dataclasses import fields, replace

import numpy as np
import pytest

from atlases import made_up_atlas
from maskatlas.analysis import Atlas, Examples
from maskatlas.confidence import Confidence
from maskatlas.errors import MaskatlasError
from maskatlas.published import TABLE_2


def assert_same(one: object, other: object) -> None:
    assert type(one) is type(other)
    for field in fields(one):
        a, b = getattr(one, field.name), getattr(other, field.name)
        if isinstance(a, np.ndarray):
            assert a.dtype == b.dtype, field.name
            np.testing.assert_array_equal(a, b, err_msg=field.name)
        elif isinstance(a, Examples | Confidence):
            assert_same(a, b)
        else:
            assert a == b, field.name


@pytest.mark.parametrize(
    "atlas",
    [
        made_up_atlas(),
        made_up_atlas(drop=False, examples=None),
        made_up_atlas(1, 1),
        made_up_atlas(3, 2, examples=0),
        made_up_atlas(4, 3, replicates=5),
        made_up_atlas(1, 1, replicates=5, examples=None),
    ],
    ids=["whole", "least", "one by one", "no example", "confident", "confident of one"],
)
def test_what_is_saved_is_what_is_loaded(atlas, tmp_path):
    atlas.save(tmp_path / "atlas")
    assert_same(Atlas.load(tmp_path / "atlas"), atlas)
    atlas.save(tmp_path / "atlas")  # again, over itself
    assert_same(Atlas.load(str(tmp_path / "atlas")), atlas)


def test_top_channels_follow_the_reading_that_is_asked_for():
    atlas = made_up_atlas()
    for by, values in (
        ("mask", atlas.mask_mean),
        ("contribution", atlas.contribution_magnitude),
        ("drop", atlas.importance_drop),
    ):
        for row, name in enumerate(atlas.attributes):
            expected = sorted(range(8), key=lambda c, v=values[row]: (-v[c], c))[:4]
            assert atlas.top_channels(name, 4, by=by) == tuple(expected)
    assert len(atlas.top_channels("Attribute_0", 99)) == 8


def test_a_reading_that_was_not_measured_is_refused():
    with pytest.raises(MaskatlasError, match="without `drop`"):
        made_up_atlas(drop=False).top_channels("Attribute_0", by="drop")


def test_unknown_names_and_ids_are_refused_with_the_nearest():
    atlas = made_up_atlas(["Smiling", "Eyeglasses"])
    with pytest.raises(MaskatlasError, match=r"'Smilling'.* Smiling"):
        atlas.top_channels("Smilling")
    for channel in (-1, 8):
        with pytest.raises(MaskatlasError, match="from 0 to 7"):
            atlas.correlated_channels(channel)


@pytest.mark.parametrize("centred", [False, True])
def test_the_most_correlated_are_the_others_best_first(centred):
    atlas = made_up_atlas()
    table = atlas.attribute_correlation_centred if centred else atlas.attribute_correlation
    found = atlas.correlated_attributes("Attribute_2", 3, centred=centred)
    others = sorted((k for k in range(6) if k != 2), key=lambda k: -table[2, k])[:3]
    assert found == tuple((f"Attribute_{k}", table[2, k]) for k in others)
    table = atlas.channel_correlation_centred if centred else atlas.channel_correlation
    found = atlas.correlated_channels(4, 99, centred=centred)
    assert [c for c, _ in found] == sorted(
        (c for c in range(8) if c != 4), key=lambda c: -table[4, c]
    )


def test_undefined_correlations_are_left_out():
    atlas = made_up_atlas()
    table = atlas.attribute_correlation.copy()
    table[1], table[:, 1] = np.nan, np.nan
    damaged = replace(atlas, attribute_correlation=table)
    assert damaged.correlated_attributes("Attribute_1") == ()
    assert "Attribute_1" not in dict(damaged.correlated_attributes("Attribute_0", 9))
    assert sorted(sum(damaged.groups(count=3), ())) == sorted(atlas.attributes)


def test_groups_hold_every_attribute_once_at_each_cut():
    atlas = made_up_atlas()
    for groups in (atlas.groups(), atlas.groups(count=3), atlas.groups(threshold=0.2)):
        assert sorted(sum(groups, ())) == sorted(atlas.attributes)
    assert len(atlas.groups(count=3)) == 3
    assert len(atlas.groups(threshold=-1.0)) == 1
    assert atlas.linkage().shape == (5, 4)


def test_shared_channels_are_those_of_both():
    level = np.array([[9.0, 8, 7, 0, 0, 1], [0, 8, 9, 7, 0, 1]]) / 10
    atlas = replace(made_up_atlas(2, 6, drop=False, examples=None), mask_mean=level)
    found = atlas.shared_channels("Attribute_0", "Attribute_1", n=3)
    assert (found.common, found.only_a, found.only_b) == ((1, 2), (0,), (3,))


def test_the_papers_table_2_stands_beside_ours_however_names_are_spelt():
    names = ["Black_Hair", *(name.replace(" ", "_") for name in TABLE_2["Black Hair"]), "Zebra"]
    atlas = made_up_atlas(names)
    table = np.eye(7)
    table[0] = [1, 0.9, 0.8, 0.7, 0.6, 0.1, 0.5]  # Zebra instead of the last
    row = replace(atlas, attribute_correlation=table).paper_table2()
    assert [r.attribute for r in row] == ["Black_Hair"]
    assert row[0].known == 5
    assert [name for name, _ in row[0].plain] == [*names[1:5], "Zebra"]
    assert row[0].overlap() == 4
    assert row[0].overlap(centred=True) == len({*names[1:6]} & {n for n, _ in row[0].centred})


def test_attributes_that_the_paper_does_not_know_give_no_row():
    assert made_up_atlas().paper_table2() == ()


def test_examples_shown_by_another_number_of_attributes_are_refused_in_tests():
    atlas = made_up_atlas()
    with pytest.raises(Exception, match="attribute"):
        replace(atlas, mask_mean=atlas.mask_mean[:2])


def test_ranked_channels_are_the_top_ones_with_the_intervals_of_their_rows():
    atlas = made_up_atlas(replicates=40)
    for by, kind in (("mask", "mask"), ("contribution", "contribution")):
        ranked = atlas.ranked_channels("Attribute_3", 4, by=by)
        assert tuple(one.channel for one in ranked) == atlas.top_channels("Attribute_3", 4, by=by)
        bounds = getattr(
            atlas.confidence,
            {"mask": "mask_mean", "contribution": "contribution_magnitude"}[by] + "_interval",
        )
        places = getattr(atlas.confidence, f"{kind}_rank_interval")
        for rank, one in enumerate(ranked, 1):
            assert one.value == atlas.importance(by)[3, one.channel]
            assert (one.low, one.high) == tuple(bounds[:, 3, one.channel])
            assert (one.best, one.worst) == tuple(places[:, 3, one.channel])
            assert one.low <= one.value <= one.high
            assert 1 <= one.best <= rank <= one.worst <= 8
    for unsure in (
        atlas.ranked_channels("Attribute_3", 1, by="drop"),
        made_up_atlas().ranked_channels("Attribute_3", 1),
    ):
        assert np.isnan([unsure[0].low, unsure[0].high, unsure[0].best, unsure[0].worst]).all()


def block_atlas(*groups: tuple[str, ...], halves: int = 0) -> Atlas:
    """An atlas whose attributes correlate within the groups only; halves mix two of them up."""
    names = sorted(name for group in groups for name in group)
    table = np.array([[float(any({a, b} <= {*g} for g in groups)) for b in names] for a in names])
    atlas = replace(
        made_up_atlas(names, replicates=2),
        attribute_correlation=table,
        attribute_correlation_centred=table,
    )
    order = [1, 0, *range(2, len(names))]
    mixed = table[np.ix_(order, order)]
    tables = np.stack([table] * (4 - halves) + [mixed] * halves)
    return replace(
        atlas,
        confidence=replace(
            atlas.confidence,
            attribute_correlation_halves=tables,
            attribute_correlation_centred_halves=np.stack([table] * 4),
        ),
    )


def test_groups_come_again_in_halves_as_often_as_they_do():
    atlas = block_atlas(("a", "c", "d"), ("b", "e"), ("f",), halves=1)
    found = {row.attributes: row for row in atlas.group_recurrence(3)}
    assert {frozenset(group) for group in found} == {
        frozenset("acd"),
        frozenset("be"),
        frozenset("f"),
    }
    by_group = {frozenset(group): (row.again, row.overlap) for group, row in found.items()}
    assert by_group[frozenset("f")] == (1, 1)
    assert by_group[frozenset("acd")] == (0.75, pytest.approx((3 + 2 / 4) / 4))
    assert by_group[frozenset("be")] == (0.75, pytest.approx((3 + 1 / 3) / 4))
    assert all(row.again == 1 for row in atlas.group_recurrence(3, centred=True))
    assert all(np.isnan(row.again) for row in made_up_atlas().group_recurrence())


def test_groups_of_other_seeds_are_matched_by_name():
    atlas = block_atlas(("a", "c", "d"), ("b", "e"), ("f",))
    other = block_atlas(("a", "c"), ("b", "e"), ("f", "d"))
    place = [5, 3, 1, 0, 2, 4]
    shuffled = replace(
        other,
        attributes=tuple(other.attributes[i] for i in place),
        attribute_correlation=other.attribute_correlation[np.ix_(place, place)],
    )
    found = {frozenset(r.attributes): r for r in atlas.group_recurrence_in([atlas, shuffled], 3)}
    assert found[frozenset("be")].again == 1
    assert found[frozenset("acd")].again == 0.5
    assert found[frozenset("acd")].overlap == pytest.approx((1 + 2 / 3) / 2)
    with pytest.raises(MaskatlasError, match="same attributes"):
        atlas.group_recurrence_in([made_up_atlas(6)])


def test_suspected_shortcuts_are_the_pairs_in_both_the_worst_first():
    atlas = made_up_atlas(4, 3, replicates=5)
    high = np.full((4, 4), 0.5)
    following = np.eye(4)
    following[0, 1], following[3, 2], following[0, 2] = 0.3, -0.7, 0.02
    p = np.full((4, 4), 1e-6)
    sure = replace(atlas.confidence, following=following, following_p=p, label_correlation_p=p)
    found = replace(atlas, label_correlation=high, confidence=sure).suspected_shortcuts()
    assert [(pair.first, pair.second) for pair in found] == [
        ("Attribute_2", "Attribute_3"),
        ("Attribute_0", "Attribute_1"),
    ]
    assert made_up_atlas().suspected_shortcuts() == ()
