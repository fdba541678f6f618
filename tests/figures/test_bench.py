import pytest

from drawing import HOSTILE, draw, misplaced
from maskatlas.figures import growth_chart

CURVES = {
    "masked_pool": [(10, 0.03), (40, 0.12), (160, 0.5), (640, 2.1)],
    "masked_loss": [(10, 0.02), (40, 0.09), (160, 0.36), (640, 1.5)],
}
AXES = {"attributes": CURVES, "images": CURVES, "positions": CURVES}


@pytest.mark.parametrize("width", [3.4, 7.0])
@pytest.mark.parametrize("axes", [AXES, {"attributes": CURVES}, {}], ids=len)
def test_growth_is_drawn_with_a_panel_for_each_axis(axes, width):
    figure = growth_chart(axes, width=width)
    assert len(figure.axes) == len(axes)
    draw(figure)
    assert misplaced(figure) == []


def test_each_curve_has_its_points_in_milliseconds_and_what_would_be_linear():
    (panel,) = growth_chart({"attributes": {"f": [(2, 0.001), (8, 0.002)]}}).axes
    linear, curve = (line.get_xydata().tolist() for line in panel.get_lines())
    assert curve == [[2, 1], [8, 2]]
    assert linear == [[2, 0.5], [8, 2]]
    assert (panel.get_xscale(), panel.get_yscale()) == ("log", "log")


def test_a_single_point_and_strange_names_can_be_drawn():
    draw(growth_chart({name: {name: [(3, 0.1)]} for name in HOSTILE[:3]}))
