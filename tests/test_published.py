import numpy as np
import pytest

from maskatlas.published import PRINTED_AVERAGE, TABLE_2, plain_name, published_accuracies


def test_the_two_averages_of_the_paper_are_told_apart():
    table = published_accuracies()
    assert len(table.attributes) == 40
    average = float(np.mean(table.columns["paper"]))
    assert table.average("paper") == pytest.approx(average)
    assert abs(average - PRINTED_AVERAGE) > 1
    assert f"{average:.2f}" in table.note()
    assert f"{PRINTED_AVERAGE:.2f}" in table.note()


def test_the_other_columns_average_what_is_printed():
    table = published_accuracies()
    printed = {"mt_rbm_pca": 87, "lnets_anet": 87, "facetracer": 81}
    assert {name: round(table.average(name)) for name in printed} == printed


def test_columns_are_matched_by_name_however_it_is_spelt():
    table = published_accuracies()
    found = table.column("paper", ["wearing hat", "Nonsense", "Young"])
    assert found[0] == table.column("paper", ["Wearing_Hat"])[0]
    assert np.isnan(found[1])
    assert found[2] == table.columns["paper"][table.attributes.index("Young")]


def test_every_attribute_of_table_2_stands_in_table_3():
    known = set(map(plain_name, published_accuracies().attributes))
    for name, row in TABLE_2.items():
        assert {plain_name(other) for other in (name, *row)} <= known
        assert len(set(row)) == 5
