from dataclasses import replace

import numpy as np

from atlases import made_up_atlas
from drawing import texts
from maskatlas.figures.colours import diverging_colours
from maskatlas.figures.correlations import attribute_correlation, channel_correlation, dendrogram


def drawn_heat(figure) -> np.ndarray:
    return np.asarray(figure.axes[0].images[0].get_array())


def test_the_id_order_draws_the_table_as_it_is():
    atlas = made_up_atlas()
    found = drawn_heat(channel_correlation(atlas, clustered=False))
    np.testing.assert_array_equal(found, diverging_colours(atlas.channel_correlation, 1.0))
    found = drawn_heat(channel_correlation(atlas, clustered=False, centred=True))
    np.testing.assert_array_equal(found, diverging_colours(atlas.channel_correlation_centred, 1.0))


def test_the_clustered_order_is_written_at_the_ticks():
    atlas = made_up_atlas()
    figure = channel_correlation(atlas)
    order = [int(label.get_text()) for label in figure.axes[0].get_yticklabels()]
    assert sorted(order) == list(range(8))
    table = atlas.channel_correlation[np.ix_(order, order)]
    np.testing.assert_array_equal(drawn_heat(figure), diverging_colours(table, 1.0))


def test_attributes_are_drawn_in_the_order_that_is_given():
    atlas = made_up_atlas()
    figure = attribute_correlation(atlas, ["Attribute_4", "Attribute_1"])
    table = atlas.attribute_correlation[np.ix_([4, 1], [4, 1])]
    np.testing.assert_array_equal(drawn_heat(figure), diverging_colours(table, 1.0))
    labels = [label.get_text().split()[:2] for label in figure.axes[0].get_yticklabels()]
    assert labels == [["Attribute", "4"], ["Attribute", "1"]]


def test_branches_end_at_the_leaves_and_only_groups_are_coloured():
    table = np.full((4, 4), 0.1)
    table[:2, :2] = table[2:, 2:] = 0.8
    np.fill_diagonal(table, 1)
    atlas = replace(made_up_atlas(4), attribute_correlation=table)
    figure = dendrogram(atlas, count=2)
    (tree,) = figure.axes[0].collections
    segments = tree.get_segments()
    ends = sorted(point[1] for line in segments for point in line if point[0] == 1.0)
    assert ends == [0, 1, 2, 3]
    np.testing.assert_allclose(sorted(line[1][0] for line in segments), [0.1, 0.8, 0.8])
    colours = {tuple(colour) for colour in tree.get_colors()}
    assert len(colours) == 3  # two groups, and what joins them
    names = {t.get_text(): t.get_color() for t in texts(figure) if "Attribute" in t.get_text()}
    assert names["Attribute 0"] == names["Attribute 1"] != names["Attribute 2"]
