from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from atlases import made_up_atlas
from drawing import draw, misplaced, texts
from maskatlas.errors import MaskatlasError
from maskatlas.figures.overlays import aligned, best_example, top_channel_overlays

TOPS = st.lists(st.lists(st.integers(0, 12), unique=True, max_size=4), min_size=1, max_size=6)


@given(TOPS)
def test_a_channel_keeps_its_column_and_no_row_loses_one(tops):
    rows = aligned(tops)
    assert len({len(row) for row in rows}) == 1
    for top, row in zip(tops, rows, strict=True):
        assert sorted(c for c in row if c is not None) == sorted(top)
    columns = {}
    for row in rows:
        for column, channel in enumerate(row):
            if channel is not None:
                assert columns.setdefault(channel, column) == column
    assert all(any(row[column] is not None for row in rows) for column in range(len(rows[0])))


def test_rows_without_common_channels_need_no_further_column():
    assert aligned([(1, 2, 3), (4, 5, 6)]) == ((1, 2, 3), (4, 5, 6))


def test_the_best_example_has_the_attribute_if_any_has():
    examples = made_up_atlas(1, 4, examples=3).examples
    scores, labels = np.array([[0.9], [0.5], [0.6]]), np.array([[0.0], [1.0], [1.0]])
    shown = replace(examples, scores=scores, labels=labels)
    assert best_example(shown, 0) == 2
    assert best_example(replace(shown, labels=np.full((3, 1), np.nan)), 0) == 0


def test_ids_stand_below_and_common_channels_in_one_column():
    atlas = made_up_atlas(4, 8)
    channels = np.array([[0, 1, 2], [2, 3, 4], [2, 0, 5], [6, 7, 1]])
    atlas = replace(atlas, examples=replace(atlas.examples, channels=channels))
    figure = top_channel_overlays(atlas)
    columns = {}
    for text in texts(figure):
        if text.get_text().isdigit():
            place = round(text.axes.get_position().x0, 6)
            columns.setdefault(int(text.get_text()), set()).add(place)
    assert set(columns) == set(range(8))
    assert all(len(places) == 1 for places in columns.values())
    assert misplaced(figure) == []


def test_fewer_channels_and_chosen_attributes_draw_fewer_tiles():
    atlas = made_up_atlas(4, 8)
    figure = top_channel_overlays(atlas, ["Attribute_2", "Attribute_0"], n=1, example=1)
    assert len(figure.axes) == 4
    assert draw(figure)[..., 3].any()


@pytest.mark.parametrize("examples", [None, 0])
def test_an_atlas_without_examples_says_so(examples):
    with pytest.raises(MaskatlasError, match="no example images"):
        top_channel_overlays(made_up_atlas(examples=examples))
