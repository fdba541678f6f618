import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from maskatlas.figures.colours import (
    diverging_colours,
    enlarge,
    grid_cells,
    grid_shape,
    mask_colours,
    outlined,
    overlay,
)


def test_colours_keep_the_order_of_the_values_and_cut_what_lies_outside():
    colours = mask_colours(np.array([-1.0, 0, 0.25, 0.5, 0.75, 1, 2]))
    light = colours @ np.array([0.299, 0.587, 0.114])
    assert (np.diff(light[1:-1]) > 0).all()
    assert (colours[0] == colours[1]).all()
    assert (colours[-1] == colours[-2]).all()
    assert colours.dtype == np.uint8


def test_undefined_is_grey():
    assert mask_colours(np.array([[np.nan]])).tolist() == [[[128, 128, 128]]]
    assert diverging_colours(np.array([np.nan]), 1.0).tolist() == [[128, 128, 128]]


def test_signed_colours_are_red_for_and_blue_against():
    against, nothing, speaks_for = diverging_colours(np.array([-2.0, 0.0, 2.0]), 2.0).astype(int)
    assert speaks_for[0] > speaks_for[2] + 50
    assert against[2] > against[0] + 50
    assert np.ptp(nothing) < 5
    assert (diverging_colours(np.array([5.0]), 2.0) == speaks_for).all()
    assert (diverging_colours(np.array([0.0]), 0.0) == nothing).all()


@given(st.integers(1, 600))
def test_every_channel_has_a_cell_and_few_are_empty(channels):
    rows, columns = grid_shape(channels)
    assert rows * columns >= channels
    assert rows * columns - channels < columns
    assert columns >= rows
    assert columns <= 3 * rows or rows == 1


def test_the_papers_grid_is_8_by_16():
    assert grid_shape(128) == (8, 16)
    assert grid_shape(32) == (4, 8)


def test_cells_stand_in_the_order_of_the_ids():
    cells = grid_cells(np.arange(5.0))
    assert cells.ravel()[:5].tolist() == [0, 1, 2, 3, 4]
    assert np.isnan(cells.ravel()[5:]).all()


def test_enlarging_is_bilinear_and_keeps_the_range():
    found = enlarge(np.array([[0.0, 1.0], [0.0, 1.0]]), 8)
    row = np.clip((np.arange(8) + 0.5) / 4 - 0.5, 0, 1)
    np.testing.assert_allclose(found, np.tile(row, (8, 1)), atol=1e-6)


def photo() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)


def test_an_empty_mask_leaves_the_image_grey_and_an_open_one_colours_it():
    image = photo()
    empty = overlay(image, np.zeros((4, 4)))
    assert (np.ptp(empty, axis=2) == 0).all()
    np.testing.assert_allclose(empty[..., 0], image @ np.array([0.299, 0.587, 0.114]), atol=0.51)
    opened = overlay(image, np.ones((4, 4))).astype(int)
    assert (np.ptp(opened, axis=2) > 60).all()


def test_a_mask_colours_only_where_it_is_open():
    values = np.zeros((4, 4))
    values[0, 0] = 1
    changed = (overlay(photo(), values) != overlay(photo(), np.zeros((4, 4)))).any(2)
    assert changed[:3, :3].all()
    assert not changed[8:, 8:].any()


def test_signed_maps_share_their_limit():
    image = np.full((16, 16, 3), 128, np.uint8)
    half = overlay(image, np.full((4, 4), 0.5), limit=1.0)
    same = overlay(image, np.full((4, 4), 1.0), limit=2.0)
    np.testing.assert_array_equal(half, same)
    against = overlay(image, np.full((4, 4), -1.0), limit=1.0).astype(int)
    assert (against[..., 2] > against[..., 0]).all()


@pytest.mark.parametrize("limit", [None, 1.0, 0.0])
def test_undefined_and_flat_maps_change_nothing(limit):
    image = photo()
    grey = overlay(image, np.zeros((4, 4)))
    np.testing.assert_array_equal(overlay(image, np.full((4, 4), np.nan), limit=limit), grey)
    np.testing.assert_array_equal(overlay(image, np.zeros((4, 4)), limit=limit), grey)


def test_a_region_is_outlined_on_both_sides_of_its_border() -> None:
    image = np.full((8, 8, 3), 77, np.uint8)
    region = np.zeros((4, 4), np.uint8)
    region[1:3, 1:3] = 1
    region[0] = 255
    drawn = outlined(image, region)
    expected = np.full((8, 8), 77)
    expected[2:6, 2:6] = 255
    expected[3:5, 3:5] = 77
    expected[1, 2:6] = expected[6, 2:6] = expected[2:6, 1] = expected[2:6, 6] = 0
    np.testing.assert_array_equal(drawn, np.stack([expected] * 3, axis=2))
    assert (image == 77).all()
    np.testing.assert_array_equal(outlined(image, 0 * region), image)
    np.testing.assert_array_equal(outlined(image, 0 * region + 1), image)
