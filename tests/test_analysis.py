from dataclasses import fields, replace

import numpy as np
import pytest

from atlases import made_up_atlas
from maskatlas.analysis import Atlas, Examples
from maskatlas.errors import MaskatlasError
from maskatlas.published import TABLE_2


def assert_same(one: object, other: object) -> None:
    assert type(one) is type(other)
    for field in fields(one):
        a, b = getattr(one, field.name), getattr(other, field.name)
        if isinstance(a, np.ndarray):
            assert a.dtype == b.dtype, field.name
            np.testing.assert_array_equal(a, b, err_msg=field.name)
        elif isinstance(a, Examples):
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
    ],
    ids=["whole", "least", "one by one", "no example"],
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
